"""The search for copies of training cells in a synthetic set, from two looks at each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.symmetry import SYMMETRIES
from cytoforge.evaluation.comparison import FeatureSet
from cytoforge.evaluation.distances import Floats
from cytoforge.evaluation.memorisation import (
    NEIGHBOURS,
    SURE,
    CopyScores,
    CopyTest,
    Neighbours,
    Photos,
    authentic,
    copy_scores,
    copy_test,
    nearer_interval,
    nearest,
)
from cytoforge.evaluation.metrics import ClassCopies, Closest, Copies
from cytoforge.evaluation.statistics import divide, wilson

FEWEST = NEIGHBOURS + 1
"""Fewer training or holdout cells give no test."""

CLOSEST = 24
"""As many of the closest images are listed at least."""

SIDE = 64
"""Of the network's input, in pixels: all flips and turns are searched at a quarter of the default's cost."""


def copy_rule(extractor: str) -> str:
    """How copies are searched and when they are found, in words.

    Args:
        extractor: name of the network.
    """
    return (
        f"Copy score: distance to the nearest training cell over that to the {NEIGHBOURS}th nearest, over "
        f"all flips and quarter turns, in features of {extractor} and in a coarse 8 x 8 picture, the smaller "
        "of the two. An image is flagged where at most the stated share of holdout cells scores as low. "
        f"Copies are found where both p-values of the set are below {SURE:g}, or both of one class below "
        f"{SURE:g} divided by the number of classes: that of so many flagged images from an honest generator "
        "(beta-binomial; those beside the training cell that most resemble count as one), and of so many "
        "more training cells behind them than images are flagged when holdout and training change places "
        "(binomial)."
    )


@dataclass(frozen=True)
class Look:
    """One way to describe images.

    Attributes:
        train: (T, D) training cells.
        holdout: (H, V, D) holdout cells, in V views.
        fake: (N, V, D) synthetic images, in V views; the first view is the image itself.
    """

    train: Floats
    holdout: Floats
    fake: Floats


@dataclass(frozen=True)
class Search:
    """What was found for each image.

    Attributes:
        scores: for the test.
        view: (N,) in which of its views.
    """

    scores: CopyScores
    view: NDArray[np.int64]


def search(
    looks: Sequence[Look], train: FeatureSet, holdout: FeatureSet, fake: FeatureSet, seed: int = 0
) -> Search:
    """Copy scores of all images, the smallest of all looks.

    Args:
        looks: one or more descriptions of the same images.
        train: whose classes and photos are those of the training cells; so the others.
        holdout: likewise.
        fake: likewise.
        seed: of the choice of training photos that are as many as the holdout's.
    """
    scores, match, view = _smallest([nearest(look.fake, look.train) for look in looks])
    known, _, _ = _smallest([nearest(look.holdout, look.train) for look in looks])
    ours, theirs = _equally_many(train, holdout, seed)
    exchanged, _, _ = _smallest([nearest(look.fake, look.holdout[theirs, 0]) for look in looks])
    alike, _, _ = _smallest([nearest(look.holdout, look.train[ours]) for look in looks])
    enough, held = (_counts(each, train, holdout, fake)[fake.labels] >= FEWEST for each in (train, holdout))
    return Search(CopyScores(scores, known, exchanged, alike, match, enough, enough & held), view)


def _counts(each: FeatureSet, *sets: FeatureSet) -> NDArray[np.int64]:
    return each.counts(1 + max(int(one.labels.max()) for one in sets))


def _equally_many(
    train: FeatureSet, holdout: FeatureSet, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of either part with the same number of each class, by whole photos as far as they go."""
    count = np.minimum(_counts(train, train, holdout), _counts(holdout, train, holdout))
    if count.sum() < FEWEST:
        return np.arange(len(train.labels)), np.arange(len(holdout.labels))
    rows = [divide(each.labels, each.groups, count, 0 * count, 1, seed)[0][0] for each in (train, holdout)]
    return rows[0], rows[1]


