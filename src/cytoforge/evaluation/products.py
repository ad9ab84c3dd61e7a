"""One pass over the inner products of features, of which kernels and distances are both made.

Two sets of 4,000 rows and 1,280 columns need 41 billion multiplications for their inner products and a
hundredth of that for all that is made of them, so each product is computed once, and half of them where a set
is multiplied by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import DataError
from cytoforge.evaluation.distances import ROUNDING, ROWS, Floats


@dataclass(frozen=True)
class Within:
    """A set against itself.

    Attributes:
        kernel: (N,) sum of the kernel (x.y / D + 1)^3 between each row and all others.
        nearest: (N, k) squared distances to the k nearest others, ascending.
    """

    kernel: Floats
    nearest: Floats


@dataclass(frozen=True)
class Between:
    """Real images against synthetic ones.

    Attributes:
        kernel_real: (N,) sum of the kernel between each real row and all synthetic ones.
        kernel_fake: (M,) the same for each synthetic row.
        holding: (M,) real balls that hold each synthetic row.
        covered: (N,) whether each real ball holds a synthetic row.
        recalled: (N,) whether each real row lies in a synthetic ball.
    """

    kernel_real: Floats
    kernel_fake: Floats
    holding: NDArray[np.int64]
    covered: NDArray[np.bool_]
    recalled: NDArray[np.bool_]


def within(features: Floats, k: int = 0) -> Within:
    """Sums of the kernel, and the nearest others, from half of a set's inner products.

    Args:
        features: (N, D), N > k.
        k: nearest others to find; 0 leaves distances out.

    Raises:
        DataError: there are no k others.

    Example:
        >>> found = within(np.array([[0.0], [1.0], [3.0]]), k=1)
        >>> found.kernel.tolist(), found.nearest.tolist()  # 1 + 1, 1 + 64, 1 + 64
        ([2.0, 65.0, 65.0], [[1.0], [1.0], [4.0]])
    """
    count, dim = features.shape
    if count <= k:
        raise DataError(f"the {k}-th nearest of {count} images does not exist; give more images.")
    lengths = (features**2).sum(1)
    sums, nearest = np.zeros(count), np.full((count, k), np.inf)
    for rows, columns, products in _tiles(features, features, symmetric=True):
        values = kernel(products, dim)
        on_diagonal = rows == columns
        if on_diagonal:
            np.fill_diagonal(values, 0)
        sums[rows] += values.sum(1)
        if not on_diagonal:
            sums[columns] += values.sum(0)
        if k:
            squared = _squared(products, lengths[rows], lengths[columns], 2 * lengths.max())
            if on_diagonal:
                np.fill_diagonal(squared, np.inf)
            else:
                _keep_nearest(nearest[columns], np.ascontiguousarray(squared.T))
            _keep_nearest(nearest[rows], squared)
    return Within(sums, nearest)


def between(real: Floats, fake: Floats, radii: tuple[Floats, Floats] | None = None) -> Between:
    """Sums of the kernel between two sets, and which rows lie in which balls.

    Args:
        real: (N, D).
        fake: (M, D).
        radii: (N,) and (M,) squared radii of the balls around real and synthetic rows, without their edge;
            None leaves the balls out.
    """
    real_lengths, fake_lengths = (real**2).sum(1), (fake**2).sum(1)
    largest = real_lengths.max() + fake_lengths.max()
    kernel_real, kernel_fake = np.zeros(len(real)), np.zeros(len(fake))
    holding = np.zeros(len(fake), np.int64)
    covered, recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows, columns, products in _tiles(real, fake):
        values = kernel(products, real.shape[1])
        kernel_real[rows] += values.sum(1)
        kernel_fake[columns] += values.sum(0)
        if radii is not None:
            squared = _squared(products, real_lengths[rows], fake_lengths[columns], largest)
            inside = squared < radii[0][rows, None]
            holding[columns] += inside.sum(0)
            covered[rows] |= inside.any(1)
            recalled[rows] |= (squared < radii[1][columns]).any(1)
    return Between(kernel_real, kernel_fake, holding, covered, recalled)


def kernel(products: Floats, dim: int) -> Floats:
    """(x.y / D + 1)^3 for inner products x.y of any shape.

    Example:
        >>> kernel(np.array([2.0, 4.0]), 2).tolist()
        [8.0, 27.0]
    """
    values = products / dim
    values += 1
    values *= values * values
    return values


def _tiles(first: Floats, second: Floats, symmetric: bool = False) -> Iterator[tuple[slice, slice, Floats]]:
    """Inner products in pieces that fit a cache; the caller may overwrite one until it asks for the next.

    Where `symmetric`, only pieces on and above the diagonal.
    """
    for top in range(0, len(first), ROWS):
        rows = slice(top, min(top + ROWS, len(first)))
        for left in range(top if symmetric else 0, len(second), ROWS):
            columns = slice(left, min(left + ROWS, len(second)))
            yield rows, columns, first[rows] @ second[columns].T


def _squared(products: Floats, own: Floats, other: Floats, largest: float) -> Floats:
    """Squared distances, in the room of the products; what is smaller than rounding counts as 0."""
    products *= -2
    products += own[:, None]
    products += other
    np.putmask(products, products < ROUNDING * largest, 0)
    return products


def _keep_nearest(nearest: Floats, squared: Floats) -> None:
    """Update the smallest distances of some rows, in place, by those to more columns; `squared` is spent."""
    k = nearest.shape[1]
    if squared.shape[1] > k:
        squared.partition(k - 1, axis=1)
    nearest[:] = np.sort(np.concatenate([nearest, squared[:, :k]], axis=1), axis=1)[:, :k]
