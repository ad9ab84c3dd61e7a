"""How sure a number is: intervals of shares, and what real cells score against other real cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cytoforge.core.errors import DataError
from cytoforge.core.randomness import derive


def wilson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share.

    Args:
        successes: how many.
        trials: of how many, at least one.
        level: coverage.

    Returns:
        Lower and upper end in 0..1; sensible for few trials and for shares of 0 and 1.

    Raises:
        DataError: no trials, or more successes than trials.

    Example:
        >>> [round(end, 4) for end in wilson(8, 10)]
        [0.4902, 0.9433]

    Reference:
        Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise DataError(
            f"a share needs 0 <= successes <= trials and trials > 0, got {successes} of {trials}."
        )
    interval = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def prediction_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Where one more value of the same normal distribution lies: mean ± t s √(1 + 1/n).

    Args:
        values: (N,) at least two; s is their standard deviation, t of N - 1 degrees of freedom.
        level: coverage, whatever N is.

    Returns:
        Lower and upper end.

    Raises:
        DataError: fewer than two values, which say nothing of their spread.

    Example:
        >>> [round(end, 3) for end in prediction_interval([1.0, 2.0, 3.0])]  # 2 ± 4.3027 * 1 * 1.1547
        [-2.968, 6.968]

    Reference:
        Hahn, Factors for calculating two-sided prediction intervals for samples from a normal distribution,
        JASA 1969.
    """
    if len(values) < 2:
        raise DataError(f"a prediction needs at least two values, got {len(values)}.")
    t = stats.t.ppf(0.5 + level / 2, len(values) - 1)
    mean, half = np.mean(values), t * np.std(values, ddof=1) * np.sqrt(1 + 1 / len(values))
    return float(mean - half), float(mean + half)


FEW_GROUPS = 10
"""Below so many groups a percentile interval over them is too short: 95 % are 80 to 90 of three to five."""


def bootstrap_mean(
    values: NDArray[np.float64],
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> tuple[float, float]:
    """Percentile interval of a mean, whole groups drawn with replacement.

    With fewer than `FEW_GROUPS` groups it is too short.

    Args:
        values: (N,) one number for each image; an accuracy has 0 and 1.
        groups: (N,) the photo or patient of each; None where each image stands for itself.
        level: coverage.
        repeats: number of bootstrap samples.
        seed: of the draws.
        weights: (N,) of a weighted mean.
        bounds: what a mean can be.

    Returns:
        Lower and upper end; those of `bounds` where there is one group, which says nothing of others.

    Raises:
        DataError: there are no values.
    """
    if not len(values):
        raise DataError("an interval needs at least one value, got none.")
    _, code = np.unique(np.arange(len(values)) if groups is None else np.asarray(groups), return_inverse=True)
    weights = np.ones(len(values)) if weights is None else weights
    sums, sizes = np.bincount(code, weights * values), np.bincount(code, weights)
    if len(sums) == 1:
        return bounds
    rng = np.random.default_rng(derive(seed, "bootstrap"))
    means = np.empty(repeats)
    for repeat in range(repeats):
        chosen = rng.integers(0, len(sums), len(sums))
        size = sizes[chosen].sum()
        means[repeat] = sums[chosen].sum() / size if size else np.nan
    low, high = np.nanquantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Floor:
    """What a score gives for real against real, at the sizes of real against synthetic.

    Attributes:
        mean: over the divisions.
        low: lower end of what one more division would give with 95 % chance.
        high: upper end.
        repeats: number of divisions.
    """

    mean: float
    low: float
    high: float
    repeats: int


def floors_of(
    tables: Sequence[dict[str, float]], bounds: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, Floor]:
    """Floors from scores that are known; none from fewer than two divisions, which have no range.

    Divisions of the same cells are taken for independent, and their scores for normal.

    Args:
        tables: the named scores of each division.
        bounds: name -> least and largest value that a score can have; floors do not reach beyond.

    Example:
        >>> floors_of([{"a": 1.0}, {"a": 3.0}], {"a": (0, 10)})["a"]
        Floor(mean=2.0, low=0.0, high=10.0, repeats=2)
    """
    if len(tables) < 2:
        return {}
    return {
        name: _floor([table[name] for table in tables], (bounds or {}).get(name, (-np.inf, np.inf)))
        for name in tables[0]
    }


def divide(
    labels: NDArray[np.int64],
    groups: Sequence[str],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    repeats: int,
    seed: int = 0,
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Random pairs of disjoint sets of real images with wanted class counts; no group is on both sides.

    Groups are dealt in random order to the side that still wants the larger share of them; what exceeds the
    wanted count is left out.

    Args:
        labels: (N,) class of each real image.
        groups: (N,) photo or patient of each.
        first: (C,) wanted images of each class on the first side.
        second: (C,) on the second side.
        repeats: number of pairs.
        seed: of the draws.

    Returns:
        Pairs of row numbers. A side can lack a few images where groups are large.
    """
    _, code = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(code, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(code))[:-1])
    pairs = []
    for repeat in range(repeats):
        rng = np.random.default_rng(derive(seed, "divide", repeat))
        pairs.append(_deal(labels, members, np.stack([first, second]), rng))
    return pairs


def _deal(
    labels: NDArray[np.int64],
    members: list[NDArray[np.int64]],
    wanted: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    left = wanted.copy()
    sides: tuple[list[int], list[int]] = ([], [])
    for index in rng.permutation(len(members)):
        group = members[index]
        counts = np.bincount(labels[group], minlength=left.shape[1])
        useful = np.minimum(counts, left).sum(1)
        need = (counts * left / np.maximum(wanted, 1)).sum(1)
        side = int(np.lexsort((-need, -useful))[0])
        for row in rng.permutation(group):
            if left[side, labels[row]] > 0:
                left[side, labels[row]] -= 1
                sides[side].append(int(row))
    return np.sort(np.array(sides[0], np.int64)), np.sort(np.array(sides[1], np.int64))


def _floor(values: list[float], bounds: tuple[float, float]) -> Floor:
    low, high = np.clip(prediction_interval(values), *bounds)
    return Floor(float(np.mean(values)), float(low), float(high), len(values))
