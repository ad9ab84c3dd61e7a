"""Whether synthetic images show the class that was asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from cytoforge.core.errors import DataError
from cytoforge.evaluation.distances import Floats, check_features
from cytoforge.evaluation.metrics import Share
from cytoforge.evaluation.statistics import wilson

STRENGTH = 0.01
"""Inverse weight of the ridge penalty, chosen on SIPaKMeD training photos."""


def train_classifier(features: Floats, labels: NDArray[np.int64]) -> Pipeline:
    """A logistic regression on standardised features; every class weighs the same.

    Args:
        features: (N, D) of real training images.
        labels: (N,) their classes, two or more different ones.

    Raises:
        DataError: only one class, or the shapes do not fit.
    """
    check_features(features)
    if len(np.unique(labels)) < 2:
        raise DataError("a classifier needs training images of two classes or more.")
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000, tol=1e-3)
    classifier: Pipeline = make_pipeline(StandardScaler(), model)
    classifier.fit(features, labels)
    return classifier


def confusion(
    labels: NDArray[np.int64], recognised: NDArray[np.int64], classes: int
) -> tuple[tuple[int, ...], ...]:
    """Counts by class asked for (row) and recognised (column).

    Example:
        >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
        ((1, 1), (0, 1))
    """
    table = np.bincount(labels * classes + recognised, minlength=classes * classes)
    return tuple(tuple(int(count) for count in row) for row in table.reshape(classes, classes))


def same_mix(labels: NDArray[np.int64], wanted: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Weights (N,) that give cells of `labels` (N,) the mix of classes that `wanted` (M,) has.

    Example:
        >>> same_mix(np.array([0, 0, 0, 1]), np.array([0, 1]), 2).round(2).tolist()
        [0.33, 0.33, 0.33, 1.0]
    """
    own, other = (np.bincount(each, minlength=classes) for each in (labels, wanted))
    weights: NDArray[np.float64] = (other / np.maximum(own, 1))[labels]
    return weights


def shares_recognised(table: tuple[tuple[int, ...], ...], labels: tuple[str, ...]) -> dict[str, Share]:
    """The diagonal of a confusion as shares with intervals; classes without images are left out.

    Example:
        >>> shares_recognised(((1, 1), (0, 1)), ("a", "b"))["a"].value
        0.5
    """
    found = {}
    for index, (label, row) in enumerate(zip(labels, table, strict=True)):
        if total := sum(row):
            low, high = wilson(row[index], total)
            found[label] = Share(value=row[index] / total, low=low, high=high, count=total)
    return found
