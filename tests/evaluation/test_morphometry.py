from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact, ks_2samp

from cytoforge.core.errors import DataError
from cytoforge.data.phantom import simulate
from cytoforge.evaluation.morphometry import (
    NAMES,
    MeasuredCells,
    compare_measurements,
    measure_cells,
    missing_parts,
    wasserstein,
)


def cells(count: int, shift: float = 0.0, seed: int = 0, labels: int = 1) -> MeasuredCells:
    """Normal measurements; the first is shifted by that many standard deviations."""
    table = np.random.default_rng(seed).normal(size=(count, len(NAMES)))
    table[:, 0] += shift
    label = np.arange(count) % labels
    return MeasuredCells(table, label, tuple(f"{row // 2}" for row in range(count)))


def test_there_are_51_measurements_to_compare() -> None:
    assert len(NAMES) == 2 * 25 + 1
    assert not any("orientation" in name for name in NAMES)


def test_equal_distributions_do_not_differ_and_a_shifted_one_does() -> None:
    real = cells(400, seed=1)
    found = compare_measurements(cells(150, seed=2), cells(150, 1.0, seed=3), real, ["a"], "given")
    assert found is not None
    rows = found.classes["a"]
    assert rows["nc_ratio"].differs
    assert rows["nc_ratio"].wasserstein == pytest.approx(1.0, abs=0.2)
    assert rows["nc_ratio"].fake[1] - rows["nc_ratio"].real[1] == pytest.approx(1.0, abs=0.25)
    assert rows["nc_ratio"].floor is not None
    assert rows["nc_ratio"].floor < 0.3
    assert sum(row.differs for row in rows.values()) <= 3


def test_a_difference_needs_the_test_and_the_floor() -> None:
    """Kolmogorov-Smirnov by scipy; Benjamini-Hochberg: min over ranks r' >= r of p_(r') * 51 / r'."""
    holdout, fake = cells(150, seed=2), cells(150, seed=3)
    fake.table[:, 0] += 1
    fake.table[:, 1] += 0.3
    found = compare_measurements(holdout, fake, cells(400, seed=1), ["a"], "given")
    assert found is not None
    rows = found.classes["a"]
    tests = [ks_2samp(holdout.table[:, place], fake.table[:, place]) for place in range(len(NAMES))]
    raw = [test.pvalue for test in tests]
    for name, test in zip(NAMES, tests, strict=True):
        above = [p for p in raw if p >= test.pvalue]
        adjusted = min(1, *(p * len(NAMES) / sum(each <= p for each in raw) for p in above))
        assert rows[name].ks == pytest.approx(test.statistic)
        assert rows[name].p_value == pytest.approx(adjusted)
    assert rows[NAMES[0]].differs
    far = {name for name, row in rows.items() if row.wasserstein > row.floor_high}
    rejected = {name for name, row in rows.items() if row.p_value < 0.05}
    assert {name for name, row in rows.items() if row.differs} == far & rejected
    assert far - rejected


@pytest.mark.parametrize(("without", "differs"), [(0, False), (8, False), (80, True), (100, True)])
def test_cells_without_a_nucleus_count(without: int, differs: bool) -> None:
    """Of 100 synthetic cells; two of 150 real ones have none."""
    holdout, fake = cells(150, seed=2), cells(100, seed=3)
    nucleus = [place for place, name in enumerate(NAMES) if not name.startswith("cytoplasm")]
    holdout.table[np.ix_(range(2), nucleus)] = np.nan
    fake.table[np.ix_(range(without), nucleus)] = np.nan
    found = compare_measurements(holdout, fake, cells(400, seed=1), ["a"], "given")
    assert found is not None
    row = found.parts["a"]["nucleus"]
    assert (row.n_real, row.n_fake) == (150, 100)
    assert (row.real, row.fake) == pytest.approx((148 / 150, 1 - without / 100))
    exact = fisher_exact([[148, 2], [100 - without, without]]).pvalue
    assert row.p_value == pytest.approx(min(1, 2 * exact)), "one class, two parts"
    assert row.floor_high == 0, "all other real cells have one"
    assert row.differs is differs
    assert len(missing_parts(found)) == differs
    assert not found.parts["a"]["cytoplasm"].differs


