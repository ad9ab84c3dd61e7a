from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cytoforge.core.errors import DataError
from cytoforge.evaluation.utility import compare_paired, holm, power, smallest_effect, standard_error, verdict

TRAIN, TEST = 800, 200
RHO = TEST / (TRAIN + TEST)
"""Correlation of repeats for which the correction is exact: rho / (1 - rho) = test / train."""


def repeats(count: int, number: int, effect: float = 0.0, rho: float = RHO, seed: int = 0) -> np.ndarray:
    """(count, number) differences with deviation 0.01 and correlation rho within a row."""
    rng = np.random.default_rng(seed)
    shared = np.sqrt(rho) * rng.normal(size=(count, 1))
    own = np.sqrt(1 - rho) * rng.normal(size=(count, number))
    return effect + 0.01 * (shared + own)


def decided(row: np.ndarray, train: int = TRAIN) -> str:
    found = compare_paired(row, train, TEST)
    return verdict(found, found.p)


def test_by_hand() -> None:
    found = compare_paired([0.02, 0.04, 0.03, 0.05, 0.01], 800, 200)
    error = 0.015811388 * np.sqrt(0.45)
    assert found.deviation == pytest.approx(0.015811388)
    assert found.difference == pytest.approx(0.03)
    assert found.high - found.low == pytest.approx(2 * 2.776445 * error, rel=1e-5)
    assert found.p == pytest.approx(2 * stats.t.sf(0.03 / error, 4))
    assert found.low < found.bootstrap_low < 0.03 < found.bootstrap_high < found.high


def test_without_overlap_it_is_the_ordinary_t_test() -> None:
    row = repeats(1, 8, 0.004)[0]
    found = compare_paired(row, 10**9, 200)
    assert found.p == pytest.approx(stats.ttest_1samp(row, 0).pvalue, rel=1e-4)


def test_false_positive_rate_is_the_stated_level() -> None:
    """The t-test alone errs in 5 % of cases at the correlation that it assumes; the verdict in no more."""
    rows = repeats(2000, 5)
    found = [compare_paired(row, TRAIN, TEST) for row in rows]
    rate = np.mean([each.p <= 0.05 for each in found])
    assert stats.binomtest(int(rate * 2000), 2000, 0.05).pvalue > 0.01
    assert np.mean([verdict(each, each.p) != "no evidence" for each in found]) <= rate
    naive = np.mean(stats.ttest_1samp(rows, 0, axis=1).pvalue <= 0.05)
    assert naive > 0.1  # what the correction is for
    independent = [decided(row) != "no evidence" for row in repeats(1000, 5, rho=0.0)]
    assert np.mean(independent) < 0.05


def test_false_positive_rate_of_a_family() -> None:
    """Nine comparisons of five repeats each: Holm keeps the chance of any false alarm, no Holm does not."""
    families = repeats(300 * 9, 5, seed=1).reshape(300, 9, 5)
    any_alarm, any_plain = 0, 0
    for family in families:
        found = [compare_paired(row, TRAIN, TEST) for row in family]
        adjusted = holm([each.p for each in found])
        any_alarm += any(verdict(each, p) != "no evidence" for each, p in zip(found, adjusted, strict=True))
        any_plain += any(each.p <= 0.05 for each in found)
    assert stats.binomtest(any_alarm, 300, 0.05, alternative="greater").pvalue > 0.01
    assert any_plain > 60


