"""What a random split gives away: the same classifier and cells, divided at random and by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.folds import Fold
from cytoforge.evaluation.classification import Estimate, accuracy_gain


def leak_inflation(
    labels: NDArray[np.int64],
    at_random: NDArray[np.int64],
    by_group: NDArray[np.int64],
    groups: Sequence[str],
    seed: int = 0,
) -> Estimate:
    """Accuracy by random folds less accuracy by grouped folds, cell by cell, with an interval over groups.

    Args:
        labels: (N,) true classes.
        at_random: (N,) classes found where cells were divided at random.
        by_group: (N,) classes found where groups were kept together.
        groups: (N,) photo or patient of each.
        seed: of the bootstrap.

    Example:
        >>> same = np.array([0, 1, 1, 0])
        >>> leak_inflation(same, same, np.array([0, 1, 1, 1]), list("abcd")).value
        0.25
    """
    return accuracy_gain(at_random == labels, by_group == labels, groups, seed)


def with_sibling(folds: Sequence[Fold], groups: Sequence[str]) -> float:
    """Share of the tested cells of whose group cells are in training, over all folds.

    Example:
        >>> halves = [Fold(np.array([0, 1]), np.array([2])), Fold(np.array([2]), np.array([0, 1]))]
        >>> round(with_sibling(halves, ["a", "b", "a"]), 3)
        0.667
    """
    names = np.asarray(groups)
    seen = [np.isin(names[fold.test], names[fold.train]) for fold in folds]
    return float(np.concatenate(seen).mean())
