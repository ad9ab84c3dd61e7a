"""What may be concluded, at both sides of each line."""

from __future__ import annotations

from typing import Any

import pytest

from cytoforge.report.words import (
    MEASURES,
    classes_kept,
    comparison,
    copying,
    percent,
    realism,
    shown,
    variety,
)


def number(value: float, floor: float | None, margin: float = 0.01) -> dict[str, Any]:
    ends = {"low": value - margin, "high": value + margin}
    return {"value": value, **ends} | (
        {} if floor is None else {"floor": floor, "floor_low": floor - margin, "floor_high": floor + margin}
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
            "kernel_distance", {"value": 0.3, "floor": -0.001, "floor_low": -0.002, "floor_high": 0.0}
        )
        assert (tone, words) == ("bad", "far from real cells")

    def test_takes_values_without_intervals(self) -> None:
        assert comparison("frechet_distance", {"value": 30.0, "floor": 6.0}) == (
            "bad",
            "5 times what real cells reach",
        )


class TestVerdicts:
    def test_realism_follows_the_kernel_distance(self) -> None:
        tones = []
        for value in (0.0, 0.0215, 1.0):
            verdict = realism({"kernel_distance": number(value, 0.001), "precision": number(0.5, 0.9)})
            assert verdict is not None
            tones.append(verdict.tone)
        assert tones == ["good", "unsure", "bad"]

    def test_variety_is_as_good_as_its_worst_number(self) -> None:
        verdict = variety({"recall": number(0.8, 0.8), "coverage": number(0.3, 0.9)})
        assert verdict is not None
        assert verdict.tone == "bad"

    def test_need_a_floor(self) -> None:
        assert realism({"kernel_distance": number(0.5, None)}) is None
        assert variety({"recall": number(0.5, None)}) is None
        assert realism({}) is None

    @pytest.mark.parametrize(("flagged", "tone"), [(0, "good"), (19, "good"), (20, "bad"), (1000, "bad")])
    def test_copying_needs_more_alarms_than_chance(self, flagged: int, tone: str) -> None:
        found = {"flagged": flagged, "checked": 1000, "false_alarm_rate": 0.01, "honest_range": [3, 19]}
        assert copying(found).tone == tone

    @pytest.mark.parametrize(("accuracy", "tone"), [(0.9, "good"), (0.8, "unsure"), (0.3, "bad")])
    def test_classes_are_judged_by_the_classifier_on_real_cells(self, accuracy: float, tone: str) -> None:
        assert classes_kept({"accuracy": accuracy, "holdout_accuracy": 0.92}).tone == tone

    def test_classes_without_a_holdout_are_not_judged(self) -> None:
        assert classes_kept({"accuracy": 0.4}).tone == "note"


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
