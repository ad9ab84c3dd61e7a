"""Image files become uint8 arrays, or an error that says why not."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cytoforge.core.errors import DataError

FORMATS = ("BMP", "PNG", "JPEG", "TIFF", "WEBP")
EXTENSIONS = frozenset({".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 40_000_000
MAX_BYTES = 400_000_000
MIN_SIDE = 8
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_PLAIN = ("1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV", "RGBX")


def decode(path: Path) -> NDArray[np.uint8]:
    """The picture in an image file: (H, W, 3) uint8, upright, transparent parts on white.

    Raises:
        DataError: the file is missing, damaged, animated, too large, too small or of an unknown kind.
    """
    with quiet_decoders():
        return decode_bytes(read_bytes(path), path)[0]


def read_bytes(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        DataError: the file is missing, empty, larger than `MAX_BYTES` or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"{path}: the file is empty (0 bytes); copy it again from its source")
        if size > MAX_BYTES:
            raise DataError(
                f"{path}: {size / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f} MB; crop or shrink it"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def decode_bytes(content: bytes, path: Path) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The picture in the content of an image file, and what had to be converted.

    Call it inside `quiet_decoders`. `path` is only named in errors.

    Returns:
        (H, W, 3) uint8, and a note for each conversion.

    Raises:
        DataError: as for `decode`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _refuse_unsuitable(image)
            raw_mode = str(image.tile[0].args) if image.tile else ""
            image.load()
            notes = _notes(image, raw_mode)
            return _to_rgb(ImageOps.exif_transpose(image)), notes
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        huge = isinstance(error, Image.DecompressionBombError)
        reason = "far too many pixels" if huge else f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
        raise DataError(f"{path}: {reason}") from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise DataError(f"{path}: damaged or cut off ({error}); copy it again from its source") from error


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of the upright picture, from the file's header alone.

    Raises:
        DataError: the file is missing or is not an image.
    """
    try:
        with quiet_decoders(), Image.open(path, formats=FORMATS) as image:
            sideways = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            sideways &= image.format != "TIFF"  # Pillow has turned the size of these
            width, height = image.size
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise DataError(f"{path}: not a readable image ({error})") from error
    return (width, height) if sideways else (height, width)


class _Quiet:
    """Counts who is decoding: the first one in silences warnings, the last one out restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._context = warnings.catch_warnings()

    def enter(self) -> None:
        with self._lock:
            if self._depth == 0:
                self._context = warnings.catch_warnings()
                self._context.__enter__()
                warnings.simplefilter("ignore")
            self._depth += 1

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._context.__exit__(None, None, None)


_quiet = _Quiet()


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep Pillow's warnings off the screen: whatever matters in them becomes an error or a note."""
    _quiet.enter()
    try:
        yield
    finally:
        _quiet.leave()


def _refuse_unsuitable(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{width}x{height} px is more than {MAX_PIXELS / 1e6:.0f} megapixels (a decompression bomb, or a "
            "whole slide); crop single cells first"
        )
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{width}x{height} px: a cell needs at least {MIN_SIDE} px on each side")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DataError(
            f"animated or with several pages ({frames}); save the one that counts as its own file"
        )
    if image.mode in ("I", "F"):
        raise DataError(
            "32 bits per channel: the range of its values is not known; save it with 8 or 16 bits"
        )


def _notes(image: Image.Image, raw_mode: str) -> tuple[str, ...]:
    """What had to be converted. Pillow opens 16-bit RGB as 8-bit without a word: only `raw_mode` tells."""
    notes = []
    if image.mode == "CMYK":
        notes.append("CMYK (print colours): converted to RGB, colours are approximate")
    if image.mode in _SIXTEEN_BITS or ";16" in raw_mode:
        notes.append("16 bits per channel: reduced to 8")
    if image.mode == "P":
        notes.append("palette image: at most 256 colours, converted to RGB")
    if image.has_transparency_data:
        notes.append("alpha channel: transparent parts laid on white")
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in range(2, 9):
        notes.append(f"EXIF orientation {orientation}: turned upright")
    return tuple(notes)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _SIXTEEN_BITS:
        levels = np.asarray(image).astype(np.float32) / 257
        return np.repeat(np.rint(levels).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    elif image.mode not in _PLAIN:
        raise DataError(f"pixels of the kind {image.mode!r} are not supported; save it as 8-bit RGB")
    return np.array(image.convert("RGB"))
