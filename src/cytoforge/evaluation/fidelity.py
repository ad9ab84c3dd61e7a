"""How far the synthetic images are from real ones, as two clouds of features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg, stats

from cytoforge.evaluation.distances import ROWS, Floats, check_features


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
    first, second = _covariance_factor(real), _covariance_factor(fake)
    shift = real.mean(0) - fake.mean(0)
    common = linalg.svdvals(first @ second.T, overwrite_a=True, check_finite=False).sum()
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
) -> tuple[float, float]:
    """Interval of `kernel_distance` by the jackknife: each real group and each fake row is left out once.

    Cells of one photo resemble each other, so a photo, not a cell, counts as one observation. The jackknife
    errs on the wide side where the true distance is near 0.

    Args:
        real: (N, D).
        fake: (M, D).
        groups: (N,) the photo or patient of each real row; None where each row stands for itself.
        level: coverage.

    Returns:
        Lower and upper end, symmetric about `kernel_distance`.

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
    return value - half, value + half


def _covariance_factor(features: Floats) -> Floats:
    """F with F'F = covariance: centred rows, or their triangular factor where rows outnumber columns."""
    centred: Floats = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    factor: Floats = linalg.qr(centred, mode="r", overwrite_a=True, check_finite=False)[0][: centred.shape[1]]
    return factor


def _kernel(first: Floats, second: Floats) -> Floats:
    values: Floats = first @ second.T
    values /= first.shape[1]
    values += 1
    cubed: Floats = values * values
    cubed *= values
    return cubed


def _kernel_rows(real: Floats, fake: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Row sums of the kernel: real-real and fake-fake without diagonal, real-fake by row and by column."""
    real_real, real_fake = np.empty(len(real)), np.empty(len(real))
    fake_fake, fake_real = np.empty(len(fake)), np.zeros(len(fake))
    for start in range(0, len(real), ROWS):
        part = slice(start, start + ROWS)
        real_real[part] = _kernel(real[part], real).sum(1) - _diagonal(real[part])
        between = _kernel(real[part], fake)
        real_fake[part] = between.sum(1)
        fake_real += between.sum(0)
    for start in range(0, len(fake), ROWS):
        part = slice(start, start + ROWS)
        fake_fake[part] = _kernel(fake[part], fake).sum(1) - _diagonal(fake[part])
    return real_real, real_fake, fake_real, fake_fake


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
