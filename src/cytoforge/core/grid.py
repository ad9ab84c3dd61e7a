"""Pictures side by side: the one way in which cytoforge tiles images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PAPER = 255
"""Grey level between and after the images."""


def grid(images: NDArray[np.uint8], columns: int, gap: int = 0) -> NDArray[np.uint8]:
    """Images in reading order, `columns` to a row; what is left of the last row stays white.

    Args:
        images: (N, H, W, 3), N at least 1.
        columns: images to a row, at least 1.
        gap: white pixels between neighbours.

    Returns:
        (rows * (H + gap) - gap, columns * (W + gap) - gap, 3) with rows = ceil(N / columns).

    Example:
        >>> cells = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1).repeat(3, axis=3)
        >>> grid(cells, columns=2)[..., 0].tolist()
        [[0, 1], [2, 255]]
    """
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    tiles = np.full((rows * columns, height + gap, width + gap, channels), PAPER, np.uint8)
    tiles[:count, :height, :width] = images
    table = tiles.reshape(rows, columns, height + gap, width + gap, channels).transpose(0, 2, 1, 3, 4)
    sheet = table.reshape(rows * (height + gap), columns * (width + gap), channels)
    return np.ascontiguousarray(sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap])
