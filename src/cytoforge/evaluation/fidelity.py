"""How far the synthetic images are from real ones, as two clouds of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cytoforge.evaluation.distances import Floats, check_features, one_thread
from cytoforge.evaluation.products import between, kernel, within


@dataclass(frozen=True)
class KernelSums:
    """Row sums of the kernel (x.y / D + 1)^3, no row with itself.

    Attributes:
        real_real: (N,) of each real row with the other real ones.
        real_fake: (N,) of each real row with the synthetic ones.
        fake_real: (M,) of each synthetic row with the real ones.
        fake_fake: (M,) of each synthetic row with the other synthetic ones.
    """

    real_real: Floats
    real_fake: Floats
    fake_real: Floats
    fake_fake: Floats

    def distance(self) -> float:
        """The kernel distance."""
        n, m = len(self.real_real), len(self.fake_fake)
        inside = self.real_real.sum() / (n * (n - 1)) + self.fake_fake.sum() / (m * (m - 1))
        return float(inside - 2 * self.real_fake.sum() / (n * m))


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
    return _kernel_sums(real, fake).distance()


def kernel_distance_interval(
    real: Floats,
    fake: Floats,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """`kernel_distance` with its interval by the jackknife: each real group and fake row is left out once.

    Cells of one photo resemble each other, so a photo, not a cell, counts as one observation; where there is
    but one photo its cells do, for want of better. The jackknife errs on the wide side where the true
    distance is near 0.

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
    return jackknife(real, _kernel_sums(real, fake), groups, level)


def jackknife(
    real: Floats, sums: KernelSums, groups: Sequence[str] | None = None, level: float = 0.95
) -> tuple[float, float, float]:
    """`kernel_distance_interval` where the sums of the kernel are known.

    Args:
        real: (N, D).
        sums: of these real and some synthetic rows.
        groups: (N,) the photo or patient of each real row; None where each row stands for itself.
        level: coverage.
    """
    parts = _members(groups, len(real))
    if len(parts) < 2:
        parts = _members(None, len(real))
    variance = _jackknife_variance(_without_real(real, sums, parts))
    variance += _jackknife_variance(_without_fake(sums))
    half = float(stats.norm.ppf(0.5 + level / 2) * np.sqrt(variance))
    value = sums.distance()
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


def _kernel_sums(real: Floats, fake: Floats) -> KernelSums:
    across = between(real, fake)
    return KernelSums(within(real).kernel, across.kernel_real, across.kernel_fake, within(fake).kernel)


def _members(groups: Sequence[str] | None, count: int) -> list[np.ndarray]:
    if groups is None:
        return list(np.arange(count)[:, None])
    _, code = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(code, kind="stable")
    return np.split(order, np.cumsum(np.bincount(code))[:-1])


def _without_real(real: Floats, sums: KernelSums, parts: list[np.ndarray]) -> Floats:
    """The discrepancy with each real group left out: (groups,)."""
    m = len(sums.fake_fake)
    values = []
    for part in parts:
        n = len(real) - len(part)
        inside = 0.0
        if len(part) > 1:
            block = kernel(real[part] @ real[part].T, real.shape[1])
            inside = block.sum() - np.trace(block)
        within_real = sums.real_real.sum() - 2 * sums.real_real[part].sum() + inside
        across = sums.real_fake.sum() - sums.real_fake[part].sum()
        if n > 1:
            values.append(within_real / (n * (n - 1)) - 2 * across / (n * m))
    return np.array(values)


def _without_fake(sums: KernelSums) -> Floats:
    """The discrepancy, less its unchanging real-real part, with each synthetic row left out: (M,)."""
    n, m = len(sums.real_real), len(sums.fake_fake) - 1
    if m < 2:
        return np.array([])
    within_fake = (sums.fake_fake.sum() - 2 * sums.fake_fake) / (m * (m - 1))
    values: Floats = within_fake - 2 * (sums.fake_real.sum() - sums.fake_real) / (n * m)
    return values


def _jackknife_variance(values: Floats) -> float:
    if len(values) < 2:
        return 0.0
    return float((len(values) - 1) * values.var())
