"""Pictures of any size become squares of one size; camera noise can be taken out first."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from skimage.restoration import denoise_nl_means

from cytoforge.core.record import Record


class Preparation(Record):
    """How a picture becomes network input.

    Attributes:
        resolution: side of the square result, in pixels.
        fit: "crop" keeps the middle square, "pad" adds a border of the picture's own edge colour, "stretch"
            changes the aspect ratio.
        denoise: strength of the noise reduction before resizing; 0 leaves the picture as it is, 0.5 takes
            noise and keeps the texture of nuclei.
    """

    resolution: int = Field(64, ge=8, le=1024, description="side of the square images, in pixels")
    fit: Literal["pad", "crop", "stretch"] = Field("crop", description="how a picture becomes square")
    denoise: float = Field(0.0, ge=0.0, le=2.0, description="strength of the noise reduction")


def prepare(image: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
    """The picture as network input: (H, W, 3) uint8 becomes (R, R, 3) uint8, antialiased bicubic."""
    cleaned = denoise(image, preparation.denoise)
    edge = _edge_colour(cleaned) if preparation.fit == "pad" else np.zeros((), np.uint8)
    return _resize(_fit(cleaned, preparation.fit, edge), preparation, Image.Resampling.BICUBIC)


def prepare_mask(mask: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
    """The mask that belongs to a prepared picture: (H, W) uint8 becomes (R, R) uint8, nearest value."""
    background = np.zeros((), np.uint8)
    return _resize(_fit(mask, preparation.fit, background), preparation, Image.Resampling.NEAREST)


def denoise(image: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    """The picture (H, W, 3) with less camera noise; the same picture where `strength` is 0.

    Non-local means averages patches that differ by less than `strength` times the noise measured in the
    picture itself: a picture without noise stays as it is. 0.5 takes the noise and leaves the texture of
    nuclei (`benchmarks/denoising.py` measures it); above 0.6 texture goes too.

    Reference:
        Buades, Coll and Morel, A non-local algorithm for image denoising, CVPR 2005.
    """
    sigma = noise_level(image) / 255 if strength else 0.0
    if sigma == 0:
        return image
    cleaned = denoise_nl_means(
        image.astype(np.float32) / 255,
        patch_size=3,
        patch_distance=5,
        h=strength * sigma,
        sigma=sigma,
        channel_axis=-1,
    )
    levels: NDArray[np.uint8] = np.rint(np.clip(cleaned, 0, 1) * 255).astype(np.uint8)
    return levels


def noise_level(image: NDArray[np.uint8]) -> float:
    """Standard deviation of the camera noise in a picture (H, W, 3), in grey levels of one channel.

    The mask of Immerkaer does not see edges and gradients; the median does not see what it leaves of them.

    Reference:
        Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding 64, 1996.

    Example:
        >>> noise_level(np.full((8, 8, 3), 7, np.uint8))
        0.0
    """
    x = image.astype(np.float32)
    across = x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]
    response = (across[:-2] - 2 * across[1:-1] + across[2:]) / 6
    return float(np.median(np.abs(response), axis=(0, 1)).mean() / 0.6745)


def _resize(
    picture: NDArray[np.uint8], preparation: Preparation, filter_: Image.Resampling
) -> NDArray[np.uint8]:
    side = preparation.resolution
    return np.asarray(Image.fromarray(picture).resize((side, side), filter_))


def _fit(picture: NDArray[np.uint8], fit: str, edge: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture (H, W, ...) as a square: middle part, with a border of colour `edge`, or as it is."""
    height, width = picture.shape[:2]
    if fit == "stretch" or height == width:
        return picture
    side = min(height, width) if fit == "crop" else max(height, width)
    top, left = abs(height - side) // 2, abs(width - side) // 2
    if fit == "crop":
        return picture[top : top + side, left : left + side]
    square = np.empty((side, side, *picture.shape[2:]), np.uint8)
    square[:] = edge
    square[top : top + height, left : left + width] = picture
    return square


def _edge_colour(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The median colour (3,) of the outermost pixels: background, in most pictures of a cell."""
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    colour: NDArray[np.uint8] = np.median(rim, axis=0).astype(np.uint8)
    return colour
