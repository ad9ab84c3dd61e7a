"""SIPaKMeD's contour files (`x,y` lines) become masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from cytoforge.core.errors import DataError
from cytoforge.core.mask import CYTOPLASM, NUCLEUS, UNKNOWN

__all__ = ["CYTOPLASM", "NUCLEUS", "UNKNOWN", "rasterise", "read_contour"]

_MAX_POINTS = 100_000
_SLACK = 2.0


def read_contour(path: Path) -> NDArray[np.float64]:
    """The points of a contour file as (P, 2): x to the right, y down, in pixels.

    Raises:
        DataError: not at least three `x,y` lines of finite numbers.
    """
    try:
        lines = path.read_text(encoding="ascii").split("\n", _MAX_POINTS)
        points = np.array([[float(part) for part in line.split(",")] for line in lines if line.strip()])
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected lines of two numbers 'x,y' ({error})") from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise DataError(f"{path}: expected at least three lines of two finite numbers 'x,y'")
    return points


def rasterise(
    cytoplasm: NDArray[np.float64] | None,
    nucleus: NDArray[np.float64] | None,
    size: tuple[int, int],
    *,
    in_photo: bool = False,
) -> NDArray[np.uint8]:
    """The mask of one crop from its contours.

    Args:
        cytoplasm: (P, 2) outer contour of the cell, or None.
        nucleus: (Q, 2) contour of the nucleus, or None.
        size: height and width of the crop.
        in_photo: coordinates belong to the photo that the crop was cut from; the crop is then taken to be
            centred on the contours' bounding box.

    Returns:
        `size`, 0 background, 1 cytoplasm, 2 nucleus.

    Raises:
        DataError: the contours do not fit into the crop.

    Example:
        >>> square = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]])
        >>> rasterise(square, np.array([[2.0, 2.0], [2.0, 2.0], [2.0, 2.0]]), (4, 4)).tolist()
        [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 1], [0, 1, 1, 1]]
    """
    contours = [points for points in (cytoplasm, nucleus) if points is not None]
    low = np.min([points.min(axis=0) for points in contours], axis=0)
    high = np.max([points.max(axis=0) for points in contours], axis=0)
    extent = np.array([size[1], size[0]], np.float64)
    if (high - low > extent + _SLACK).any():
        raise DataError(
            f"contours span {high[0] - low[0]:.0f}x{high[1] - low[1]:.0f} px but the crop has "
            f"{size[1]}x{size[0]} px: they belong to the crop before it was scaled"
        )
    inside = bool((low >= -_SLACK).all() and (high <= extent + _SLACK).all())
    shift = np.zeros(2) if inside and not in_photo else np.rint((extent - 1) / 2 - (low + high) / 2)
    mask = np.zeros(size, np.uint8)
    for points, value in ((cytoplasm, CYTOPLASM), (nucleus, NUCLEUS)):
        if points is not None:
            x, y = (points + shift).T
            mask[polygon(y, x, size)] = value
    return mask
