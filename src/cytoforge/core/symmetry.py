"""The eight symmetries of a square picture: quarter turns, and those mirrored left-right afterwards."""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

_Pixel = TypeVar("_Pixel", bound=np.generic)

SYMMETRIES: Final = (
    "as it is", "turned 90°", "turned 180°", "turned 270°",
    "mirrored", "turned 90° and mirrored", "turned 180° and mirrored", "turned 270° and mirrored",
)  # fmt: skip
"""Their names, in the order of `turn`."""


def turn(images: NDArray[_Pixel], symmetry: int) -> NDArray[_Pixel]:
    """Pictures under one of the eight symmetries.

    Args:
        images: (N, S, S, ...), square.
        symmetry: index in `SYMMETRIES`.

    Returns:
        The same shape; a view of the same memory.

    Example:
        >>> turn(np.array([[[1, 2], [3, 4]]]), SYMMETRIES.index("mirrored")).tolist()
        [[[2, 1], [4, 3]]]
    """
    turned = np.rot90(images, symmetry % 4, axes=(1, 2))
    return turned[:, :, ::-1] if symmetry >= 4 else turned


def symmetries(images: NDArray[_Pixel]) -> NDArray[_Pixel]:
    """All eight symmetries of each picture.

    Args:
        images: (N, S, S, ...), square.

    Returns:
        (N, 8, S, S, ...), in the order of `SYMMETRIES`.

    Example:
        >>> symmetries(np.arange(4).reshape(1, 2, 2))[0, :, 0, 0].tolist()
        [0, 1, 3, 2, 1, 3, 2, 0]
    """
    return np.stack([turn(images, symmetry) for symmetry in range(len(SYMMETRIES))], axis=1)
