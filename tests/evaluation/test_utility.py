from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cytoforge.core.errors import DataError
from cytoforge.evaluation.utility import (
    compare_paired,
    compare_pooled,
    holm,
    power,
    smallest_effect,
    standard_error,
    verdict,
)

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
    """At the correlation that the correction assumes, t-test and verdict both err in 5 % of cases."""
    rows = repeats(2000, 5)
    found = [compare_paired(row, TRAIN, TEST) for row in rows]
    by_test = sum(each.p <= 0.05 for each in found)
    by_rule = sum(verdict(each, each.p) != "no evidence" for each in found)
    for alarms in (by_test, by_rule):
        assert stats.binomtest(alarms, 2000, 0.05).pvalue > 0.01
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


def grids(studies: int, comparisons: int, effect: float = 0.0, seed: int = 4) -> np.ndarray:
    """(studies, comparisons, 5) differences, half of whose variance all comparisons of a repeat share."""
    shared = repeats(studies, 5, seed=seed)[:, None]
    own = repeats(studies * comparisons, 5, seed=seed + 1).reshape(studies, comparisons, 5)
    return effect + (shared + own) / np.sqrt(2)


def test_pooled_by_hand() -> None:
    """Means 0.02, 0.04, 0.03, 0.05 and 0.01 of the repeats that have both comparisons."""
    rows = [[0.01, 0.06, 0.9, 0.03, 0.02, 0.02], [0.03, 0.02, np.nan, 0.03, 0.08, 0.0]]
    found = compare_pooled(rows, 800, 200, questions=3)
    assert found == compare_paired([0.02, 0.04, 0.03, 0.05, 0.01], 800, 200, comparisons=3)
    error = 0.015811388 * np.sqrt(0.45)
    assert found.difference == pytest.approx(0.03)
    assert found.p == pytest.approx(2 * stats.t.sf(0.03 / error, 4))
    assert found.repeats == 5
    with pytest.raises(DataError, match="two or more"):
        compare_pooled([[0.1, np.nan], [0.1, 0.2]], 800, 200)


def test_false_positive_rate_of_pooled_comparisons() -> None:
    """Without effect the level holds, for comparisons that go along with each other and ones that do not."""
    for rows in (grids(1000, 9), repeats(9 * 1000, 5, seed=6).reshape(1000, 9, 5)):
        found = [compare_pooled(grid, TRAIN, TEST) for grid in rows]
        alarms = sum(verdict(each, each.p) != "no evidence" for each in found)
        assert stats.binomtest(alarms, 1000, 0.05, alternative="greater").pvalue > 0.01


def test_pooled_comparisons_see_smaller_effects() -> None:
    """Nine comparisons that share half of their variance: what each alone hardly finds, their mean does."""
    seen: dict[str, list[bool]] = {"pooled": [], "single": []}
    for grid in grids(200, 9, effect=0.02):
        whole = compare_pooled(grid, TRAIN, TEST, questions=4)
        alone = [compare_paired(row, TRAIN, TEST, comparisons=9) for row in grid]
        assert whole.smallest < np.median([each.smallest for each in alone])
        seen["pooled"].append(verdict(whole, min(1, 4 * whole.p)) == "helps")  # Bonferroni over 4 questions
        adjusted = holm([each.p for each in alone])
        seen["single"] += [
            verdict(each, float(p)) == "helps" for each, p in zip(alone, adjusted, strict=True)
        ]
    assert np.mean(seen["pooled"]) > 2 * np.mean(seen["single"])


def cross_validated(
    studies: int,
    photos: int,
    features: int = 3,
    shift: float = 1.0,
    alike: bool = False,
    real: int | None = None,
) -> np.ndarray:
    """(studies, 10) differences in accuracy of two nearest-centroid classifiers, of which none is better.

    Ten repeats are two divisions of all photos, four cells each, into five folds. Each classifier sees its
    own `features`, which tell the classes apart equally well; or, with `alike`, both see the same ones, and
    noise of their own while they train. With `real` both learn from the cells of so many photos a class,
    drawn anew in each fold.
    """
    rng = np.random.default_rng(0)
    of = np.arange(4 * photos) // 4
    labels = (of >= photos // 2).astype(int)
    rows = np.empty((studies, 10))
    for row in rows:
        cells = shift * labels[:, None] + rng.normal(size=(photos, 2 * features))[of]
        cells += rng.normal(size=cells.shape)
        for division in range(2):
            test = rng.permutation(photos)[of] % 5 == np.arange(5)[:, None]
            learned = ~test if real is None else fraction(~test, of, labels, real, rng)
            scores = []
            for number in range(2):
                start = 0 if alike else number * features
                seen = cells[:, start : start + features]
                noise = rng.normal(size=(5, *seen.shape)) if alike else np.zeros((5, 1, 1))
                own = np.stack([learned & (labels == label) for label in (0, 1)], 1)  # fold, class, cell
                centres = np.einsum("fcn,fnd->fcd", own, seen + noise) / own.sum(2)[..., None]
                guess = ((seen[:, None] - centres[:, None]) ** 2).sum(3).argmin(2)
                scores.append(((guess == labels) & test).sum(1) / test.sum(1))
            row[5 * division : 5 * division + 5] = scores[1] - scores[0]
    return rows


def fraction(
    train: np.ndarray, of: np.ndarray, labels: np.ndarray, real: int, rng: np.random.Generator
) -> np.ndarray:
    """The training cells (folds, N) of `real` photos of each class."""
    kept = np.zeros_like(train)
    for fold, inside in enumerate(train):
        for label in (0, 1):
            drawn = rng.permutation(np.unique(of[inside & (labels == label)]))[:real]
            kept[fold] |= np.isin(of, drawn)
    return kept


def alarms(rows: np.ndarray, photos: int) -> int:
    """In how many rows the verdict sees an effect."""
    found = [compare_paired(row, 16 * photos // 5, 4 * photos // 5) for row in rows]
    return sum(verdict(each, each.p) != "no evidence" for each in found)


@pytest.mark.parametrize(
    "ways",
    [{"alike": True}, {}, {"features": 20, "shift": 0.4}, {"features": 20, "shift": 0.4, "real": 5}],
    ids=["one way twice", "strong", "weak", "fraction"],
)
def test_false_positive_rate_of_real_cross_validation(ways: dict) -> None:
    """With fifty photos it is the level at most, by one division of them and by two."""
    rows = cross_validated(600, 50, **ways)
    pooled = rows.reshape(200, 3, 10).mean(1)
    for found in (alarms(rows[:, :5], 50), alarms(rows, 50)):
        assert stats.binomtest(found, 600, 0.05, alternative="greater").pvalue > 0.01
    assert stats.binomtest(alarms(pooled, 50), 200, 0.05, alternative="greater").pvalue > 0.01


def test_false_positive_rate_with_twenty_photos_is_what_the_documentation_says() -> None:
    """All repeats share these few photos, which weighs more than the correction allows for."""
    rows = cross_validated(1200, 20, features=20, shift=0.4)
    assert alarms(rows[:, :5], 20) / 1200 == pytest.approx(0.05, abs=0.02)
    assert alarms(rows, 20) / 1200 == pytest.approx(0.07, abs=0.02)


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
