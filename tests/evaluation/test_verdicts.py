from __future__ import annotations

import numpy as np
import pytest

from cytoforge.evaluation.classes import same_mix
from cytoforge.evaluation.metrics import ClassCopies, ClassCorrectness, Copies, Number, Share
from cytoforge.evaluation.verdicts import class_correctness, copying, realism, variety


def kernel(value: float, low: float, high: float) -> dict[str, Number]:
    return {
        "kernel_distance": Number(
            value=value, low=low, high=high, floor=0.001, floor_low=-0.001, floor_high=0.004, floor_repeats=20
        )
    }


@pytest.mark.parametrize(
    ("number", "tone"),
    [
        (kernel(0.003, 0.001, 0.005), "good"),
        (kernel(0.006, 0.005, 0.007), "unsure"),
        (kernel(0.05, 0.04, 0.06), "bad"),
    ],
)
def test_realism(number, tone) -> None:
    assert realism(number).tone == tone


def test_without_a_floor_nothing_is_said() -> None:
    assert realism({"kernel_distance": Number(value=0.1)}) is None
    assert variety({"recall": Number(value=0.1)}, []) is None
    assert class_correctness(None) is None


@pytest.mark.parametrize(
    ("recall", "coverage", "collapsed", "tone"),
    [(0.8, 0.9, [], "good"), (0.68, 0.9, [], "unsure"), (0.8, 0.3, [], "bad"), (0.8, 0.9, ["a"], "bad")],
)
def test_variety(recall, coverage, collapsed, tone) -> None:
    ends = {"floor": 0.8, "floor_low": 0.75, "floor_high": 0.9}
    overall = {"recall": Number(value=recall, **ends), "coverage": Number(value=coverage, **ends)}
    assert variety(overall, collapsed).tone == tone


@pytest.mark.parametrize(("accuracy", "tone"), [(0.8, "good"), (0.7, "unsure"), (0.3, "bad")])
def test_class_correctness(accuracy, tone) -> None:
    share = Share(value=accuracy, low=0, high=1, count=10)
    found = ClassCorrectness(
        accuracy=accuracy,
        low=0,
        high=1,
        holdout_accuracy=0.8,
        holdout_low=0.7,
        holdout_high=0.9,
        labels=("a", "b"),
        confusion=((1, 0), (0, 1)),
        holdout_confusion=((1, 0), (0, 1)),
        classes={"a": share, "b": share.model_copy(update={"value": accuracy - 0.05})},
        holdout_classes={"a": share, "b": share},
    )
    verdict = class_correctness(found)
    assert verdict.tone == tone
    assert "least often in b" in verdict.because


def test_a_set_of_one_class_is_judged_by_the_chance_of_all_that_can_be_named() -> None:
    """A judge of five classes that finds 92 % of one tells them apart, however few of them were asked for."""
    share = Share(value=0.95, low=0.9, high=1, count=100)
    row = (95, 5, 0, 0, 0)
    found = ClassCorrectness(
        accuracy=0.95,
        low=0.9,
        high=1,
        holdout_accuracy=0.92,
        holdout_low=0.85,
        holdout_high=0.97,
        labels=tuple("abcde"),
        confusion=(row,) * 5,
        holdout_confusion=(row,) * 5,
        classes={"a": share},
        holdout_classes={"a": share},
    )
    assert class_correctness(found).tone == "good"
    assert class_correctness(found.model_copy(update={"holdout_low": 0.2})).tone == "note"