def test_real_cells_that_miss_a_nucleus_now_and_then_raise_the_bar() -> None:
    """Whole photos without nuclei: real cells differ from real ones as much as the synthetic ones do."""
    holdout, fake, real = cells(100, seed=2), cells(100, seed=3), cells(400, seed=1)
    photos = sorted(set(real.groups))
    bare = np.isin(real.groups, photos[: len(photos) // 3])
    nucleus = [place for place, name in enumerate(NAMES) if not name.startswith("cytoplasm")]
    real.table[np.ix_(np.flatnonzero(bare), nucleus)] = np.nan
    fake.table[np.ix_(range(14), nucleus)] = np.nan
    found = compare_measurements(holdout, fake, real, ["a"], "given")
    assert found is not None
    row = found.parts["a"]["nucleus"]
    assert row.p_value < 0.05
    assert row.floor_high is not None
    assert 0.14 < row.floor_high < 1
    assert not row.differs


def test_cells_without_cytoplasm_are_told_too() -> None:
    holdout, fake = cells(150, seed=2), cells(100, seed=3)
    cytoplasm = [place for place, name in enumerate(NAMES) if not name.startswith("nucleus")]
    fake.table[np.ix_(range(60), cytoplasm)] = np.nan
    found = compare_measurements(holdout, fake, cells(400, seed=1), ["a"], "given")
    assert found is not None
    (line,) = missing_parts(found)
    assert line == "a: 40 % of synthetic cells have cytoplasm, 100 % of unseen real ones."


def test_the_distance_of_shifted_numbers_is_the_shift() -> None:
    values = np.arange(10.0)
    assert wasserstein(values, values) == 0
    assert wasserstein(values, values + 3) == pytest.approx(3 / values.std())
    assert wasserstein(np.ones(3), np.ones(5)) == 0
    with pytest.raises(DataError, match="at least one"):
        wasserstein(np.array([]), values)


def test_classes_with_few_cells_are_left_out() -> None:
    assert compare_measurements(cells(9), cells(50), cells(50), ["a"], "given") is None
    found = compare_measurements(cells(40, labels=2), cells(40), cells(80, labels=2), ["a", "b"], "given")
    assert found is not None
    assert list(found.classes) == ["a"]


@pytest.mark.parametrize("drawn", [30, 100, 200, 1000])
def test_more_synthetic_cells_do_not_take_the_floor_away(drawn) -> None:
    """20 unseen cells and 80 others: whatever is drawn, as many as the others are compared."""
    holdout = cells(20, seed=2)
    found = compare_measurements(holdout, cells(drawn, seed=3), cells(100, seed=1), ["a"], "given")
    assert found is not None
    row = found.classes["a"]["nc_ratio"]
    assert (row.n_real, row.n_fake) == (20, min(drawn, 80))
    assert row.floor is not None
    assert sum(each.differs for each in found.classes["a"].values()) <= 3


def test_without_other_groups_there_is_no_floor() -> None:
    real = MeasuredCells(cells(40).table, cells(40).labels, ("one",) * 40)
    found = compare_measurements(real, cells(40, seed=2), real, ["a"], "given")
    assert found is not None
    assert found.classes["a"]["nc_ratio"].floor is None


def test_cells_without_nucleus_count_where_they_can_and_unknown_masks_nowhere() -> None:
    cell = simulate("Parabasal", 1, 32)
    unknown = np.full_like(cell.mask, 3)
    masks = np.stack([cell.mask, np.minimum(cell.mask, 1), unknown, np.zeros_like(cell.mask)])
    found = measure_cells(np.stack([cell.image] * 4), masks, np.zeros(4, np.int64), ("x", "y", "?", "z"))
    assert found.groups == ("x", "y", "z")
    assert found.having("nucleus", 0).tolist() == [True, False, False]
    assert found.having("cytoplasm", 0).tolist() == [True, True, False]
    assert len(found.column("nc_ratio", 0)) == 1
    assert len(found.column("cytoplasm_area", 0)) == 2
    assert found.column("cytoplasm_area", 0)[1] == (cell.mask > 0).sum()
