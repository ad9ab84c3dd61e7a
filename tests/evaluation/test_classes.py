from __future__ import annotations

import numpy as np
import pytest

from cytoforge.core.errors import DataError
from cytoforge.evaluation.classes import confusion, shares_recognised, train_classifier


def test_classifier_learns_separable_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    centres = 3 * rng.normal(size=(3, 20))
    classifier = train_classifier(centres[labels] + rng.normal(size=(150, 20)), labels)
    unseen = centres[labels] + rng.normal(size=(150, 20))
    assert (classifier.predict(unseen) == labels).mean() > 0.95


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="two classes"):
        train_classifier(np.eye(6), np.zeros(6, np.int64))


def test_shares_come_with_wilson_intervals_and_without_empty_classes() -> None:
    table = confusion(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 0, 0]), 3)
    assert table == ((3, 1, 0), (1, 0, 0), (0, 0, 0))
    shares = shares_recognised(table, ("a", "b", "c"))
    assert set(shares) == {"a", "b"}
    assert shares["a"].value == 0.75
    assert shares["a"].low < 0.75 < shares["a"].high
    assert shares["b"].count == 1
