from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from cytoforge.core.errors import DataError
from cytoforge.data.folds import Fold
from cytoforge.evaluation.classification import _auc, roc, roc_band, score
from cytoforge.evaluation.leakage import leak_inflation, with_sibling

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 120)
VALUES = RNG.dirichlet(np.ones(3), 120).round(2) + 0.5 * np.eye(3)[LABELS] * RNG.random((120, 1))
PROBABILITIES = VALUES / VALUES.sum(1, keepdims=True)
GROUPS = [f"photo {index // 4}" for index in range(120)]
NAMED = PROBABILITIES.argmax(1)


def test_scores_are_those_of_scikit_learn() -> None:
    found = score(LABELS, PROBABILITIES, ("a", "b", "c"), GROUPS)
    table = metrics.precision_recall_fscore_support(LABELS, NAMED)
    for index, name in enumerate("abc"):
        ours = found.classes[name]
        wanted = [column[index] for column in table]
        assert [ours.precision.value, ours.recall.value, ours.f1.value, ours.support] == pytest.approx(wanted)
        area = metrics.roc_auc_score(index == LABELS, PROBABILITIES[:, index])
        assert ours.auc.value == pytest.approx(area)
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(LABELS, NAMED))
    assert found.balanced_accuracy.value == pytest.approx(metrics.balanced_accuracy_score(LABELS, NAMED))
    assert found.macro_f1.value == pytest.approx(metrics.f1_score(LABELS, NAMED, average="macro"))
    assert found.macro_auc.value == pytest.approx(
        metrics.roc_auc_score(LABELS, PROBABILITIES, average="macro", multi_class="ovr")
    )
    assert (np.array(found.confusion) == metrics.confusion_matrix(LABELS, NAMED)).all()
    assert (found.count, found.groups) == (120, 30)


def test_weighted_areas_are_those_of_scikit_learn() -> None:
    weights = RNG.integers(0, 4, (5, 120)).astype(float)
    ours = _auc(PROBABILITIES[:, 1], LABELS == 1, weights)
    theirs = [metrics.roc_auc_score(LABELS == 1, PROBABILITIES[:, 1], sample_weight=row) for row in weights]
    np.testing.assert_allclose(ours, theirs)
    assert np.isnan(_auc(PROBABILITIES[:, 1], LABELS == 7, weights)).all()


def test_intervals_hold_the_value_and_know_groups() -> None:
    found = score(LABELS, PROBABILITIES, ("a", "b", "c"), GROUPS)
    for number in (found.accuracy, found.macro_f1, found.macro_auc, found.classes["b"].recall):
        assert number.low <= number.value <= number.high
    right = np.repeat(RNG.random(30) < 0.7, 4)  # whole photos right or wrong
    shown = np.where(right, LABELS, (LABELS + 1) % 3)
    wide = score(LABELS, np.eye(3)[shown], ("a", "b", "c"), GROUPS).accuracy
    narrow = score(LABELS, np.eye(3)[shown], ("a", "b", "c")).accuracy
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 120), rel=0.25)


def test_a_class_without_images_is_left_out() -> None:
    found = score(np.array([0, 1, 1]), np.eye(3)[[0, 1, 2]], ("a", "b", "c"))
    assert set(found.classes) == {"a", "b"}
    assert found.balanced_accuracy.value == pytest.approx(0.75)
    assert found.confusion == ((1, 0, 0), (0, 1, 1), (0, 0, 0))


def test_rows_of_the_confusion_have_intervals_over_photos() -> None:
    """One photo's cells of "a" are named rightly, those of the other wrongly: samples hold one or both."""
    labels, named = np.tile([0, 0, 0, 0, 1, 1], 2), np.repeat([0, 1], 6)
    photos = np.repeat(["first", "second"], 6).tolist()
    row = score(labels, np.eye(3)[named], ("a", "b", "c"), photos).classes["a"].named
    assert {name: (each.value, each.low, each.high) for name, each in row.items()} == {
        "a": (0.5, 0, 1), "b": (0.5, 0, 1),
    }  # fmt: skip
    alone = score(labels, np.eye(3)[named], ("a", "b", "c")).classes["a"]
    assert 0 < alone.named["b"].low < alone.named["b"].high < 1, "eight independent cells"
    assert alone.named["a"] == alone.recall


