"""Whether stated probabilities come true, and the one number that mends most of what does not.

Probabilities are calibrated if of all cells called with 80 % four of five are called rightly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from cytoforge.core.errors import DataError
from cytoforge.core.randomness import derive
from cytoforge.core.record import Record
from cytoforge.evaluation.distances import Floats
from cytoforge.evaluation.statistics import wilson

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures are sought between these."""


class Bin(Record):
    """The images whose highest probability lies in one range.

    Attributes:
        low: lower end of the range, excluded except for 0.
        high: upper end, included.
        count: images, at least 1.
        confidence: mean of their highest probabilities.
        accuracy: share called rightly.
        accuracy_low: lower end of its 95 % interval (Wilson; images taken as independent).
        accuracy_high: upper end.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


class Reliability(Record):
    """How far probabilities are from what happens.

    Attributes:
        images: how many.
        error: expected calibration error, see `expected_calibration_error`.
        chance_error: mean of the same if the probabilities were exactly right: the floor at this many images.
        chance_high: its 95th percentile; a larger error is not chance.
        brier: see `brier`.
        log_loss: mean of -log of the true class's probability.
        accuracy: share called rightly.
        confidence: mean of the highest probabilities.
        bins: the reliability diagram.
    """

    images: int
    error: float
    chance_error: float
    chance_high: float
    brier: float
    log_loss: float
    accuracy: float
    confidence: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Abstention:
    """What is left when the least sure images are handed to a person.

    Attributes:
        kept: (N,) shares of images that are still answered, ascending from 1/N to 1.
        error: (N,) share of wrong answers among those kept.
        area: mean of `error`, the area under the curve; lower is better.
        least_area: the same if every wrong answer were given up before any right one.
    """

    kept: Floats
    error: Floats
    area: float
    least_area: float


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Probabilities of logits divided by a temperature.

    Args:
        logits: (N, K).
        temperature: above 1 makes answers less sure, below 1 surer; the order of classes never changes.

    Returns:
        (N, K), rows that sum to 1.

    Example:
        >>> softmax(np.log([[0.8, 0.2]])).round(6).tolist()
        [[0.8, 0.2]]
        >>> softmax(np.log([[0.8, 0.2]]), temperature=2).round(6).tolist()
        [[0.666667, 0.333333]]
    """
    probabilities: Floats = special.softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return probabilities


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature at which the true classes of held-out images are most probable.

    Args:
        logits: (N, K) of images that the network was not trained on.
        labels: (N,) their classes.

    Returns:
        Temperature between `COLDEST` and `HOTTEST`; the loss is convex in its inverse.

    Raises:
        DataError: there is no image, or logits are not finite.

    Reference:
        Guo et al., On calibration of modern neural networks, ICML 2017 (https://arxiv.org/abs/1706.04599),
        section 4.2.
    """
    values = np.asarray(logits, np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise DataError("a temperature needs finite logits of at least one held-out image.")
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = values * np.exp(-log_temperature)
        return float((special.logsumexp(scaled, axis=1) - scaled[rows, labels]).mean())

    found = optimize.minimize_scalar(
        loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def expected_calibration_error(labels: NDArray[np.int64], probabilities: Floats, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by their images.

        ECE = sum over bins b of n_b / N |accuracy_b - confidence_b|

    It is above 0 even for exact probabilities where images are few; compare it with `chance_errors`.

    Args:
        labels: (N,).
        probabilities: (N, K).
        bins: of the highest probability.

    Example:
        >>> expected_calibration_error(np.array([0, 1]), np.array([[0.9, 0.1], [0.9, 0.1]]))
        0.4

    Reference:
        Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    return _error(confidence, right, bins)


def brier(labels: NDArray[np.int64], probabilities: Floats) -> float:
    """Mean over images of the squared distance between probabilities and the true class, from 0 to 2.

    Example:
        >>> round(brier(np.array([0]), np.array([[0.8, 0.2]])), 6)
        0.08

    Reference:
        Brier, Verification of forecasts expressed in terms of probability, 1950.
    """
    squares = (probabilities**2).sum(1) - 2 * probabilities[np.arange(len(labels)), labels] + 1
    return float(squares.mean())


def chance_errors(probabilities: Floats, repeats: int = 500, bins: int = BINS, seed: int = 0) -> Floats:
    """Calibration errors that exact probabilities give at this number of images.

    In each repeat every image is right with just the probability that was stated for it.

    Args:
        probabilities: (N, K).
        repeats: how many.
        bins: as in `expected_calibration_error`.
        seed: of the draws.

    Returns:
        (repeats,)

    Reference:
        Broecker and Smith, Increasing the reliability of reliability diagrams, Weather and Forecasting 2007.
    """
    confidence = probabilities.max(1)
    rng = np.random.default_rng(derive(seed, "chance errors"))
    return np.array(
        [_error(confidence, rng.random(len(confidence)) < confidence, bins) for _ in range(repeats)]
    )


def reliability(
    labels: NDArray[np.int64], probabilities: Floats, bins: int = BINS, seed: int = 0
) -> Reliability:
    """Everything about the calibration of some images.

    Args:
        labels: (N,), N at least 1.
        probabilities: (N, K).
        bins: of the diagram.
        seed: of the comparison with chance.

    Raises:
        DataError: there are no images.
    """
    if not len(labels):
        raise DataError("calibration needs held-out images, got none.")
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    chance = chance_errors(probabilities, bins=bins, seed=seed)
    true = probabilities[np.arange(len(labels)), labels]
    return Reliability(
        images=len(labels),
        error=_error(confidence, right, bins),
        chance_error=float(chance.mean()),
        chance_high=float(np.quantile(chance, 0.95)),
        brier=brier(labels, probabilities),
        log_loss=float(-np.log(np.maximum(true, 1e-300)).mean()),
        accuracy=float(right.mean()),
        confidence=float(confidence.mean()),
        bins=_diagram(confidence, right, bins),
    )


def abstention(labels: NDArray[np.int64], probabilities: Floats) -> Abstention:
    """Errors among the surest images, for every number of images that could be kept.

    Args:
        labels: (N,), N at least 1.
        probabilities: (N, K).

    Example:
        >>> abstention(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]])).error.tolist()
        [0.0, 0.5]

    Reference:
        Geifman and El-Yaniv, Selective classification for deep neural networks, NeurIPS 2017.
        https://arxiv.org/abs/1705.08500
    """
    wrong = probabilities.argmax(1) != labels
    order = np.argsort(-probabilities.max(1), kind="stable")
    numbers = np.arange(1, len(labels) + 1)
    error, least = np.cumsum(wrong[order]) / numbers, np.cumsum(np.sort(wrong)) / numbers
    return Abstention(numbers / len(labels), error, float(error.mean()), float(least.mean()))


def _bin_of(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """Bin b holds b / bins < confidence <= (b + 1) / bins, as in all published implementations."""
    return np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="left") - 1, 0, bins - 1)


def _error(confidence: Floats, right: NDArray[np.bool_], bins: int) -> float:
    gaps = np.bincount(_bin_of(confidence, bins), right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def _diagram(confidence: Floats, right: NDArray[np.bool_], bins: int) -> tuple[Bin, ...]:
    code, edges = _bin_of(confidence, bins), np.linspace(0, 1, bins + 1)
    found = []
    for index in np.unique(code):
        own = code == index
        low, high = wilson(int(right[own].sum()), int(own.sum()))
        found.append(
            Bin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                count=int(own.sum()),
                confidence=float(confidence[own].mean()),
                accuracy=float(right[own].mean()),
                accuracy_low=low,
                accuracy_high=high,
            )
        )
    return tuple(found)
