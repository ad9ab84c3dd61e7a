"""Every cell is tested once: folds that keep groups together, and folds that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from cytoforge.core.errors import DataError
from cytoforge.core.randomness import derive

_TRIES = 20
"""Divisions that are tried until every class is in every training part; nearly always the first is."""


@dataclass(frozen=True)
class Fold:
    """One division of N cells.

    Attributes:
        train: row numbers, ascending.
        test: row numbers, ascending; the test rows of all folds together are all rows.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def grouped_folds(
    labels: NDArray[np.int64], groups: Sequence[str], count: int = 5, seed: int = 0
) -> list[Fold]:
    """Folds in which no group is both in training and in test; classes are in proportion if groups allow.

    Args:
        labels: (N,) classes.
        groups: (N,) photo, slide or patient of each, after those that show the same cell were made one (see
            `data.split.Split.groups`).
        count: of folds, two or more.
        seed: another seed divides in another way.

    Raises:
        DataError: a class has fewer groups than there are folds, or all groups of a class fall together.
    """
    names = np.asarray(groups)
    fewest = min((len(np.unique(names[labels == label])) for label in np.unique(labels)), default=0)
    _require(count, fewest, "groups")
    for turn in range(_TRIES):
        state = derive(seed, "folds", *([turn] if turn else [])) % 2**32
        dealt = StratifiedGroupKFold(count, shuffle=True, random_state=state).split(labels, labels, names)
        folds = [Fold(train, test) for train, test in dealt]
        if all(len(np.unique(labels[fold.train])) == len(np.unique(labels)) for fold in folds):
            return folds
    raise DataError(
        f"{count} folds cannot be made: all groups of one class fall into one of them, for these groups hold "
        "other classes too. Choose more folds or another --seed, or add images."
    )


def random_folds(labels: NDArray[np.int64], count: int = 5, seed: int = 0) -> list[Fold]:
    """Folds of single cells, as most published figures use; cells of one photo fall on both sides.

    Args:
        labels: (N,) classes.
        count: of folds, two or more.
        seed: another seed divides in another way.

    Raises:
        DataError: a class has fewer cells than there are folds.
    """
    _require(count, int(np.unique(labels, return_counts=True)[1].min(initial=len(labels))), "cells")
    folds = StratifiedKFold(count, shuffle=True, random_state=derive(seed, "folds") % 2**32)
    return [Fold(train, test) for train, test in folds.split(labels, labels)]


def _require(count: int, fewest: int, what: str) -> None:
    if not 2 <= count <= fewest:
        raise DataError(
            f"{count} folds cannot be made: a class has but {fewest} {what}. Choose 2 to {fewest} folds."
            if fewest >= 2
            else f"no folds can be made: a class has {fewest} {what}, two are needed. Add images of it."
        )