def test_the_band_of_a_roc_curve_holds_it_and_is_wider_where_photos_differ() -> None:
    rng = np.random.default_rng(0)
    labels, photos = np.arange(600) % 2 == 0, np.arange(600) // 30
    values = np.round(labels + rng.normal(0, 1, 600) + rng.normal(0, 1, 20)[photos] * labels, 1)
    grid, low, high = roc_band(labels, values, [str(row) for row in range(600)])
    _, below, above = roc_band(labels, values, [str(photo) for photo in photos])
    hits = np.interp(grid, *roc(labels, values))
    assert (low <= hits).all()
    assert (hits <= high).all()
    assert np.mean(above - below) > 1.5 * np.mean(high - low)


def test_the_band_of_one_photo_is_the_curve_itself() -> None:
    labels, values = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.8, 0.1])
    grid, low, high = roc_band(labels, values, ["a"] * 4, repeats=5)
    np.testing.assert_allclose(low, np.interp(grid, [0, 0, 0.5, 1], [0, 0.5, 1, 1]))
    np.testing.assert_allclose(low, high)


def test_the_band_begins_at_the_origin_where_values_tie() -> None:
    labels, values = np.arange(200) % 2 == 0, np.where(np.arange(200) < 80, 0.9, 0.1)
    _, low, high = roc_band(labels, values, [str(row) for row in range(200)])
    assert low[0] == high[0] == 0


def test_one_photo_says_nothing_of_others() -> None:
    labels, named = np.repeat([0, 1], [40, 8]), np.repeat([0, 1, 0], [40, 6, 2])
    groups = [str(row // 4) for row in range(40)] + ["last"] * 8
    found = score(labels, np.eye(2)[named], ("a", "b"), groups)
    rare = found.classes["b"]
    assert (rare.recall.value, rare.recall.low, rare.recall.high) == (0.75, 0, 1)
    assert (rare.precision.value, rare.precision.low) == (1, 0)
    assert 0.5 < found.accuracy.low < found.accuracy.high == 1
    alone = score(labels, np.eye(2)[named], ("a", "b"), ["one"] * 48)
    assert (alone.accuracy.low, alone.accuracy.high) == (0, 1)


def test_precision_is_not_nought_where_a_sample_lacks_the_class() -> None:
    """Two of six photos hold the class: a bootstrap sample has neither in one of eleven."""
    labels = np.repeat([0, 1, 0, 1, 0, 0], 20)
    named = labels.copy()
    named[::25] = 1
    found = score(labels, np.eye(2)[named], ("a", "b"), [str(row // 20) for row in range(120)])
    assert 0.5 < found.classes["b"].precision.low < found.classes["b"].precision.value


def test_what_cannot_be_scored() -> None:
    with pytest.raises(DataError, match="do not fit"):
        score(LABELS, PROBABILITIES[:5], ("a", "b", "c"))
    with pytest.raises(DataError, match="diverge"):
        score(LABELS, PROBABILITIES * np.nan, ("a", "b", "c"))
    with pytest.raises(DataError, match="two classes"):
        score(LABELS * 0, PROBABILITIES, ("a", "b", "c"))


def test_leaks_by_hand() -> None:
    labels = np.zeros(8, np.int64)
    at_random, by_group = np.array([0] * 7 + [1]), np.array([0] * 5 + [1] * 3)
    leak = leak_inflation(labels, at_random, by_group, [str(index) for index in range(8)])
    assert leak.value == pytest.approx(2 / 8)
    assert 0 <= leak.low <= leak.value <= leak.high <= 0.75
    folds = [Fold(np.array([0, 1]), np.array([2, 3])), Fold(np.array([2, 3]), np.array([0, 1]))]
    assert with_sibling(folds, ["a", "b", "a", "c"]) == 0.5
