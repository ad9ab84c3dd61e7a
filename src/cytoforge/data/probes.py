"""What small classifiers tell about a data set: shortcuts, leaks between folds, and labels to doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.findings import Finding, Probe, Shown, some
from cytoforge.data.outliers import misplacement
from cytoforge.data.scan import Scan

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

Floats = NDArray[np.float64]

_DOUBT: Final = 0.02
_REPEATS: Final = 2
"""Divisions into folds over which an opinion is averaged."""
_PLACE: Final = 0.2
"""What one unit of `outliers.misplacement` adds to the log odds of another class."""
SUSPICIOUS: Final = 2.05
"""Log odds of another class against the label's, with `_PLACE`, from where a label is doubted."""


def size_shortcut(scan: Scan, groups: Sequence[str], seed: int) -> Finding:
    """Whether the class can be read off the size of the crop."""
    sizes = np.log(np.stack([scan.measure("width"), scan.measure("height")], 1))
    width = np.median(np.exp(sizes[:, 0]))
    by_class = ", ".join(
        f"{label} {np.median(scan.measure('width')[scan.cells.labels == index]):.0f}"
        for index, label in enumerate(scan.cells.classes)
    )
    if (sizes.std(0) < 1e-9).all():
        return Finding(check="size shortcut", tone="good", headline="All pictures have one size.",
                       because=f"{width:.0f} px wide.")  # fmt: skip
    return _shortcut(
        scan, groups, seed, sizes, "size", f"Median width in px: {by_class}.",
        "Scale all crops by one factor rather than each to the same size, or say so beside every score.",
    )  # fmt: skip


def sharpness_shortcut(scan: Scan, groups: Sequence[str], seed: int) -> Finding:
    """Whether the class can be read off sharpness at one size."""
    sharpness = np.stack([scan.measure("fine"), scan.measure("coarse")], 1)
    return _shortcut(
        scan, groups, seed, sharpness, "sharpness",
        "Crops of different size become differently sharp when brought to one size.",
        "A classifier or a Frechet distance can feed on it: compare sharpness of synthetic and real cells.",
    )  # fmt: skip


def probe_features(
    scan: Scan,
    groups: Sequence[str],
    features: Floats,
    extractor: str,
    seed: int,
    measurements: Floats | None = None,
) -> tuple[Probe, Floats]:
    """Accuracy of a linear classifier under three ways of dividing, and its opinion of each cell.

    Args:
        scan: what was seen.
        groups: (N) merged groups.
        features: (N, D).
        extractor: name of what computed them.
        seed: of the folds.
        measurements: (N, M) of nucleus and cytoplasm, NaN where there are none; None where cells lack masks.

    Returns:
        The scores, and (N, K) class probabilities of each cell, not normalised: the geometric mean of
        classifiers that saw no cell of its group. A linear one sees the features, trees colour, exposure,
        sharpness and the measurements, a support vector machine the measurements alone.
    """
    labels = scan.cells.labels
    ways = (None, scan.cells.groups, groups)
    opinions = [_held_out(features, labels, way, seed, partial(_linear, strength=0.01)) for way in ways]
    random, grouped, merged = (float((opinion.argmax(1) == labels).mean()) for opinion in opinions)
    chance = float(np.bincount(labels).max() / len(labels))
    probe = Probe(extractor=extractor, random=random, grouped=grouped, merged=merged, chance=chance)
    views: list[tuple[Floats, Untrained]] = [(features, partial(_linear, strength=0.001))]
    if measurements is None:
        views.append((scan.measures[:, 2:], _trees))
    else:
        known = np.nan_to_num(measurements)
        views += [(np.hstack([known, scan.measures[:, 2:]]), _trees), (known, _vectors)]
    product = np.ones((len(labels), len(scan.cells.classes)))
    for seen, model in views:
        opinions = [_held_out(seen, labels, groups, seed + k, model) for k in range(_REPEATS)]
        product *= np.mean(opinions, axis=0) + _DOUBT
    return probe, product ** (1 / len(views))


def group_leak(probe: Probe) -> Finding:
    """How much a random split flatters."""
    gap = probe.random - probe.merged
    flatters = gap > 0.005
    numbers = {"random": probe.random, "grouped": probe.grouped, "merged": probe.merged}
    return Finding(
        check="random against grouped",
        tone="unsure" if flatters else "note",
        headline=f"A random split flatters by {100 * gap:.1f} points."
        if flatters
        else "A random split makes little difference here.",
        because=f"Linear classifier on {probe.extractor}, five folds: {probe.random:.3f} with cells divided "
        f"at random, {probe.grouped:.3f} with photos kept together, {probe.merged:.3f} with photos that "
        "share a cell made one.",
        advice="Quote only scores from a grouped split." if flatters else "",
        numbers={name: round(value, 4) for name, value in numbers.items()},
    )


