"""Regions of a picture that may be a nucleus, and how much each looks like one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

_EDGE_WEIGHT, _SOLID_WEIGHT, _DARK_WEIGHT = 2.0, 4.0, 15.0
_SIZE_WEIGHT, _MIDDLE_WEIGHT, _CUT_WEIGHT = 0.5, 30.0, 10.0
_FEWEST_PIXELS = 9


@dataclass(frozen=True)
class Region:
    """One connected region.

    Attributes:
        place: where its bounding box lies.
        inside: (h, w) its pixels in that box.
        area: number of pixels.
        darkness: mean of 1 - grey inside, 0 to 1.
        edge: mean slope of grey along the outline, grey levels (0 to 1) for one pixel at the working scale.
        solidity: area over that of the convex hull, at most 1.
        away: squared distance of its centre from the image's middle, in sides.
        cut: pixels on the image's border over those of the outline.
    """

    place: tuple[slice, slice]
    inside: NDArray[np.bool_]
    area: int
    darkness: float
    edge: float
    solidity: float
    away: float
    cut: float

    def score(self, in_the_middle: bool) -> float:
        """How much it looks like a nucleus: dark, sharply bounded, convex; and whole and in the middle."""
        likeness = (
            _EDGE_WEIGHT * np.log(max(self.edge, 1e-4))
            + _SOLID_WEIGHT * np.log(self.solidity)
            + _DARK_WEIGHT * self.darkness
        )
        if not in_the_middle:
            return float(likeness)
        where = _MIDDLE_WEIGHT * self.away + _CUT_WEIGHT * self.cut
        return float(likeness + _SIZE_WEIGHT * np.log(self.area) - where)

    def resembles(self, other: Region) -> bool:
        """Whether it could be the second nucleus of a cell whose first is `other`."""
        return (
            0.5 <= self.area / other.area <= 2
            and self.darkness > other.darkness - 0.07
            and self.edge > 0.7 * other.edge
            and self.solidity > 0.88
            and self.away < 0.04
            and self.cut == 0
        )

    def overlaps(self, other: Region) -> bool:
        """Whether the two share a pixel."""
        shared = tuple(
            slice(max(own.start, its.start), min(own.stop, its.stop))
            for own, its in zip(self.place, other.place, strict=True)
        )
        if any(part.start >= part.stop for part in shared):
            return False
        return bool((self._within(shared) & other._within(shared)).any())

    def _within(self, box: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Its pixels in a part of its own box."""
        own = tuple(
            slice(part.start - corner.start, part.stop - corner.start)
            for part, corner in zip(box, self.place, strict=True)
        )
        return self.inside[own]


def regions(
    binary: NDArray[np.bool_], grey: NDArray[np.float64], slope: NDArray[np.float64], most: int
) -> Iterator[Region]:
    """The connected regions of a binary picture.

    Args:
        binary: (H, W).
        grey: (H, W) in 0..1.
        slope: (H, W) absolute gradient of grey.
        most: pixels of the largest region that is wanted.
    """
    labels, _ = ndimage.label(binary)
    areas = np.bincount(labels.ravel())
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if _FEWEST_PIXELS <= areas[number] <= most:
            yield _measure(labels[place] == number, place, grey, slope)


def _measure(
    inside: NDArray[np.bool_],
    place: tuple[slice, slice],
    grey: NDArray[np.float64],
    slope: NDArray[np.float64],
) -> Region:
    area = int(inside.sum())
    outline = inside & ~ndimage.binary_erosion(np.pad(inside, 1))[1:-1, 1:-1]
    rows, columns = np.nonzero(inside)
    down, across = rows + place[0].start, columns + place[1].start
    height, width = grey.shape
    on_border = (down == 0) | (down == height - 1) | (across == 0) | (across == width - 1)
    centre = (down.mean() + 0.5) / height - 0.5, (across.mean() + 0.5) / width - 0.5
    return Region(
        place=place,
        inside=inside,
        area=area,
        darkness=float(1 - grey[place][inside].mean()),
        edge=float(slope[place][outline].mean()),
        solidity=min(1.0, area / _hull_area(outline)),
        away=float(centre[0] ** 2 + centre[1] ** 2),
        cut=float(on_border.sum() / outline.sum()),
    )


def _hull_area(outline: NDArray[np.bool_]) -> float:
    """Area of the convex hull of pixels as squares; for pixels on one line, their number."""
    rows, columns = np.nonzero(outline)
    corners = np.array([(down, across) for down in (-0.5, 0.5) for across in (-0.5, 0.5)])
    points = (np.stack([rows, columns], axis=1)[:, None] + corners).reshape(-1, 2)
    try:
        return float(ConvexHull(points).volume)
    except QhullError:
        return float(outline.sum())
