"""The nuclei of a whole photo, one by one, and square windows around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytoforge.core.mask import NUCLEUS
from cytoforge.masks.unsupervised import unsupervised_mask

LARGEST_SIDE = 1024
"""Larger photos are searched at this size."""

_SMALLEST = 0.3
_FEWEST_PIXELS = 12
_SECOND_LOOK = 1.7


@dataclass(frozen=True)
class Nucleus:
    """One nucleus in a photo.

    Attributes:
        row: of its centre, in pixels from the top.
        column: from the left.
        area: in pixels.
    """

    row: float
    column: float
    area: float


@dataclass(frozen=True)
class Window:
    """A square part of a photo: its upper left corner and its side, in pixels."""

    left: int
    top: int
    side: int

    def cut(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part (side, side, 3) of a photo (H, W, 3)."""
        return photo[self.top : self.top + self.side, self.left : self.left + self.side]


def find_nuclei(photo: NDArray[np.uint8]) -> list[Nucleus]:
    """The nuclei that the search without annotation finds in a photo, from top to bottom.

    Regions far smaller than most are left out: dust, and pieces of nuclei. Each region is then looked at
    alone, for the search of a whole photo takes a small cell on an empty ground for a nucleus.

    Args:
        photo: (H, W, 3).
    """
    height, width = photo.shape[:2]
    factor = min(1.0, LARGEST_SIDE / max(height, width))
    small = photo
    if factor < 1:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        small = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BOX))
    labels, count = ndimage.label(unsupervised_mask(small, single=False) == NUCLEUS)
    if not count:
        return []
    areas = np.bincount(labels.ravel())[1:]
    centres = ndimage.center_of_mass(labels > 0, labels, range(1, count + 1))
    least = max(_FEWEST_PIXELS, _SMALLEST * float(np.median(areas)))
    found = [
        _again(photo, Nucleus((row + 0.5) / factor, (column + 0.5) / factor, float(area) / factor**2))
        for (row, column), area in zip(centres, areas, strict=True)
        if area >= least
    ]
    return sorted(found, key=lambda each: (each.row, each.column))


def _again(photo: NDArray[np.uint8], nucleus: Nucleus) -> Nucleus:
    """The nucleus inside a region, found as in a picture of one cell; else the region itself."""
    place = window(nucleus, _SECOND_LOOK, photo.shape)
    labels, count = ndimage.label(unsupervised_mask(place.cut(photo)) == NUCLEUS)
    if not count:
        return nucleus
    areas = np.bincount(labels.ravel())[1:]
    if areas.max() < _FEWEST_PIXELS:
        return nucleus
    row, column = ndimage.center_of_mass(labels == 1 + int(areas.argmax()))
    return Nucleus(place.top + row + 0.5, place.left + column + 0.5, float(areas.max()))


def window(nucleus: Nucleus, framing: float, shape: tuple[int, ...]) -> Window:
    """The square around a nucleus, moved where it would leave the photo.

    Args:
        nucleus: in the photo.
        framing: side over the square root of the nucleus's area.
        shape: (H, W, ...) of the photo.

    Example:
        >>> window(Nucleus(20, 5, 16.0), 4.0, (100, 80))
        Window(left=0, top=12, side=16)
    """
    side = max(8, min(round(framing * np.sqrt(nucleus.area)), *shape[:2]))
    left = min(max(0, round(nucleus.column - side / 2)), shape[1] - side)
    top = min(max(0, round(nucleus.row - side / 2)), shape[0] - side)
    return Window(left, top, side)
