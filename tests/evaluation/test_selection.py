from __future__ import annotations

import numpy as np
import pytest

from cytoforge.core.errors import DataError
from cytoforge.evaluation.comparison import FeatureSet
from cytoforge.evaluation.selection import FEWEST, NEIGHBOURS, class_rejections, region_rejections, remoteness


def cells(count: int, seed: int, shift: float = 0.0, swap: bool = False) -> FeatureSet:
    """Two classes, two units apart in the first of six features; four cells to a photo."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    values = rng.normal(size=(count, 6)) + shift
    values[:, 0] += 2 * (1 - labels if swap else labels)
    return FeatureSet(values, labels, tuple(f"{seed}-{row // 4}" for row in range(count)), "x@64", 64)


TRAIN = cells(1200, 0)


@pytest.mark.parametrize("rule", [class_rejections, region_rejections])
def test_each_rule_loses_about_the_stated_share_of_real_cells(rule) -> None:
    for share in (0.05, 0.2):
        assert rule(TRAIN, cells(1000, 1), share).mean() == pytest.approx(share, abs=0.035)


def test_class_rule_drops_images_of_the_other_class() -> None:
    assert class_rejections(TRAIN, cells(400, 2, swap=True), 0.05).mean() > 0.4
    assert region_rejections(TRAIN, cells(400, 2, swap=True), 0.05).mean() < 0.3


def test_region_rule_drops_what_no_real_cell_looks_like() -> None:
    assert region_rejections(TRAIN, cells(200, 3, shift=5.0), 0.05).all()


def test_region_is_calibrated_on_cells_of_other_photos() -> None:
    rng = np.random.default_rng(0)
    photos = np.repeat(np.arange(40), 8)
    centres = rng.normal(size=(80, 3))
    values = centres[photos] + 0.01 * rng.normal(size=(320, 3))
    train = FeatureSet(values, np.zeros(320, np.int64), tuple(map(str, photos)), "x@64", 64)
    alone = FeatureSet(values, train.labels, tuple(map(str, range(320))), "x@64", 64)
    unseen = FeatureSet(centres[40:], np.zeros(40, np.int64), ("new",) * 40, "x@64", 64)
    assert region_rejections(train, unseen, 0.05).mean() < 0.3
    assert region_rejections(alone, unseen, 0.05).mean() > 0.9


def test_a_region_that_one_photo_nearly_fills_is_refused_not_left_without_a_bound() -> None:
    """Cells of the other photo are too few to say how far the first one's are from them."""
    real = cells(40, 0)
    flat = real.part(np.flatnonzero(real.labels == 0))
    crowded = FeatureSet(flat.values, flat.labels, ("a",) * (len(flat) - 1) + ("b",), "x@64", 64)
    with pytest.raises(DataError, match="use --rules class,copies"):
        region_rejections(crowded, cells(10, 1).part(np.arange(0, 10, 2)), 0.05)


@pytest.mark.parametrize("count", [1, 2, 5, 6, 40])
def test_remoteness_is_in_units_of_the_fifth_nearest_other_row(count: int) -> None:
    """Whole numbers, some rows more than once: a row is the first of its own neighbours."""
    real = np.random.default_rng(count).integers(0, 9, (count, 2)).astype(float)
    real[count // 2 :: 7] = real[count // 2]
    apart = np.sort(np.square(real[:, None] - real).sum(-1), axis=1)
    radii = np.maximum(apart[:, min(NEIGHBOURS, count - 1)], np.finfo(float).tiny)
    rows = real[:1] + 1
    expected = (np.square(rows[:, None] - real).sum(-1) / radii).min(1)
    np.testing.assert_array_equal(remoteness(real, rows), expected)


def test_small_classes_lose_nothing() -> None:
    few = TRAIN.part(np.arange(2 * FEWEST - 2))
    assert not region_rejections(few, cells(50, 4, shift=9.0), 0.05).any()
    assert not class_rejections(few, cells(50, 4, swap=True), 0.05).any()


@pytest.mark.parametrize("rule", [class_rejections, region_rejections])
def test_one_photo_cannot_calibrate_the_rules(rule) -> None:
    single = FeatureSet(TRAIN.values, TRAIN.labels, ("one",) * len(TRAIN), "x@64", 64)
    with pytest.raises(DataError, match="one photo"):
        rule(single, cells(10, 5), 0.05)
