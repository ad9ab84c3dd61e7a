"""Euclidean distances between rows of features, a piece at a time so that memory stays small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from cytoforge.core.errors import DataError

Floats = NDArray[np.float64]
ROWS = 512
ROUNDING = 1e-12
"""Squared distances below this share of the largest squared lengths are rounding."""


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one thread inside, where a factorisation would mostly wait for its other threads.

    On two cores that something else uses too, a factorisation of 1,280 columns takes 0.1 s on one thread
    and 0.2 to 10 s on two.
    """
    limits: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limits


def threads() -> int:
    """Threads that linear algebra may use now: the processor's cores, or what OMP_NUM_THREADS says."""
    return max(
        (int(each["num_threads"]) for each in _libraries().info() if each["user_api"] == "blas"), default=1
    )


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def check_features(*sets: Floats) -> None:
    """Refuse what is not (N, D) of finite numbers with one D and at least two rows.

    Raises:
        DataError: says which shape came.
    """
    widths = {features.shape[-1] for features in sets}
    for features in sets:
        if features.ndim != 2 or len(features) < 2 or len(widths) > 1:
            shapes = ", ".join(str(each.shape) for each in sets)
            raise DataError(
                f"expected features (N, D) with the same D and at least two rows each, got {shapes}; "
                "compute both with one extractor and give more images."
            )
        if not np.isfinite(features).all():
            raise DataError("features hold NaN or infinity: an image or the extractor is broken.")


def squared_distances(rows: Floats, columns: Floats, piece: int = ROWS) -> Iterator[tuple[slice, Floats]]:
    """Squared distances of some rows to all columns, piece by piece.

    Args:
        rows: (N, D).
        columns: (M, D).
        piece: rows at a time.

    Yields:
        Which rows, and their distances (n, M), which the caller may overwrite and must use before the next
        piece. What is smaller than rounding counts as 0, so a copy is at 0.
    """
    lengths = (columns**2).sum(1)
    # |x - y|^2 as one product, exact for whole numbers: (-2 x, |x|^2, 1) . (y, 1, |y|^2)
    right = np.column_stack([columns, np.ones(len(columns)), lengths]).T
    room = np.empty((min(piece, len(rows)), len(columns)))
    for start in range(0, len(rows), piece):
        part = rows[start : start + piece]
        own = (part**2).sum(1)
        left = np.column_stack([-2 * part, own, np.ones(len(part))])
        squared = np.matmul(left, right, out=room[: len(part)])
        np.putmask(squared, squared < ROUNDING * (own.max() + lengths.max()), 0)
        yield slice(start, start + len(part)), squared


def nearest_other(features: Floats, k: int = 1) -> Floats:
    """Squared distance of each row to its k-th nearest other row.

    Args:
        features: (N, D), N > k.
        k: 1 for the nearest.

    Returns:
        (N,).

    Example:
        >>> nearest_other(np.array([[0.0], [1.0], [3.0]]), k=1).round(6).tolist()
        [1.0, 1.0, 4.0]
    """
    if len(features) <= k:
        raise DataError(f"the {k}-th nearest of {len(features)} images does not exist; give more images.")
    radii = np.empty(len(features))
    for part, squared in squared_distances(features, features):
        squared[np.arange(len(squared)), np.arange(part.start, part.stop)] = np.inf
        squared.partition(k - 1, axis=1)
        radii[part] = squared[:, k - 1]
    return radii


def unit_length(features: Floats) -> Floats:
    """Each row of (N, D) divided by its length.

    Example:
        >>> unit_length(np.array([[3.0, 4.0]])).tolist()
        [[0.6, 0.8]]
    """
    scaled: Floats = features / np.maximum(
        np.linalg.norm(features, axis=1, keepdims=True), np.finfo(float).tiny
    )
    return scaled
