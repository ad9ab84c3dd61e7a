"""PNG files that say what they show, and can tell whether their pixels were changed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from cytoforge.core.errors import DataError
from cytoforge.core.files import sha256_bytes

PIXELS = "Pixels-SHA256"
"""Keyword of the text that holds the hash of the pixels."""

MOST_PIXELS = 64 * 1024 * 1024
"""No picture of ours is larger; what claims to be is not decoded."""


def encode_png(image: NDArray[np.uint8], marks: Mapping[str, str]) -> bytes:
    """A PNG file with `marks` and the hash of its pixels as text.

    Args:
        image: (H, W, 3), or a mask (H, W).
        marks: keyword -> text, unicode allowed.

    Example:
        >>> image = np.zeros((2, 2, 3), np.uint8)
        >>> decode_png(encode_png(image, {"Class": "a < b"}))[1]["Class"]
        'a < b'
    """
    text = PngImagePlugin.PngInfo()
    for keyword, value in {**marks, PIXELS: pixel_hash(image)}.items():
        text.add_text(keyword, value)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def decode_png(content: bytes, mode: Literal["RGB", "L"] = "RGB") -> tuple[NDArray[np.uint8], dict[str, str]]:
    """Pixels and text of a PNG file: (H, W, 3), or (H, W) of a mask, whose mode is "L".

    Raises:
        DataError: it is no PNG of that mode, is damaged, or is larger than any picture of ours.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.width * picture.height > MOST_PIXELS or picture.mode != mode:
                raise DataError(f"it is a {picture.width}x{picture.height} {picture.mode} picture")
            picture.load()
            text = {str(key): str(value) for key, value in picture.info.items() if isinstance(value, str)}
            return np.asarray(picture), text
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise DataError(f"it cannot be decoded: {error}") from error


def pixel_hash(image: NDArray[np.uint8]) -> str:
    """SHA-256 of shape and pixels, independent of how the file is compressed."""
    return sha256_bytes(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
