"""Sets of classes that hold the true one with a stated probability, whatever the network is like.

A score says how badly a class fits an image. Of calibration images, which the network was not trained on, the
scores of the true classes are known; a class is in the set of a new image if its score is no higher than all
but a small share of those.

Cells of one photo are alike, so cells are not exchangeable, but photos are. Each group (photo, slide or
patient) therefore weighs the same, its cells share that weight, and one group more than there is is reckoned
with.
The promise is for a cell of a **new** group that comes from where the calibration groups came from; the share
within one photo can be far from it, and another scanner or stain breaks it.

Reference:
    Vovk, Gammerman and Shafer, Algorithmic learning in a random world, 2005.
    Lee, Barber and Willett, Distribution-free inference with hierarchical data, 2023, section 3.
    https://arxiv.org/abs/2306.06342
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.evaluation.distances import Floats

Score = Literal["lac", "aps"]
"""lac: 1 - probability, the smallest sets. aps: probability of all likelier classes, sets that adapt to how
hard an image is."""


def lac_scores(probabilities: Floats) -> Floats:
    """One minus the probability of each class: (N, K) gives (N, K).

    Example:
        >>> lac_scores(np.array([[0.75, 0.25]])).tolist()
        [[0.25, 0.75]]

    Reference:
        Sadinle, Lei and Wasserman, Least ambiguous set-valued classifiers with bounded error levels, JASA
        2019.
        https://arxiv.org/abs/1609.00451
    """
    scores: Floats = 1 - np.asarray(probabilities, np.float64)
    return scores


def aps_scores(probabilities: Floats) -> Floats:
    """Probability of each class and of all that are likelier: (N, K) gives (N, K).

    The paper takes off a random share of the class's own probability, for exact coverage; without it sets are
    a little larger and always the same.

    Example:
        >>> aps_scores(np.array([[0.25, 0.5, 0.25]])).tolist()
        [[0.75, 0.5, 1.0]]

    Reference:
        Romano, Sesia and Candes, Classification with valid and adaptive coverage, NeurIPS 2020.
        https://arxiv.org/abs/2006.02544
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    summed = np.cumsum(np.take_along_axis(probabilities, order, 1), axis=1)
    scores = np.empty_like(summed)
    np.put_along_axis(scores, order, summed, 1)
    return scores


def class_scores(probabilities: Floats, score: Score = "lac") -> Floats:
    """Scores (N, K) of either kind."""
    if score not in ("lac", "aps"):
        raise ConfigError(f'score "{score}" is unknown; choose "lac" or "aps".')
    return lac_scores(probabilities) if score == "lac" else aps_scores(probabilities)


def threshold(scores: Floats, coverage: float, groups: Sequence[str] | None = None) -> float:
    """The score that a new image's true class exceeds with a chance of at most 1 - coverage.

    The smallest t with

        1 / (G + 1) sum over groups g of (share of scores of g that are <= t) >= coverage

    With one image to a group this is the ceil((n + 1) coverage)-th smallest score.

    Args:
        scores: (n,) of the calibration images' true classes.
        coverage: wanted, between 0 and 1.
        groups: (n,) group of each; None where every image is its own.

    Returns:
        Threshold, infinite where so few groups cannot promise so much: G / (G + 1) must reach `coverage`.

    Raises:
        ConfigError: the coverage is not between 0 and 1.

    Example:
        >>> scores = np.arange(1.0, 20.0)
        >>> threshold(scores, 0.9), threshold(scores, 0.96)
        (18.0, inf)
        >>> threshold(np.array([1.0, 5.0, 6.0]), 0.4, ["a", "b", "b"])
        5.0
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must lie between 0 and 1, got {coverage}.")
    if not len(scores):
        return float("inf")
    _, code, size = np.unique(
        np.arange(len(scores)) if groups is None else np.asarray(groups),
        return_inverse=True,
        return_counts=True,
    )
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / size[code[order]]) / (len(size) + 1)
    place = int(np.searchsorted(reached, coverage - 1e-9))
    return float(scores[order[place]]) if place < len(order) else float("inf")


def class_thresholds(
    scores: Floats, labels: NDArray[np.int64], coverage: float, groups: Sequence[str] | None = None
) -> Floats:
    """A threshold for each class from its own images: rare and hard classes are covered too (Mondrian).

    Args:
        scores: (n, K) of the calibration images.
        labels: (n,).
        coverage: wanted within each class.
        groups: (n,) or None.

    Returns:
        (K,), infinite for classes with too few groups.
    """
    names = None if groups is None else np.asarray(groups)
    return np.array(
        [
            threshold(scores[own, label], coverage, None if names is None else names[own].tolist())
            for label in range(scores.shape[1])
            for own in [labels == label]
        ]
    )


def true_class_scores(scores: Floats, labels: NDArray[np.int64]) -> Floats:
    """The scores (N,) of the images' own classes, from (N, K)."""
    own: Floats = scores[np.arange(len(labels)), labels]
    return own


def prediction_sets(scores: Floats, limit: float | Floats) -> NDArray[np.bool_]:
    """Which classes are in the set of each image.

    Args:
        scores: (N, K).
        limit: one threshold, or (K,).

    Returns:
        (N, K). A set may be empty: no class fits as well as calibration images' own classes do.

    Example:
        >>> prediction_sets(np.array([[0.1, 0.9], [0.4, 0.6]]), 0.6).tolist()
        [[True, False], [True, True]]
    """
    inside: NDArray[np.bool_] = scores <= np.asarray(limit) + 1e-12
    return inside


def covered(sets: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the set (N, K) of each image holds its class (N,)."""
    inside: NDArray[np.bool_] = sets[np.arange(len(labels)), labels]
    return inside


def coverage_range(
    calibration: int, tested: int, coverage: float, level: float = 0.95
) -> tuple[float, float]:
    """Shares of covered images that a right method gives with a chance of `level`.

    Both the finite calibration set and the finite test set blur it; their number of covered images is
    beta-binomial. For groups give numbers of groups: then the range is that of one cell drawn from each.

    Args:
        calibration: independent images, or groups.
        tested: likewise.
        coverage: wanted.
        level: of the range.

    Raises:
        DataError: no images.

    Example:
        >>> low, high = coverage_range(1000, 1000, 0.9)
        >>> round(low, 2), round(high, 2)
        (0.87, 0.93)

    Reference:
        Angelopoulos and Bates, A gentle introduction to conformal prediction, 2021, section 3.2.
        https://arxiv.org/abs/2107.07511
    """
    if calibration < 1 or tested < 1:
        raise DataError("a range of coverage needs calibration images and test images.")
    rank = min(calibration, int(np.ceil((calibration + 1) * coverage - 1e-9)))
    share = stats.betabinom(tested, rank, calibration + 1 - rank)
    low, high = share.ppf(0.5 - level / 2), share.ppf(0.5 + level / 2)
    return float(low / tested), float(high / tested)
