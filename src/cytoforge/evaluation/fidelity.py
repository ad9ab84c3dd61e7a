"""How far the synthetic images are from real ones, as two clouds of features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from cytoforge.evaluation.distances import ROWS, Floats, check_features, one_thread


def frechet_distance(real: Floats, fake: Floats) -> float:
    """Distance between the normal distributions fitted to two sets of features (FID with Inception features).

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)). With C1 = A'A and C2 = B'B the last trace is the
    sum of the singular values of A B', which needs no square root of a matrix and is exact where a
    covariance is singular.

    Args:
        real: (N, D).
        fake: (M, D).

    Returns:
        A number from 0; it grows when N or M shrink, so compare at equal N and M only.

    Raises:
        DataError: the shapes do not fit.

    Example:
        >>> real = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
        >>> round(frechet_distance(real, np.array([[2.0, 2.0], [1.0, 2.0], [1.0, 2.0]])), 12)  # 1/9 + 1/3
        0.444444444444

    Reference:
        Heusel et al., GANs trained by a two time-scale update rule, NeurIPS 2017
        (https://arxiv.org/abs/1706.08500).
    """
    check_features(real, fake)
    first, second = _centred(real), _centred(fake)
    shift = real.mean(0) - fake.mean(0)
    with one_thread():
        product = _small_factor(first) @ _small_factor(second).T
        common = np.linalg.svd(product, compute_uv=False).sum()
    return float(shift @ shift + (first**2).sum() + (second**2).sum() - 2 * common)


def kernel_distance(real: Floats, fake: Floats) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (KID), over all rows.

    Args:
        real: (N, D).
        fake: (M, D).

    Returns:
        About 0 for two samples of one distribution, whatever their size; may be slightly negative.

    Raises:
        DataError: the shapes do not fit.

    Reference:
        Binkowski et al., Demystifying MMD GANs, ICLR 2018 (https://arxiv.org/abs/1801.01401), equation 4.
    """
    check_features(real, fake)
    return _discrepancy(*_kernel_rows(real, fake))


def kernel_distance_interval(
    real: Floats,
    fake: Floats,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """`kernel_distance` with its interval by the jackknife: each real group and fake row is left out once.

    Cells of one photo resemble each other, so a photo, not a cell, counts as one observation. The jackknife
    errs on the wide side where the true distance is near 0.

    Args:
        real: (N, D).
        fake: (M, D).
        groups: (N,) the photo or patient of each real row; None where each row stands for itself.
        level: coverage.

    Returns:
        Value, lower and upper end, symmetric about the value.

    Raises:
        DataError: the shapes do not fit.
    """
    check_features(real, fake)
    rows = _kernel_rows(real, fake)
    parts = _members(groups, len(real))
    variance = _jackknife_variance(_without_real(real, rows, parts))
    variance += _jackknife_variance(_without_fake(rows))
    half = float(stats.norm.ppf(0.5 + level / 2) * np.sqrt(variance))
    value = _discrepancy(*rows)
    return value, value - half, value + half


def _centred(features: Floats) -> Floats:
    """A with A'A = covariance."""
    centred: Floats = features - features.mean(0)
    centred /= np.sqrt(len(features) - 1)
    return centred


def _small_factor(centred: Floats) -> Floats:
    """The rows, or their triangular factor where they outnumber the columns: A'A stays the same."""
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _kernel(first: Floats, second: Floats, out: Floats | None = None) -> Floats:
    """(x.y / D + 1)^3 of all pairs (N, M), in the first of the two layers of `out` where it is given."""
    values = np.matmul(first / first.shape[1], second.T, out=None if out is None else out[0, : len(first)])
    values += 1
    squared = np.multiply(values, values, out=None if out is None else out[1, : len(first)])
    values *= squared
    return values


def _kernel_rows(real: Floats, fake: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Row sums of the kernel: real-real and fake-fake without diagonal, real-fake by row and by column."""
    real_real, _ = _sums(real, real)
    real_fake, fake_real = _sums(real, fake)
    fake_fake, _ = _sums(fake, fake)
    return real_real - _diagonal(real), real_fake, fake_real, fake_fake - _diagonal(fake)


def _sums(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Sums of the kernel between two sets: for each of the first (N,), for each of the second (M,)."""
    room = np.empty((2, min(ROWS, len(first)), len(second)))
    by_row, by_column = np.empty(len(first)), np.zeros(len(second))
    for start in range(0, len(first), ROWS):
        values = _kernel(first[start : start + ROWS], second, room)
        by_row[start : start + ROWS] = values.sum(1)
        by_column += values.sum(0)
    return by_row, by_column


def _diagonal(features: Floats) -> Floats:
    values: Floats = ((features**2).sum(1) / features.shape[1] + 1) ** 3
    return values


def _discrepancy(real_real: Floats, real_fake: Floats, fake_real: Floats, fake_fake: Floats) -> float:
    n, m = len(real_real), len(fake_fake)
    within = real_real.sum() / (n * (n - 1)) + fake_fake.sum() / (m * (m - 1))
    return float(within - 2 * real_fake.sum() / (n * m))


def _members(groups: Sequence[str] | None, count: int) -> list[np.ndarray]:
    if groups is None:
        return list(np.arange(count)[:, None])
    _, code = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(code, kind="stable")
    return np.split(order, np.cumsum(np.bincount(code))[:-1])


def _without_real(real: Floats, rows: tuple[Floats, ...], parts: list[np.ndarray]) -> Floats:
    """The discrepancy with each real group left out: (groups,)."""
    real_real, real_fake, _, fake_fake = rows
    m = len(fake_fake)
    values = []
    for part in parts:
        n = len(real) - len(part)
        block = real[part]
        inside = _kernel(block, block).sum() - _diagonal(block).sum() if len(part) > 1 else 0.0
        within = real_real.sum() - 2 * real_real[part].sum() + inside
        between = real_fake.sum() - real_fake[part].sum()
        if n > 1:
            values.append(within / (n * (n - 1)) - 2 * between / (n * m))
    return np.array(values)


def _without_fake(rows: tuple[Floats, ...]) -> Floats:
    """The discrepancy, less its unchanging real-real part, with each synthetic row left out: (M,)."""
    real_real, _, fake_real, fake_fake = rows
    n, m = len(real_real), len(fake_fake) - 1
    if m < 2:
        return np.array([])
    within = (fake_fake.sum() - 2 * fake_fake) / (m * (m - 1))
    values: Floats = within - 2 * (fake_real.sum() - fake_real) / (n * m)
    return values


def _jackknife_variance(values: Floats) -> float:
    if len(values) < 2:
        return 0.0
    return float((len(values) - 1) * values.var())
