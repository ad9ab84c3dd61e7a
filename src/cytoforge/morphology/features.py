"""The 26 measurements of a region, and those of a cell.

Eight of form and, for each of red, green and blue, six of intensity and texture. Lengths and areas are in
pixels, intensities in grey levels, 0 to 255.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from cytoforge.core.errors import DataError
from cytoforge.core.mask import CYTOPLASM, NUCLEUS

SHAPE = (
    "area",
    "major_axis_length",
    "minor_axis_length",
    "eccentricity",
    "orientation",
    "equivalent_diameter",
    "solidity",
    "extent",
)
STATISTICS = ("mean", "contrast", "smoothness", "third_moment", "uniformity", "entropy")
CHANNELS = ("red", "green", "blue")
FEATURES = (*SHAPE, *(f"{channel}_{name}" for channel in CHANNELS for name in STATISTICS))
"""Names of the 26 measurements."""

REGIONS: Mapping[str, int] = {"nucleus": NUCLEUS, "cytoplasm": CYTOPLASM}
_LEVELS = 256


def measure_cell(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> dict[str, float]:
    """All measurements of a cell, by name.

    Args:
        image: (H, W, 3).
        mask: (H, W): 0 background, 1 cytoplasm, 2 nucleus, 3 unknown.

    Returns:
        `nucleus_<name>` and `cytoplasm_<name>` for each name in `FEATURES` where there is that region, and
        `nc_ratio` where there are both.

    Raises:
        DataError: picture and mask differ in size.

    Example:
        >>> mask = np.array([[0, 1, 1], [0, 1, 2]], np.uint8)
        >>> cell = measure_cell(np.zeros((2, 3, 3), np.uint8), mask)
        >>> cell["nucleus_area"], cell["cytoplasm_area"], cell["nc_ratio"], len(cell)
        (1.0, 3.0, 0.25, 53)
    """
    if image.shape[:2] != mask.shape:
        raise DataError(f"the picture has {image.shape[:2]} px but its mask has {mask.shape}.")
    found = {}
    for region, value in REGIONS.items():
        inside = mask == value
        if inside.any():
            values = measure(image, inside)
            found.update({f"{region}_{name}": value for name, value in values.items()})
    if len(found) == len(REGIONS) * len(FEATURES):
        found["nc_ratio"] = nc_ratio(mask)
    return found


def nc_ratio(mask: NDArray[np.uint8]) -> float:
    """Area of the nucleus over that of the whole cell, nucleus and cytoplasm: 0 to 1.

    That is `K/C` of Herlev's published table. Others divide by the cytoplasm alone.

    Raises:
        DataError: there is no cell in the mask (H, W).
    """
    nucleus = int(np.count_nonzero(mask == NUCLEUS))
    whole = nucleus + int(np.count_nonzero(mask == CYTOPLASM))
    if not whole:
        raise DataError("the mask holds neither nucleus nor cytoplasm.")
    return nucleus / whole


def measure(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> dict[str, float]:
    """The 26 measurements of one region.

    Args:
        image: (H, W, 3).
        inside: (H, W), at least one pixel.

    Returns:
        A number for each name in `FEATURES`.

    Raises:
        DataError: the region is empty.
    """
    found = shape(inside)
    for index, channel in enumerate(CHANNELS):
        values = statistics(image[..., index][inside])
        found.update({f"{channel}_{name}": value for name, value in values.items()})
    return found


def shape(inside: NDArray[np.bool_]) -> dict[str, float]:
    """Form of a region (H, W).

    Axes, eccentricity and orientation are those of the ellipse with the same second moments, pixels being
    squares of side 1; orientation is the angle of its long axis to the horizontal, -pi/2 to pi/2,
    counter-clockwise. Solidity is the area over
    that of the convex hull, extent over that of the bounding box.

    Raises:
        DataError: the region is empty.

    Example:
        >>> square = np.zeros((6, 6), bool)
        >>> square[1:5, 1:5] = True
        >>> form = shape(square)
        >>> form["area"], form["solidity"], form["extent"], form["eccentricity"]
        (16.0, 1.0, 1.0, 0.0)
        >>> round(form["major_axis_length"], 4)  # 4 sqrt(variance + 1/12), variance 1.25
        4.6188
    """
    down, across = np.nonzero(inside)
    if not len(down):
        raise DataError("an empty region has no measurements.")
    area = float(len(down))
    across_variance, down_variance = float(across.var()) + 1 / 12, float(down.var()) + 1 / 12
    covariance = -float(((across - across.mean()) * (down - down.mean())).mean())  # y points up
    difference = float(np.hypot(across_variance - down_variance, 2 * covariance))
    large = (across_variance + down_variance + difference) / 2
    small = max((across_variance + down_variance - difference) / 2, 0.0)
    box = (down.max() - down.min() + 1) * (across.max() - across.min() + 1)
    return {
        "area": area,
        "major_axis_length": 4 * float(np.sqrt(large)),
        "minor_axis_length": 4 * float(np.sqrt(small)),
        "eccentricity": float(np.sqrt(1 - small / large)),
        "orientation": 0.5 * float(np.arctan2(2 * covariance, across_variance - down_variance)),
        "equivalent_diameter": float(np.sqrt(4 * area / np.pi)),
        "solidity": min(1.0, area / _hull_area(down, across)),
        "extent": area / float(box),
    }


def statistics(levels: NDArray[np.uint8]) -> dict[str, float]:
    """Intensity and texture of grey levels, from their histogram p.

        mean         m = sum i p_i
        contrast     s = sqrt(sum (i - m)^2 p_i)
        smoothness   1 - 1 / (1 + (s / 255)^2)
        third_moment sum (i - m)^3 p_i / 255^2
        uniformity   sum p_i^2
        entropy      -sum p_i log2 p_i

    Args:
        levels: (P,) at least one.

    Example:
        >>> found = statistics(np.array([0, 0, 255, 255], np.uint8))
        >>> found["mean"], found["contrast"], found["smoothness"], found["third_moment"]
        (127.5, 127.5, 0.19999999999999996, 0.0)
        >>> found["uniformity"], found["entropy"]
        (0.5, 1.0)

    Reference:
        Gonzalez and Woods, Digital image processing, section on statistical approaches to texture.
    """
    share = np.bincount(levels, minlength=_LEVELS) / len(levels)
    level = np.arange(_LEVELS)
    mean = float(level @ share)
    variance = float((level - mean) ** 2 @ share)
    present = share[share > 0]
    return {
        "mean": mean,
        "contrast": float(np.sqrt(variance)),
        "smoothness": 1 - 1 / (1 + variance / (_LEVELS - 1) ** 2),
        "third_moment": float((level - mean) ** 3 @ share) / (_LEVELS - 1) ** 2,
        "uniformity": float(share @ share),
        "entropy": abs(float(present @ np.log2(present))),
    }


def _hull_area(down: NDArray[np.int64], across: NDArray[np.int64]) -> float:
    """Area of the convex hull of pixels, each a square of side 1."""
    corners = np.array([(row, column) for row in (-0.5, 0.5) for column in (-0.5, 0.5)])
    order = np.lexsort((across, down))
    first = np.unique(down[order], return_index=True)[1]
    last = np.append(first[1:], len(down)) - 1
    ends = order[np.concatenate([first, last])]
    points = np.stack([down[ends], across[ends]], axis=1)[:, None] + corners
    return float(ConvexHull(points.reshape(-1, 2)).volume)
