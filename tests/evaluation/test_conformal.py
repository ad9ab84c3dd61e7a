from __future__ import annotations

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.evaluation.conformal import (
    class_scores,
    class_thresholds,
    coverage_range,
    covered,
    lac_scores,
    prediction_sets,
    threshold,
    true_class_scores,
)


class Stated(ClassifierMixin, BaseEstimator):
    """A classifier whose input is what it answers."""

    def fit(self, X, y=None):
        self.classes_ = np.arange(4)
        self.fitted_ = True
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return X.argmax(1)


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.5), size=count)
    probabilities /= probabilities.sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) < rng.random((count, 1))).sum(1).clip(0, 3)
    return probabilities, labels


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_lac_sets_equal_those_of_mapie(coverage: float):
    probabilities, labels = drawn(460)
    theirs = SplitConformalClassifier(Stated().fit(None), coverage, conformity_score="lac", prefit=True)
    theirs.conformalize(probabilities[:60], labels[:60])
    _, expected = theirs.predict_set(probabilities[60:])
    scores = lac_scores(probabilities)
    limit = threshold(true_class_scores(scores[:60], labels[:60]), coverage)
    np.testing.assert_array_equal(prediction_sets(scores[60:], limit), expected[:, :, 0])


class NoDraws(np.random.RandomState):
    """Takes the chance out of mapie's scores, which are then those that `calibrate --score aps` uses."""

    def uniform(self, low=0.0, high=1.0, size=None):
        return np.zeros(size)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_aps_sets_equal_those_of_mapie(coverage: float):
    probabilities, labels = drawn(460)
    theirs = SplitConformalClassifier(
        Stated().fit(None), coverage, conformity_score="aps", prefit=True, random_state=NoDraws()
    )
    theirs.conformalize(probabilities[:60], labels[:60])
    _, expected = theirs.predict_set(
        probabilities[60:], conformity_score_params={"include_last_label": False}
    )
    scores = class_scores(probabilities, "aps")
    limit = threshold(true_class_scores(scores[:60], labels[:60]), coverage)
    ours = prediction_sets(scores[60:], limit)
    empty = ~ours.any(1)
    np.testing.assert_array_equal(ours[~empty], expected[~empty, :, 0])
    np.testing.assert_array_equal(  # mapie leaves no set empty: it keeps the likeliest class
        expected[empty, :, 0], np.eye(4, dtype=bool)[probabilities[60:][empty].argmax(1)]
    )


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
def test_sets_by_class_equal_those_of_mapie_on_each_class_alone():
    """mapie has no sets by class; a limit from one class's cells decides on that class alone."""
    probabilities, labels = drawn(600)
    known, labels = probabilities[:200], labels[:200]
    scores = lac_scores(probabilities)
    ours = prediction_sets(scores[200:], class_thresholds(scores[:200], labels, 0.9))
    for label in range(4):
        theirs = SplitConformalClassifier(Stated().fit(None), 0.9, conformity_score="lac", prefit=True)
        theirs.conformalize(known[labels == label], labels[labels == label])
        _, expected = theirs.predict_set(probabilities[200:])
        np.testing.assert_array_equal(ours[:, label], expected[:, label, 0])


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_coverage_on_new_images_is_within_binomial_bounds(score):
    probabilities, labels = drawn(4000, 1)
    scores = class_scores(probabilities, score)
    limit = threshold(true_class_scores(scores[:2000], labels[:2000]), 0.9)
    share = covered(prediction_sets(scores[2000:], limit), labels[2000:]).mean()
    low, high = coverage_range(2000, 2000, 0.9, 0.999)
    assert low <= share <= high


def test_a_range_of_coverage_holds_as_often_as_it_says():
    inside = []
    low, high = coverage_range(60, 80, 0.9)
    for seed in range(300):
        scores = np.random.default_rng(seed).random(140)
        inside.append(low <= (scores[60:] <= threshold(scores[:60], 0.9)).mean() <= high)
    assert stats.binomtest(sum(inside), 300, 0.95).pvalue > 1e-4


def grouped(groups: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of cells that resemble the others of their photo; large photos are the hard ones."""
    hard = rng.random(groups)
    sizes = 1 + (19 * hard).astype(int)
    code = np.repeat(np.arange(groups), sizes)
    return hard[code] + 0.1 * rng.normal(size=len(code)), code


def test_groups_keep_the_promise_where_cells_taken_as_independent_break_it():
    rng = np.random.default_rng(0)
    naive, by_group = [], []
    for _ in range(600):
        scores, code = grouped(25, rng)
        new, new_code = grouped(30, rng)
        first = np.unique(new_code, return_index=True)[1]  # one cell of each new photo
        by_group.append((new[first] <= threshold(scores, 0.8, code.tolist())).mean())
        # photos turned round: many cells of easy photos make the threshold too low
        naive.append((1 - new[first] <= threshold(1 - scores, 0.8)).mean())
    assert 0.795 <= np.mean(by_group) <= 0.85
    assert np.mean(naive) < 0.75


def test_each_class_is_covered_where_one_threshold_leaves_the_hard_class_behind():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [1800, 200])
    true = np.where(labels == 0, rng.beta(8, 1, 2000), rng.beta(2, 2, 2000))
    probabilities = np.where(labels[:, None] == [0, 1], true[:, None], 1 - true[:, None])
    known = np.arange(2000) % 2 == 0
    scores = lac_scores(probabilities)
    one = threshold(true_class_scores(scores[known], labels[known]), 0.9)
    each = class_thresholds(scores[known], labels[known], 0.9)
    hard = ~known & (labels == 1)
    assert covered(prediction_sets(scores[hard], one), labels[hard]).mean() < 0.7
    low, _ = coverage_range(100, 100, 0.9, 0.999)
    assert covered(prediction_sets(scores[hard], each), labels[hard]).mean() >= low


def test_too_few_groups_promise_nothing_and_say_so_by_taking_every_class():
    limit = threshold(np.arange(50.0), 0.9, ["photo"] * 25 + ["other"] * 25)
    assert limit == float("inf")
    assert prediction_sets(np.zeros((2, 3)), limit).all()
    assert class_thresholds(np.zeros((3, 2)), np.zeros(3, np.int64), 0.5).tolist() == [0.0, float("inf")]


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="coverage"):
        threshold(np.zeros(3), 1.0)
    with pytest.raises(ConfigError, match="lac"):
        class_scores(np.ones((1, 2)), "raps")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="range"):
        coverage_range(0, 3, 0.9)
