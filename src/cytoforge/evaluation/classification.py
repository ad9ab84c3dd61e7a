"""How good class probabilities are: accuracy, F1, ROC and more, each with an interval over groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cytoforge.core.errors import DataError
from cytoforge.core.randomness import derive
from cytoforge.core.record import Record
from cytoforge.evaluation.classes import confusion
from cytoforge.evaluation.statistics import bootstrap_mean

Floats = NDArray[np.float64]

_CHUNK = 128


class Estimate(Record):
    """A number and its percentile interval over bootstrap samples of whole groups.

    Attributes:
        value: of all images.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


class ClassScores(Record):
    """How well one class is found.

    Attributes:
        support: images of the class.
        precision: share of the images so named that are of the class; 0 where none is so named.
        recall: share of the class's images that are so named.
        f1: harmonic mean of both.
        auc: area under the ROC curve, this class against the rest.
        named: class -> share of the class's images that are so named, a row of the confusion. Without its
            zeros: 0 in every bootstrap sample, their intervals would say nothing.
    """

    support: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    auc: Estimate
    named: dict[str, Estimate] = Field(default_factory=dict)


class Scores(Record):
    """How well a classifier does on images it has not seen.

    Attributes:
        count: images.
        groups: groups that they belong to.
        level: coverage of the intervals.
        accuracy: share named rightly.
        balanced_accuracy: mean recall over the classes.
        macro_f1: mean F1 over the classes.
        macro_auc: mean one-vs-rest AUC over the classes.
        classes: name -> scores; classes without images are left out, here and in the means.
        confusion: counts by true class (row) and named class (column), in the order of `labels`.
        labels: names of all classes.
    """

    count: int
    groups: int
    level: float
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    macro_auc: Estimate
    classes: dict[str, ClassScores]
    confusion: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]


def score(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    level: float = 0.95,
    repeats: int = 1000,
) -> Scores:
    """Scores of class probabilities; intervals hold the classifier fixed and draw the tested groups anew.

    Args:
        labels: (N,) true classes.
        probabilities: (N, K); anything whose largest value names the class, such as logits, will do.
        classes: (K) names.
        groups: (N,) photo or patient of each; None where each image stands for itself.
        seed: of the bootstrap.
        level: coverage of the intervals.
        repeats: bootstrap samples.

    Raises:
        DataError: shapes do not fit, values are not finite, or fewer than two classes have images.

    Example:
        >>> found = score(np.array([0, 1, 1, 0]), np.eye(2)[[0, 1, 0, 0]], ("a", "b"))
        >>> found.accuracy.value, found.classes["b"].recall.value, found.confusion
        (0.75, 0.5, ((2, 0), (1, 1)))
    """
    _check(labels, probabilities, classes, groups)
    count = len(classes)
    named = probabilities.argmax(1)
    code = np.unique(np.arange(len(labels)) if groups is None else np.asarray(groups), return_inverse=True)[1]
    size = int(code.max()) + 1
    draws = _draws(size, repeats, seed)
    whole = np.ones((1, size))
    tables = np.zeros((size, count * count))
    np.add.at(tables, (code, labels * count + named), 1)
    present = np.unique(labels)
    sources = (tables.reshape(size, count, count).sum(2) > 0).sum(0)

    def rates(weights: Floats) -> dict[str, Floats]:
        drawn = (weights @ tables).reshape(-1, count, count)
        found = class_rates(drawn)
        with np.errstate(invalid="ignore"):
            found["named"] = drawn / drawn.sum(2, keepdims=True)
        aucs = [_auc(probabilities[:, k], labels == k, weights[:, code]) for k in range(count)]
        found["auc"] = np.stack(aucs, axis=1)
        return found

    value = rates(whole)
    parts = [rates(draws[start : start + _CHUNK]) for start in range(0, repeats, _CHUNK)]
    spread = {name: np.concatenate([part[name] for part in parts]) for name in value}

    def estimate(number: float, own: Floats, groups: int) -> Estimate:
        if groups == 1:
            return Estimate(value=float(number), low=0.0, high=1.0)
        return _estimate(number, own, level)

    def of_class(name: str, k: int) -> Estimate:
        return estimate(value[name][0, k], spread[name][:, k], int(sources[k]))

    def row(k: int) -> dict[str, Estimate]:
        shares, drawn = value["named"][0, k], spread["named"][:, k]
        return {
            name: estimate(shares[j], drawn[:, j], int(sources[k]))
            for j, name in enumerate(classes)
            if shares[j] > 0
        }

    def mean(name: str) -> Estimate:
        with np.errstate(invalid="ignore"):
            return estimate(value[name][0, present].mean(), _mean(spread[name][:, present]), size)

    return Scores(
        count=len(labels),
        groups=size,
        level=level,
        accuracy=estimate(value["accuracy"][0, 0], spread["accuracy"][:, 0], size),
        balanced_accuracy=mean("recall"),
        macro_f1=mean("f1"),
        macro_auc=mean("auc"),
        classes={
            classes[k]: ClassScores(
                support=int((labels == k).sum()),
                precision=of_class("precision", k),
                recall=of_class("recall", k),
                f1=of_class("f1", k),
                auc=of_class("auc", k),
                named=row(k),
            )
            for k in map(int, present)
        },
        confusion=confusion(labels, named, count),
        labels=tuple(classes),
    )


