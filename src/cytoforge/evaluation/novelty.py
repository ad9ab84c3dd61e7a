"""Whether an image is of a kind that a classifier has never seen, so that its answer means nothing.

Distances are taken in the classifier's own features. The limit is the distance that a stated share of real
unseen cells exceeds, found on held-out groups, so the false-alarm rate is known and the rate of detection is
not: it depends on what comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.covariance import ledoit_wolf

from cytoforge.core.errors import DataError
from cytoforge.evaluation.distances import Floats, check_features, one_thread, unit_length
from cytoforge.evaluation.memorisation import nearest

Kind = Literal["neighbours", "mahalanobis"]
"""neighbours: distance to the k-th nearest training cell, of features at unit length. mahalanobis: to the
nearest class centre in the shared covariance of the classes."""

NEIGHBOUR = 10
"""Which nearest training cell counts; fewer training cells than that count all."""


@dataclass(frozen=True)
class Known:
    """What training cells look like to the classifier.

    Attributes:
        kind: see `Kind`.
        features: (T, D) of the training cells; at unit length for "neighbours".
        centres: (K, D) of the classes in whitened features; empty for "neighbours".
        whitening: (D, D), empty for "neighbours".
    """

    kind: Kind
    features: Floats
    centres: Floats
    whitening: Floats

    def distances(self, features: NDArray[np.floating]) -> Floats:
        """How far images are from anything known.

        Args:
            features: (N, D).

        Returns:
            (N,) not negative, higher is stranger.
        """
        values = np.asarray(features, np.float64)
        if self.kind == "neighbours":
            found = nearest(unit_length(values), self.features, NEIGHBOUR)
            return found.distances[:, -1]
        white = values @ self.whitening
        squared = ((white[:, None] - self.centres) ** 2).sum(2)
        distances: Floats = np.sqrt(squared.min(1))
        return distances


def learn_known(
    features: NDArray[np.floating], labels: NDArray[np.int64], kind: Kind = "neighbours"
) -> Known:
    """What the training cells look like.

    Args:
        features: (T, D) of training cells.
        labels: (T,) their classes.
        kind: see `Kind`.

    Raises:
        DataError: fewer than two training cells, or features that are not finite.

    Reference:
        Sun et al., Out-of-distribution detection with deep nearest neighbors, ICML 2022.
        https://arxiv.org/abs/2204.06507
        Lee et al., A simple unified framework for detecting out-of-distribution samples, NeurIPS 2018.
        https://arxiv.org/abs/1807.03888
    """
    values = np.asarray(features, np.float64)
    check_features(values)
    empty = np.empty((0, 0))
    if kind == "neighbours":
        return Known(kind, unit_length(values), empty, empty)
    present = np.unique(labels)
    means = np.stack([values[labels == label].mean(0) for label in present])
    if len(values) <= len(present):
        raise DataError("a covariance needs more training cells than classes.")
    with one_thread():
        covariance, _ = ledoit_wolf(values - means[np.searchsorted(present, labels)], assume_centered=True)
        scale, directions = linalg.eigh(covariance)
    whitening = directions / np.sqrt(np.maximum(scale, 1e-9 * scale.max()))
    return Known(kind, values, means @ whitening, whitening)
