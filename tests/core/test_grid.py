"""Tiling by hand."""

from __future__ import annotations

import numpy as np

from cytoforge.core.grid import grid


def test_places_images_in_reading_order_with_white_gaps() -> None:
    images = np.stack([np.full((2, 3, 3), level, np.uint8) for level in (10, 20, 30)])
    sheet = grid(images, columns=2, gap=1)
    assert sheet.shape == (5, 7, 3)
    assert sheet[0, 0, 0] == 10
    assert sheet[0, 4, 0] == 20
    assert sheet[3, 0, 0] == 30
    assert (sheet[2] == 255).all()
    assert (sheet[:, 3] == 255).all()
    assert (sheet[3:, 4:] == 255).all()


def test_one_image_comes_back_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 5, 4, 3), dtype=np.uint8)
    assert (grid(image, columns=1, gap=3) == image[0]).all()


def test_columns_beyond_the_images_stay_white() -> None:
    sheet = grid(np.zeros((1, 2, 2, 3), np.uint8), columns=3)
    assert sheet.shape == (2, 6, 3)
    assert (sheet[:, 2:] == 255).all()
