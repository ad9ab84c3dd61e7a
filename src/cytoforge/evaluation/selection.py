"""Which synthetic images to drop: those of doubtful class and those unlike any real cell of their class.

The first two rules are calibrated on real training cells that they have not seen: each would lose a stated
share of them. So a rule drops an image because real cells of its class hardly ever look so, not because it is
rare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json
from cytoforge.evaluation.classes import train_classifier
from cytoforge.evaluation.comparison import FeatureSet
from cytoforge.evaluation.distances import Floats, nearest_other, squared_distances
from cytoforge.evaluation.features import network_of

FOLDS = 5
NEIGHBOURS = 5
FEWEST = 20
"""With fewer real cells of a class no image of it is dropped."""

RULES = {
    "class": (
        "The classifier trained on real training cells gives the class that was asked for less probability "
        "than it gives the stated share of real cells of that class (cross-validated over photos)."
    ),
    "region": (
        "The image lies outside the region of its class: its distance to a real training cell of the class, "
        "over that cell's distance to its fifth nearest, smallest over all cells, is larger than for the "
        "stated share of real cells of other photos."
    ),
    "copies": (
        "The copy test flags the image, see the rule of the evaluation; its unseen cells are those of the "
        "validation part."
    ),
}

SELECTION = "selection.json"
"""Name of the file beside a set that was selected, with what was dropped and why."""


@dataclass(frozen=True)
class Selection:
    """How the images of a set were chosen.

    Attributes:
        rules: of `RULES`.
        network: whose features the rules "class" and "region" saw, None where neither was used.
        kept: images.
        images: before.
    """

    rules: tuple[str, ...]
    network: str | None
    kept: int
    images: int


def selection_of(synthetic: Path, manifest_sha256: str) -> Selection | None:
    """How a set was selected, by the file beside it; None where it was not, or the file is of another set."""
    told = None
    with suppress(DataError):
        told = read_json(synthetic.resolve().parent / SELECTION)
    if not isinstance(told, dict) or told.get("kept_manifest_sha256") != manifest_sha256:
        return None
    rules = tuple(told["rules"])
    network = network_of(told["extractor"]) if {"class", "region"} & set(rules) else None
    return Selection(rules, network, told["kept"], told["images"])


def obstacle(labels: NDArray[np.int64], groups: Sequence[str], classes: Sequence[str]) -> str | None:
    """Why real cells cannot calibrate the rules "class" and "region", None where they can.

    Args:
        labels: (N,) classes of the real cells.
        groups: (N,) photo of each.
        classes: names.

    Example:
        >>> obstacle(np.array([0] * 20 + [1] * 3), ["a", "b"] * 11 + ["b"], ("flat", "round"))
        >>> obstacle(np.array([0, 1]), ["a", "b"], ("flat", "round"))
        'fewer than 20 real cells of every class'
        >>> obstacle(np.array([0] * 20 + [1] * 20), ["a"] * 19 + ["b", "c"] * 10 + ["d"], ("flat", "round"))
        'all but 1 of the real cells of flat are of one photo'
    """
    counts = np.bincount(labels, minlength=len(classes))
    if (counts > 0).sum() < 2:
        return "real cells of fewer than two classes"
    if counts.max() < FEWEST:
        return f"fewer than {FEWEST} real cells of every class"
    found = []
    for label, name in enumerate(classes):
        photos = Counter(np.asarray(groups)[labels == label].tolist())
        others = counts[label] - max(photos.values(), default=0)
        if len(photos) == 1:
            found.append(f"the real cells of {name} are of one photo")
        elif counts[label] >= FEWEST and others <= NEIGHBOURS:
            found.append(f"all but {others} of the real cells of {name} are of one photo")
    return "; ".join(found) or None


def spared(
    labels: NDArray[np.int64], classes: Sequence[str], made: NDArray[np.int64] | None = None
) -> list[str]:
    """Classes with too few real cells for the rules "class" and "region" to drop any image of them.

    Args:
        labels: (N,) classes of the real cells.
        classes: names.
        made: (M,) classes of the images, others are left out; None leaves out those without real cells.

    Example:
        >>> real = np.array([0] * 20 + [1] * 3)
        >>> spared(real, ("flat", "round", "none"))
        ['round']
        >>> spared(real, ("flat", "round", "none"), np.array([0, 2]))
        ['none']
    """
    counts = np.bincount(labels, minlength=len(classes))
    present = np.bincount(labels if made is None else made, minlength=len(classes))
    return [name for name, few, own in zip(classes, counts < FEWEST, present, strict=True) if few and own]


def class_rejections(train: FeatureSet, fake: FeatureSet, share: float) -> NDArray[np.bool_]:
    """Images that a classifier of real cells finds less likely of their class than nearly all real cells.

    Args:
        train: real training cells.
        fake: synthetic images.
        share: of real cells that may be lost, 0 to 1.

    Returns:
        (M,) whether each image is rejected.

    Raises:
        DataError: fewer than two classes, or a class whose cells are all of one photo.
    """
    own = _cross_validated(train)
    classifier = train_classifier(train.values, train.labels)
    asked = _probabilities(classifier.predict_proba(fake.values), classifier.classes_, fake.labels)
    rejected = np.zeros(len(fake), bool)
    for label in np.unique(fake.labels):
        real = own[train.labels == label]
        if len(real) >= FEWEST:
            rejected |= (fake.labels == label) & (asked < np.quantile(real, share))
    return rejected


def region_rejections(train: FeatureSet, fake: FeatureSet, share: float) -> NDArray[np.bool_]:
    """Images outside the region that real training cells of their class fill.

    Args:
        train: real training cells.
        fake: synthetic images.
        share: of real cells that may be lost, 0 to 1.

    Returns:
        (M,) whether each image is rejected.

    Raises:
        DataError: the cells of a class are all, or all but `NEIGHBOURS`, of one photo.
    """
    rejected = np.zeros(len(fake), bool)
    for label in np.unique(fake.labels):
        real, rows = train.of(int(label)), np.flatnonzero(fake.labels == label)
        if len(real) < FEWEST:
            continue
        usual = np.empty(len(real))
        for kept, held in _folds(real):
            if len(kept) <= NEIGHBOURS:
                raise DataError(
                    "nearly all real cells of a class are of one photo, so its region cannot be calibrated "
                    "on cells of others; use --rules class,copies."
                )
            usual[held] = remoteness(real.values[kept], real.values[held])
        rejected[rows] = remoteness(real.values, fake.values[rows]) > np.quantile(usual, 1 - share)
    return rejected


def remoteness(real: Floats, rows: Floats) -> Floats:
    """How far rows lie from real ones, in units of how sparse the real ones are there.

    Smallest over real rows of the squared distance to it over its own squared distance to its fifth nearest
    other.

    Args:
        real: (N, D).
        rows: (M, D).

    Returns:
        (M,).

    Example:
        >>> line = np.arange(6.0)[:, None]  # squared distances to the fifth nearest: 25, 16, 9, 9, 16, 25
        >>> remoteness(line, np.array([[15.0]])).tolist()  # (15 - 5)^2 / 25
        [4.0]
    """
    radii, found = _radii(real), np.empty(len(rows))
    for part, squared in squared_distances(rows, real):
        found[part] = (squared / radii).min(1)
    return found


def _radii(real: Floats) -> Floats:
    k = min(NEIGHBOURS, len(real) - 1)
    radii = nearest_other(real, k) if k else np.zeros(len(real))
    return np.maximum(radii, np.finfo(float).tiny)


def _cross_validated(train: FeatureSet) -> Floats:
    """Probability of its true class for each real cell, by a classifier that has not seen its photo: (N,)."""
    found = np.zeros(len(train))
    for kept, held in _folds(train):
        if len(np.unique(train.labels[kept])) > 1:
            classifier = train_classifier(train.values[kept], train.labels[kept])
            table = classifier.predict_proba(train.values[held])
            found[held] = _probabilities(table, classifier.classes_, train.labels[held])
    return found


def _folds(cells: FeatureSet) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Kept and held-out rows, no photo on both sides; each row is held out once."""
    groups = np.asarray(cells.groups)
    photos = [len(set(groups[cells.labels == label])) for label in np.unique(cells.labels)]
    if min(photos) < 2:
        raise DataError(
            "a class has real cells of one photo only, so its rules cannot be calibrated on cells of others; "
            "use --rules copies."
        )
    folds = StratifiedGroupKFold(min(FOLDS, *photos))
    yield from folds.split(cells.values, cells.labels, groups)


def _probabilities(table: Floats, classes: NDArray[np.int64], labels: NDArray[np.int64]) -> Floats:
    """The column of each row's label; 0 where the classifier does not know it."""
    columns = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    found: Floats = np.where(classes[columns] == labels, table[np.arange(len(labels)), columns], 0.0)
    return found