def accuracy_gain(
    right: NDArray[np.bool_], other: NDArray[np.bool_], groups: Sequence[str], seed: int = 0
) -> Estimate:
    """Accuracy of one set of answers less that of another, cell by cell, with an interval over groups.

    Args:
        right: (N,) whether each cell was named rightly.
        other: (N,) likewise, by the other.
        groups: (N,) photo or patient of each.
        seed: of the bootstrap.

    Example:
        >>> accuracy_gain(np.array([True, True]), np.array([True, False]), ["a", "b"]).value
        0.5
    """
    gained = right.astype(np.float64) - other
    low, high = bootstrap_mean(gained, groups, seed=seed, bounds=(-1.0, 1.0))
    return Estimate(value=float(gained.mean()), low=low, high=high)


def roc(labels: NDArray[np.bool_], values: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """The ROC curve: false alarms and hits, each rising from 0 to 1.

    Args:
        labels: (N,) whether each image is of the class.
        values: (N,) high for the class.

    Example:
        >>> alarms, hits = roc(np.array([True, False]), np.array([0.9, 0.1]))
        >>> alarms.tolist(), hits.tolist()
        ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    from sklearn.metrics import roc_curve

    alarms, hits, _ = roc_curve(labels, values, drop_intermediate=True)
    return np.asarray(alarms, np.float64), np.asarray(hits, np.float64)


def roc_band(
    labels: NDArray[np.bool_],
    values: NDArray[np.floating],
    groups: Sequence[str],
    *,
    seed: int = 0,
    level: float = 0.95,
    repeats: int = 500,
) -> tuple[Floats, Floats, Floats]:
    """Where the ROC curve lies in bootstrap samples of whole groups, at each share of false alarms by itself.

    Args:
        labels: (N,) whether each image is of the class.
        values: (N,) high for the class.
        groups: (N,) photo or patient of each.
        seed: of the bootstrap.
        level: coverage at each share of false alarms.
        repeats: bootstrap samples.

    Returns:
        False alarms (101,) from 0 to 1, lower and upper end of the hits (101,) there.
    """
    code = np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.argsort(-values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)  # of the images with equal values
    grid = np.linspace(0, 1, 101)
    hits = []
    for times in _draws(int(code.max()) + 1, repeats, seed):
        weights = times[code[order]]
        right, wrong = np.cumsum(weights * labels[order]), np.cumsum(weights * ~labels[order])
        if right[-1] and wrong[-1]:
            alarms, found = (np.append(0, each[last] / each[-1]) for each in (wrong, right))
            hits.append(np.interp(grid, alarms, found))
    low, high = np.quantile(hits, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return grid, low, high


def _check(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    groups: Sequence[str] | None,
) -> None:
    if probabilities.shape != (len(labels), len(classes)) or (
        groups is not None and len(groups) != len(labels)
    ):
        raise DataError(
            f"{len(labels)} labels, {len(classes)} classes, probabilities {probabilities.shape} and "
            f"{'no' if groups is None else len(groups)} groups do not fit each other."
        )
    if not np.isfinite(probabilities).all():
        raise DataError("some probabilities are not numbers; did the training diverge?")
    if len(np.unique(labels)) < 2:
        raise DataError("scores need images of two classes or more.")


def _draws(size: int, repeats: int, seed: int) -> Floats:
    """(repeats, size) how often each group is drawn."""
    rng = np.random.default_rng(derive(seed, "bootstrap"))
    return rng.multinomial(size, np.full(size, 1 / size), repeats).astype(np.float64)


def class_rates(tables: Floats) -> dict[str, Floats]:
    """Accuracy (B, 1), recall, precision and F1 (B, K) of confusions (B, K, K).

    All of a class without cells are NaN, the precision of one that is never named is 0.
    """
    hits = np.diagonal(tables, axis1=1, axis2=2)
    true, named = tables.sum(2), tables.sum(1)
    with np.errstate(invalid="ignore"):
        recall = hits / true
    precision = np.divide(hits, named, out=np.zeros_like(hits), where=named > 0)
    f1 = np.divide(2 * hits, true + named, out=np.zeros_like(hits), where=true + named > 0)
    accuracy = hits.sum(1, keepdims=True) / tables.sum((1, 2))[:, None]
    f1[true == 0] = precision[true == 0] = np.nan
    return {"accuracy": accuracy, "recall": recall, "precision": precision, "f1": f1}


def _auc(values: NDArray[np.floating], positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """(B,) share of weighted pairs (positive, negative) in the right order, ties one half; weights (B, N)."""
    levels, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(levels)))
    hits = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    others = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    below = np.cumsum(others, axis=1) - others / 2
    pairs = hits.sum(1) * others.sum(1)
    right = (hits * below).sum(1)
    found: Floats = np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
    return found


def _mean(values: Floats) -> Floats:
    """Mean over classes (B, K) of those that a bootstrap sample holds."""
    known = np.isfinite(values)
    total: Floats = np.where(known, values, 0).sum(1) / np.maximum(known.sum(1), 1)
    return total


def _estimate(value: float, spread: Floats, level: float) -> Estimate:
    low, high = np.nanquantile(spread, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(value=float(value), low=float(low), high=float(high))