def judge(
    found: Search,
    features: Look,
    files: Sequence[str],
    labels: Sequence[str],
    seeds: Sequence[int],
    train: Sequence[str],
    photos: Photos,
    extractor: str,
    alpha: float = 0.01,
) -> Copies:
    """The numbers about copies.

    Args:
        found: copy scores.
        features: the look whose distances are used for authenticity and nearness.
        files: (N,) names of the synthetic images.
        labels: (N,) their classes.
        seeds: (N,) their seeds.
        train: (T,) names of the training cells.
        photos: of each training cell (T,) and of each holdout cell (H,).
        extractor: name of the network that saw the images.
        alpha: false-alarm rate of one image.
    """
    test = copy_test(found.scores, alpha)
    together, classes = test.alarms(), _by_class(test, labels)
    flagged, count = int(test.flagged.sum()), int(found.scores.checked.sum())
    low, high = wilson(flagged, count)
    nearer, nearer_low, nearer_high = nearer_interval(
        features.fake, features.train, features.holdout[:, 0], photos
    )
    return Copies(
        found=together.found() or any(own.found for own in classes.values()),
        checked=count,
        flagged=flagged,
        false_alarm_rate=test.alpha,
        threshold=test.threshold,
        share=flagged / count,
        low=low,
        high=high,
        honest_low=test.honest_range[0],
        honest_high=test.honest_range[1],
        p_value=together.p_value,
        cells=together.cells,
        exchanged_flagged=together.exchanged,
        exchanged_p_value=together.exchanged_p_value,
        train=len(features.train),
        holdout=len(features.holdout),
        share_nearer_to_train=nearer,
        nearer_low=nearer_low,
        nearer_high=nearer_high,
        authenticity=float(authentic(features.fake, features.train).mean()),
        honest_authenticity=float(authentic(features.holdout, features.train).mean()),
        holdout_repeats=float((found.scores.holdout < 0.5 * np.median(found.scores.holdout)).mean()),
        extractor=extractor,
        classes=classes,
        unchecked=_classes(labels, ~found.scores.checked),
        uncounted=_classes(labels, found.scores.checked & ~found.scores.counted),
        closest=_closest(test, found, files, labels, seeds, train),
    )


def _smallest(looks: Sequence[Neighbours]) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """The smallest copy score of several looks, the cell behind it and the view: (N,) each."""
    scores = np.stack([copy_scores(look) for look in looks])
    chosen, rows = scores.argmin(0), np.arange(scores.shape[1])
    match = np.stack([look.indices[:, 0] for look in looks])[chosen, rows]
    view = np.stack([look.views for look in looks])[chosen, rows]
    return scores[chosen, rows], match, view


def _classes(labels: Sequence[str], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(sorted({label for label, own in zip(labels, chosen, strict=True) if own}))


def _by_class(test: CopyTest, labels: Sequence[str]) -> dict[str, ClassCopies]:
    classes = {label: np.array(labels) == label for label in sorted(set(labels))}
    looks = sum(bool((test.counted & own).any()) for own in classes.values())
    return {
        label: ClassCopies(
            flagged=int(test.flagged[own].sum()),
            checked=int(test.checked[own].sum()),
            exchanged=int(test.exchanged[own & test.counted].sum()),
            found=test.alarms(own).found(looks),
        )
        for label, own in classes.items()
    }


def _closest(
    test: CopyTest,
    found: Search,
    files: Sequence[str],
    labels: Sequence[str],
    seeds: Sequence[int],
    train: Sequence[str],
) -> tuple[Closest, ...]:
    order = np.argsort(found.scores.fake, kind="stable")
    order = order[found.scores.checked[order]][: max(CLOSEST, int(test.flagged.sum()))]
    return tuple(
        Closest(
            file=files[index],
            label=labels[index],
            seed=seeds[index],
            train=train[int(found.scores.match[index])],
            score=float(found.scores.fake[index]),
            p_value=float(test.p_values[index]),
            view=SYMMETRIES[int(found.view[index])],
            flagged=bool(test.flagged[index]),
        )
        for index in map(int, order)
    )