def suspicious_labels(scan: Scan, opinion: Floats) -> Finding:
    """Cells that classifiers, trained without their photo, firmly put into another class.

    A cell that does not fit its photo either needs less to be doubted: its file may have slipped.

    Args:
        scan: what was seen.
        opinion: (N, K) of `probe_features`.
    """
    labels, classes = scan.cells.labels, scan.cells.classes
    rows = np.arange(len(labels))
    others = opinion.copy()
    others[rows, labels] = 0
    odds = np.log(np.maximum(others.max(1), 1e-12) / np.maximum(opinion[rows, labels], 1e-12))
    doubt = odds + _PLACE * misplacement(scan)
    order = [int(i) for i in np.argsort(-doubt, kind="stable") if doubt[i] >= SUSPICIOUS]
    if not order:
        return Finding(
            check="suspicious labels", tone="good", headline="No label looks wrong to a classifier."
        )
    shown = tuple(
        Shown(
            names=(scan.cells.names[i],),
            caption=f"labelled {classes[labels[i]]}, looks like {classes[int(others[i].argmax())]} "
            f"({np.exp(odds[i]):.0f} : 1)",
        )
        for i in order
    )
    return Finding(
        check="suspicious labels",
        tone="unsure",
        headline=f"{some(len(order), 'label')} to check.",
        because="A classifier that saw no cell of their photo finds another class far more likely.",
        advice="Look at them. Most may be hard cells rather than wrong labels.",
        numbers={"cells": float(len(order))},
        shown=shown,
    )


def can_probe(scan: Scan, groups: Sequence[str]) -> bool:
    """Whether every class has at least two groups."""
    pairs = set(zip(scan.cells.labels.tolist(), groups, strict=True))
    counts = Counter(label for label, _ in pairs)
    return len(scan.cells.classes) > 1 and min(counts[k] for k in range(len(scan.cells.classes))) >= 2


Untrained = Callable[[int], "ClassifierMixin"]
"""Seed -> a classifier."""


def _held_out(
    numbers: Floats, labels: NDArray[np.int64], groups: Sequence[str] | None, seed: int, model: Untrained
) -> Floats:
    """(N, K) probabilities by five classifiers, each asked about cells that it did not see."""
    numbers = numbers.astype(np.float32)
    opinion = np.zeros((len(labels), int(labels.max()) + 1))
    for train, test in _folds(labels, groups, seed):
        classifier = model(seed).fit(numbers[train], labels[train])
        opinion[np.ix_(test, classifier.classes_)] = classifier.predict_proba(numbers[test])
    return opinion


def _linear(seed: int, strength: float) -> ClassifierMixin:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500, tol=3e-3))


def _trees(seed: int) -> ClassifierMixin:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(300, min_samples_leaf=2, random_state=seed)


def _vectors(seed: int) -> ClassifierMixin:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer
    from sklearn.svm import SVC

    ranks = QuantileTransformer(n_quantiles=200, output_distribution="normal", random_state=seed)
    return make_pipeline(ranks, CalibratedClassifierCV(SVC(C=5), ensemble=False))


def _folds(
    labels: NDArray[np.int64], groups: Sequence[str] | None, seed: int
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """At most five folds of cells that share no group, or of single cells."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    smallest = int(np.bincount(labels).min())
    if groups is None:
        folds = StratifiedKFold(max(2, min(5, smallest)), shuffle=True, random_state=seed)
        return list(folds.split(labels, labels))
    per_class = min(
        len({g for g, own in zip(groups, labels, strict=True) if own == k}) for k in set(labels.tolist())
    )
    folds = StratifiedGroupKFold(max(2, min(5, per_class, smallest)), shuffle=True, random_state=seed)
    return list(folds.split(labels, labels, groups))


def _shortcut(
    scan: Scan, groups: Sequence[str], seed: int, columns: Floats, what: str, because: str, advice: str
) -> Finding:
    """Balanced accuracy of 15 nearest neighbours on a few numbers, groups kept apart, against chance."""
    check = f"{what} shortcut"
    if not can_probe(scan, groups):
        return Finding(
            check=check, tone="note", headline=f"{what.capitalize()} was not tested: a class has one group."
        )
    from sklearn.neighbors import KNeighborsClassifier

    labels = scan.cells.labels
    standard = (columns - columns.mean(0)) / np.maximum(columns.std(0), 1e-9)
    guess = np.zeros_like(labels)
    for train, test in _folds(labels, groups, seed):
        model = KNeighborsClassifier(min(15, len(train)))
        guess[test] = model.fit(standard[train], labels[train]).predict(standard[test])
    kinds = range(len(scan.cells.classes))
    score = float(np.mean([(guess[labels == kind] == kind).mean() for kind in kinds]))
    chance = 1 / len(scan.cells.classes)
    given_away = score > chance + 0.1
    return Finding(
        check=check,
        tone="unsure" if given_away else "good",
        headline=f"{what.capitalize()} alone tells classes apart."
        if given_away
        else f"{what.capitalize()} alone hardly tells classes apart.",
        because=f"Mean recall {score:.2f} from {what} alone, where guessing gives {chance:.2f}. {because}",
        advice=advice if given_away else "",
        numbers={"mean recall": round(score, 4), "chance": round(chance, 4)},
    )
