"""What may be concluded, at both sides of each line."""

from __future__ import annotations

import pytest

from cytoforge.evaluation.metrics import Number
from cytoforge.report.words import MEASURES, comparison, named, percent, percent_span, shown


def number(value: float, floor: float | None, margin: float = 0.01) -> Number:
    low, high = (None, None) if floor is None else (floor - margin, floor + margin)
    return Number(
        value=value, low=value - margin, high=value + margin, floor=floor, floor_low=low, floor_high=high
    )


class TestComparison:
    @pytest.mark.parametrize(
        ("value", "tone"), [(0.005, "good"), (0.02, "good"), (0.0215, "unsure"), (0.04, "bad"), (5.0, "bad")]
    )
    def test_of_a_distance(self, value: float, tone: str) -> None:
        assert comparison("kernel_distance", number(value, 0.001))[0] == tone

    @pytest.mark.parametrize(
        ("value", "tone"), [(0.8, "good"), (0.79, "good"), (0.7, "unsure"), (0.5, "bad"), (0.0, "bad")]
    )
    def test_of_a_share(self, value: float, tone: str) -> None:
        assert comparison("recall", number(value, 0.8))[0] == tone

    def test_without_floor_judges_nothing(self) -> None:
        assert comparison("recall", number(0.4, None)) == ("note", "")

    def test_of_a_floor_about_zero_is_no_huge_factor(self) -> None:
        tone, words = comparison(
            "kernel_distance", Number(value=0.3, floor=-0.001, floor_low=-0.002, floor_high=0.0)
        )
        assert (tone, words) == ("bad", "far from real cells")

    def test_takes_values_without_intervals(self) -> None:
        assert comparison("frechet_distance", Number(value=30.0, floor=6.0)) == (
            "bad",
            "5 times what real cells reach",
        )


def test_numbers_are_short() -> None:
    assert [shown(value) for value in (0.0, 1.0, 99.94, 100.4, 0.00012345, -0.5, float("nan"))] == [
        "0", "1", "99.9", "100", "0.000123", "-0.5", "–",
    ]  # fmt: skip
    assert [percent(share) for share in (0.0, 0.01, 0.015, 0.5, float("nan"))] == [
        "0 %",
        "1 %",
        "1.5 %",
        "50 %",
        "–",
    ]


def test_every_measure_says_how_to_read_it() -> None:
    for measure in MEASURES.values():
        assert measure.meaning.endswith(".")
        assert measure.better in {"lower", "higher"}


def test_unknown_measures_are_named_after_their_key() -> None:
    assert named("recall") == "Recall"
    assert named("new_measure") == "new measure"
    assert percent_span(None, 0.5) == ""
