from __future__ import annotations

import numpy as np
import pytest

from cytoforge.data.phantom import CLASSES, PhantomCell, simulate
from cytoforge.masks.agreement import dice, iou
from cytoforge.masks.thresholds import BASELINES
from cytoforge.masks.unsupervised import cluster, darker_than_neighbourhood, stretch, unsupervised_mask


def drawn(nuclei: list[tuple[int, int]], size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A pale square cell with dark discs, and its mask."""
    picture = np.full((size, size, 3), 225, np.uint8)
    picture[12:84, 12:84] = (150, 190, 190)
    mask = np.zeros((size, size), np.uint8)
    mask[12:84, 12:84] = 1
    rows, columns = np.mgrid[:size, :size]
    for row, column in nuclei:
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= 100
        picture[disc], mask[disc] = (60, 50, 90), 2
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8), mask


def agreement(cells: list[PhantomCell]) -> tuple[list[float], list[float]]:
    """Dice of nucleus and of the whole cell."""
    found = [unsupervised_mask(cell.image) for cell in cells]
    pairs = list(zip(found, cells, strict=True))
    nuclear = [dice(mask == 2, cell.mask == 2) for mask, cell in pairs]
    return nuclear, [dice(mask > 0, cell.mask > 0) for mask, cell in pairs]


def test_most_nuclei_of_simulated_cells_are_found() -> None:
    nuclear, whole = agreement([simulate(label, seed, 64) for label in CLASSES for seed in range(500, 508)])
    assert np.mean(nuclear) >= 0.80
    assert np.mean(whole) >= 0.85


@pytest.mark.slow
def test_nuclei_of_simulated_cells_are_found_with_a_dice_of_080() -> None:
    nuclear, whole = agreement([simulate(label, seed, 96) for label in CLASSES for seed in range(600, 630)])
    assert np.mean(nuclear) >= 0.80
    assert np.mean(whole) >= 0.85


@pytest.mark.parametrize("nuclei", [[(48, 48)], [(48, 33), (48, 62)]], ids=["one nucleus", "two nuclei"])
def test_a_drawn_cell_comes_back(nuclei: list[tuple[int, int]]) -> None:
    picture, mask = drawn(nuclei)
    found = unsupervised_mask(picture)
    assert dice(found == 2, mask == 2) > 0.85
    assert dice(found > 0, mask > 0) > 0.93


def test_a_nucleus_at_the_edge_belongs_to_another_cell() -> None:
    picture, mask = drawn([(48, 48), (20, 2)])
    assert unsupervised_mask(picture)[10:30, :10].max() != 2
    assert dice(unsupervised_mask(picture) == 2, (mask == 2) & (np.arange(96) > 20)) > 0.85


def test_a_field_gives_every_nucleus_and_no_cytoplasm() -> None:
    picture, mask = drawn([(30, 30), (30, 66), (66, 30), (66, 66)])
    found = unsupervised_mask(picture, single=False)
    assert dice(found == 2, mask == 2) > 0.9
    assert set(np.unique(found)) == {0, 2}


def test_the_mask_of_a_large_crop_has_its_size_and_the_same_outline() -> None:
    picture, mask = drawn([(48, 48)])
    large = picture.repeat(3, axis=0).repeat(3, axis=1)
    found = unsupervised_mask(large)
    assert found.shape == (288, 288)
    assert dice(found == 2, mask.repeat(3, axis=0).repeat(3, axis=1) == 2) > 0.85


def test_the_same_picture_gives_the_same_mask_whatever_the_global_seed() -> None:
    picture, _ = drawn([(48, 48)])
    np.random.seed(1)
    first = unsupervised_mask(picture)
    np.random.seed(2)
    assert (unsupervised_mask(picture) == first).all()


@pytest.mark.parametrize("shape", [(8, 8, 3), (5, 40, 3)])
@pytest.mark.parametrize("single", [True, False])
def test_any_picture_gives_a_mask(shape: tuple[int, int, int], single: bool) -> None:
    for picture in (np.full(shape, 9, np.uint8), np.random.default_rng(0).integers(0, 255, shape, np.uint8)):
        found = unsupervised_mask(picture, single)
        assert found.shape == shape[:2]
        assert set(np.unique(found)) <= {0, 1, 2}


def test_clusters_are_shares_sorted_by_darkness() -> None:
    picture, mask = drawn([(48, 48)])
    stretched = stretch(picture.astype(np.float64))
    shares = cluster(stretched)
    assert shares.sum(axis=2) == pytest.approx(np.ones(mask.shape))
    assert shares[mask == 2][:, :3].sum(axis=1).mean() > 0.9
    assert shares[mask == 0][:, 3:].sum(axis=1).mean() > 0.9


def test_the_adaptive_threshold_sees_what_is_darker_than_around_it() -> None:
    grey = np.tile(np.linspace(0, 1, 60), (60, 1))
    grey[28:32, 28:32] -= 0.2
    dark = darker_than_neighbourhood(grey)
    assert dark[29:31, 29:31].all()
    assert not dark[10, 40]


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_find_a_dark_disc_or_at_least_the_middle(name: str) -> None:
    picture, mask = drawn([(48, 48)])
    found = BASELINES[name](picture)
    assert dice(found == 2, mask == 2) > 0.2
    assert BASELINES[name](np.full((8, 8, 3), 7, np.uint8)).shape == (8, 8)


def test_agreement_by_hand() -> None:
    found, true = np.array([1, 1, 1, 0, 0], bool), np.array([0, 1, 1, 1, 1], bool)
    assert dice(found, true) == pytest.approx(4 / 7)
    assert iou(found, true) == pytest.approx(2 / 5)
    known = np.array([0, 1, 1, 1, 0], bool)
    assert dice(found, true, known) == pytest.approx(4 / 5)
    assert dice(found & False, true & False) == iou(found & False, true & False) == 1.0