def test_false_positive_rate_of_real_cross_validation() -> None:
    """Two trainings that differ by chance only, on groups of points, by five grouped folds."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        labels = np.repeat([0, 1], 100)
        groups = np.arange(200) // 4
        points = labels[:, None] + rng.normal(size=(50, 3))[groups] + rng.normal(size=(200, 3))
        fold = rng.permutation(50)[groups] % 5
        row = []
        for held in range(5):
            train, test = fold != held, fold == held
            scores = []
            for _ in range(2):  # the same training twice, with noise of its own
                noisy = points[train] + rng.normal(size=(train.sum(), 3))
                centres = np.stack([noisy[labels[train] == label].mean(0) for label in (0, 1)])
                guess = ((points[test][:, None] - centres) ** 2).sum(2).argmin(1)
                scores.append((guess == labels[test]).mean())
            row.append(scores[1] - scores[0])
        found = compare_paired(row, 160, 40)
        alarms += verdict(found, found.p) != "no evidence"
    assert alarms <= 20


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_power_curve_agrees_with_simulation(factor: float) -> None:
    effect = factor * 0.02
    # the deviation within a row of correlated repeats is that of their own parts
    expected = power(effect, 0.01 * np.sqrt(1 - RHO), 5, TRAIN, TEST)
    rows = repeats(800, 5, effect, seed=2)
    found = np.mean([compare_paired(row, TRAIN, TEST).p <= 0.05 for row in rows])
    assert found == pytest.approx(expected, abs=0.045)


def test_smallest_effect_is_found_four_times_of_five() -> None:
    within = 0.01 * np.sqrt(1 - RHO)
    smallest = smallest_effect(within, 10, TRAIN, TEST)
    assert power(smallest, within, 10, TRAIN, TEST) == pytest.approx(0.8, abs=1e-4)
    rows = repeats(800, 10, smallest, seed=3)
    assert np.mean([decided(row) == "helps" for row in rows]) == pytest.approx(0.8, abs=0.045)
    assert np.mean([decided(-row) == "hurts" for row in rows[:300]]) == pytest.approx(0.8, abs=0.08)


def test_more_comparisons_need_larger_effects_and_more_repeats_smaller_ones() -> None:
    sizes = [smallest_effect(0.01, 5, TRAIN, TEST, comparisons=count) for count in (1, 9, 100)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert smallest_effect(0.01, 10, TRAIN, TEST) < sizes[0]


@pytest.mark.parametrize(("count", "comparisons"), [(2, 1), (5, 27), (5, 36), (5, 81), (10, 108)])
def test_smallest_effect_holds_among_many_comparisons(count: int, comparisons: int) -> None:
    """scipy's noncentral t has no digits there: its share of found differences is drawn instead."""
    error = standard_error(0.01, count, TRAIN, TEST)
    shift = smallest_effect(0.01, count, TRAIN, TEST, comparisons=comparisons) / error
    rng = np.random.default_rng(0)
    scale = np.sqrt(rng.chisquare(count - 1, 200_000) / (count - 1))
    limit = stats.t.ppf(1 - 0.05 / (2 * comparisons), count - 1)
    found = np.abs(rng.normal(shift, 1, 200_000) / scale) > limit
    assert found.mean() == pytest.approx(0.8, abs=0.005)


def test_scores_are_not_believed_beyond_one_test_cell() -> None:
    """Three times the same difference of one cell in ten has no spread, and is no evidence all the same."""
    found = compare_paired([0.1, 0.1, 0.1], 20, 10)
    assert found.deviation == pytest.approx(np.sqrt(1 / 6) / 10)
    assert verdict(found, found.p) == "no evidence"
    none = compare_paired([0.0, 0.0], 20, 10)
    assert (none.p, verdict(none, none.p)) == (1.0, "no evidence")


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.02, 0.03, 0.5]).tolist() == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_verdict_needs_both_tests() -> None:
    found = compare_paired([0.03, 0.04, 0.05, 0.04], TRAIN, TEST)
    assert verdict(found, 0.04) == "helps"
    assert verdict(found, 0.06) == "no evidence"
    assert verdict(compare_paired([-0.03, -0.04, -0.05, -0.04], TRAIN, TEST), 0.04) == "hurts"
    assert verdict(compare_paired([-0.03, 0.04, 0.05, 0.04], TRAIN, TEST), 0.04) == "no evidence"


@pytest.mark.parametrize(
    ("row", "train", "test"), [([0.1], 10, 5), ([0.1, np.nan], 10, 5), ([0.1, 0.2], 0, 5)]
)
def test_refuses_what_it_cannot_compare(row: list[float], train: int, test: int) -> None:
    with pytest.raises(DataError, match="needs"):
        compare_paired(row, train, test)


def test_standard_error() -> None:
    assert standard_error(1.0, 5, 400, 100) == pytest.approx(np.sqrt(0.45))
