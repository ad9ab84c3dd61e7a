"""Pictures at a glance."""

from __future__ import annotations

import numpy as np
import torch

from cytoforge.core.run import Run
from cytoforge.sampling.companions import interpolation
from cytoforge.sampling.generator import open_generator
from cytoforge.sampling.pictures import labelled_rows, slerp


def test_slerp_stays_at_the_length_of_its_ends() -> None:
    draws = torch.randn(2, 4096, generator=torch.Generator().manual_seed(0))
    start, end = 64 * draws / draws.norm(dim=1, keepdim=True)
    way = slerp(start, end, torch.linspace(0, 1, 7))
    torch.testing.assert_close(way.norm(dim=1), torch.full((7,), 64.0))
    torch.testing.assert_close(way[0], start)
    torch.testing.assert_close(way[-1], end)


def test_slerp_of_equal_ends_is_their_point() -> None:
    start = torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(slerp(start, start, torch.tensor([0.25]))[0], start)


def test_interpolation_passes_through_the_images_of_its_seeds(run: Run) -> None:
    generator = open_generator(run)
    rows = interpolation(generator)
    assert list(rows) == list(generator.classes)
    for label, images in enumerate(rows.values()):
        assert images.shape == (9, 32, 32, 3)
        for place, seed in ((0, 0), (4, 1), (8, 2)):
            difference = images[place].astype(int) - generator.images(label, [seed])[0]
            assert np.abs(difference).max() <= 1


def test_rows_hold_their_images_and_names() -> None:
    cells = np.zeros((2, 32, 32, 3), np.uint8)
    sheet = labelled_rows({"Parabasal": cells, "<b>" + "x" * 300: cells[:1]})
    black = (sheet == 0).all(axis=-1)
    assert black.sum() >= 3 * 96 * 96
    assert sheet.shape[1] < 700