def test_a_generator_as_good_as_real_cells_is_called_so_in_any_mix_of_classes() -> None:
    """Common cells are recognised in 98 %, rare ones in 50 %, real or synthetic, and both are drawn alike."""
    real, wanted = np.repeat([0, 1], [200, 20]), np.repeat([0, 1], 200)
    right = np.concatenate([np.arange(200) < 196, np.arange(20) < 10])
    accuracy = float(np.average(right, weights=same_mix(real, wanted, 2)))
    assert accuracy == pytest.approx(0.74)
    common, rare = (Share(value=value, low=0, high=1, count=200) for value in (0.98, 0.5))
    found = ClassCorrectness(
        accuracy=0.74,
        low=0,
        high=1,
        holdout_accuracy=accuracy,
        holdout_low=0.7,
        holdout_high=0.8,
        labels=("a", "b"),
        confusion=((196, 4), (100, 100)),
        holdout_confusion=((196, 4), (10, 10)),
        classes={"a": common, "b": rare},
        holdout_classes={"a": common, "b": rare.model_copy(update={"count": 20})},
    )
    assert class_correctness(found).tone == "good"


def copies(**changes) -> Copies:
    plain = {
        "found": False,
        "checked": 500,
        "flagged": 5,
        "false_alarm_rate": 0.01,
        "threshold": 0.6,
        "share": 0.01,
        "low": 0.0,
        "high": 0.02,
        "honest_low": 1,
        "honest_high": 11,
        "p_value": 0.5,
        "exchanged_flagged": 4,
        "exchanged_p_value": 0.5,
        "train": 1000,
        "holdout": 300,
        "share_nearer_to_train": 0.5,
        "nearer_low": 0.48,
        "nearer_high": 0.52,
        "authenticity": 0.7,
        "honest_authenticity": 0.7,
        "holdout_repeats": 0.0,
        "classes": {},
        "closest": (),
    }
    return Copies(**{**plain, **changes})


@pytest.mark.parametrize(
    ("found", "tone"),
    [
        (copies(), "good"),
        (copies(flagged=60, found=True), "bad"),
        (copies(flagged=30, exchanged_flagged=28), "unsure"),
        (copies(share_nearer_to_train=0.6, nearer_low=0.51, nearer_high=0.69), "unsure"),
        (None, "note"),
    ],
)
def test_copying(found, tone) -> None:
    assert copying(found).tone == tone


def test_a_class_with_too_many_alarms_is_named() -> None:
    rare = {
        "rare": ClassCopies(flagged=12, checked=100, found=True),
        "b": ClassCopies(flagged=1, checked=400),
    }
    found = copying(copies(found=True, flagged=13, classes=rare))
    assert found.tone == "bad"
    assert "Too many of one class: rare (12 of 100)" in found.because
    assert "b (" not in found.because


def test_blur_is_the_reason_only_where_it_is() -> None:
    blurred = copying(copies(flagged=30, exchanged_flagged=28))
    assert "blurred or typical" in blurred.because
    few = copying(copies(flagged=14, exchanged_flagged=0, p_value=0.02, exchanged_p_value=0.001))
    assert few.tone == "unsure"
    assert "see the pairs" in few.headline
    assert "blur does not explain it" in few.because
    one = copying(copies(flagged=200, exchanged_flagged=0, cells=3, p_value=0.0, exchanged_p_value=0.125))
    assert one.tone == "unsure"
    assert "few training cells, 3, are behind all alarms" in one.because
    assert "blur does not explain" not in one.because


def test_what_could_not_be_checked_is_not_called_clean() -> None:
    found = copying(copies(unchecked=("rare",)))
    assert (found.tone, "that could be checked" in found.headline) == ("unsure", True)
    assert "Too few training cells to check: rare" in found.because
    assert "copies from blur: few" in copying(copies(uncounted=("few",))).because
    assert copying(copies(uncounted=("few",))).tone == "good"


@pytest.mark.parametrize("flagged", [5, 30])
def test_a_set_that_leans_on_training_is_said_to(flagged) -> None:
    leaning = copies(share_nearer_to_train=0.6, nearer_low=0.51, nearer_high=0.69, flagged=flagged)
    assert "60 % of synthetic cells are nearer to training photos" in copying(leaning).because
    assert "nearer" not in copying(copies(flagged=flagged)).because
