from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoforge.core.errors import DataError
from cytoforge.evaluation.statistics import bootstrap_mean, divide, floors_of, prediction_interval, wilson


def test_wilson_at_the_edges() -> None:
    assert wilson(0, 20)[0] == 0
    assert wilson(0, 20)[1] == pytest.approx(0.1611, abs=1e-4)
    assert wilson(20, 20)[1] == 1
    for successes, trials in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(DataError):
            wilson(successes, trials)


def test_bootstrap_by_group_is_wider_where_groups_agree() -> None:
    values = np.repeat([1.0, 0.0] * 10, 5)
    groups = [str(index // 5) for index in range(100)]
    single, grouped = bootstrap_mean(values), bootstrap_mean(values, groups)
    assert grouped[1] - grouped[0] > 1.8 * (single[1] - single[0])
    assert single[0] < 0.5 < single[1]
    assert bootstrap_mean(values, groups) == grouped
    assert bootstrap_mean(values, ["one"] * 100) == (0, 1)
    assert bootstrap_mean(values, groups, weights=np.full(100, 3.0)) == pytest.approx(grouped)
    low, high = bootstrap_mean(values, groups, weights=values)
    assert low == high == 1


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_group_is_on_both_sides(data) -> None:
    count = data.draw(st.integers(4, 60))
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    groups = data.draw(st.lists(st.sampled_from("abcdefghij"), min_size=count, max_size=count))
    wanted = np.bincount(labels, minlength=3) // 2
    for first, second in divide(labels, groups, wanted, wanted, repeats=3):
        assert not {groups[row] for row in first} & {groups[row] for row in second}
        for side in (first, second):
            assert (np.bincount(labels[side], minlength=3) <= wanted).all()


def test_divisions_have_the_wanted_counts_and_differ() -> None:
    labels = np.arange(600) % 3
    groups = [f"{row % 3}/{row // 12}" for row in range(600)]
    first, second = np.full(3, 60), np.full(3, 90)
    pairs = divide(labels, groups, first, second, repeats=4)
    assert len({tuple(pair[0]) for pair in pairs}) == 4
    for one, other in pairs:
        assert np.bincount(labels[one]).tolist() == [60, 60, 60]
        assert np.bincount(labels[other]).tolist() == [90, 90, 90]


@pytest.mark.parametrize("count", [3, 6, 20])
def test_a_prediction_holds_for_19_of_20_further_values_however_few_are_known(count) -> None:
    draws = np.random.default_rng(count).normal(size=(2000, count + 1))
    ends = np.array([prediction_interval(known) for known in draws[:, 1:]])
    inside = (ends[:, 0] <= draws[:, 0]) & (draws[:, 0] <= ends[:, 1])
    assert inside.mean() == pytest.approx(0.95, abs=0.015)


def test_one_value_predicts_nothing() -> None:
    with pytest.raises(DataError, match="at least two"):
        prediction_interval([1.0])


def test_floors_are_means_and_ranges() -> None:
    """Of 1 to 5: mean 3, variance 2.5, and t of four degrees of freedom is 2.7764."""
    found = floors_of([{"gap": float(gap)} for gap in range(1, 6)])["gap"]
    half = 2.7764 * (2.5 * 1.2) ** 0.5
    assert (found.mean, found.repeats) == (3, 5)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-3)
    assert floors_of([]) == floors_of([{"gap": 1.0}]) == {}


def test_floors_stay_within_what_a_score_can_be() -> None:
    """0.95 ± 4.3027 * 0.05 * 1.1547 is 0.95 ± 0.2484, of which a share has no more than 1."""
    found = floors_of([{"share": share} for share in (0.9, 0.95, 1.0)], {"share": (0, 1)})["share"]
    assert (found.low, found.high) == pytest.approx((0.7016, 1.0), abs=1e-4)
