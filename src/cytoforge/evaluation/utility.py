"""Does one way of training classify better than another? Differences over repeats become a verdict.

The same cells serve as training cells in one repeat and as test cells in another, so repeats are not
independent and an ordinary t-test finds effects where there are none. The corrected resampled t-test allows
for it; Holm's method allows for asking many questions at once. What many comparisons say together is asked
once, of their mean in each repeat: so a small effect that all of them share is found where none alone is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from cytoforge.core.errors import DataError
from cytoforge.core.randomness import derive

Verdict = Literal["helps", "hurts", "no evidence"]

LEVEL: Final = 0.95
POWER: Final = 0.8


@dataclass(frozen=True)
class Comparison:
    """One paired comparison over repeats; differences are "new way minus baseline".

    Attributes:
        difference: mean over the repeats.
        low: lower end of the corrected t interval.
        high: upper end.
        bootstrap_low: lower end of the percentile bootstrap interval over repeats.
        bootstrap_high: upper end.
        p: two-sided p-value of the corrected resampled t-test, not adjusted for other comparisons.
        deviation: standard deviation of the differences, as the test uses it.
        repeats: number of differences.
        smallest: the smallest true difference that this design finds with probability `POWER`, allowing for
            the number of comparisons (as the first step of Holm's method does).
    """

    difference: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    p: float
    deviation: float
    repeats: int
    smallest: float


def compare_paired(
    differences: ArrayLike,
    train_count: int,
    test_count: int,
    level: float = LEVEL,
    comparisons: int = 1,
    seed: int = 0,
) -> Comparison:
    """Whether paired differences over overlapping repeats are other than 0.

    Args:
        differences: (R,) score of the new way minus that of the baseline, same repeat, same test cells.
        train_count: cells from which a repeat's training cells come (all groups but the test groups).
        test_count: cells in a repeat's test part.
        level: coverage of the intervals; 1 - level is the rate of false alarms.
        comparisons: how many are made at once; counts for `smallest` alone, `holm` adjusts p-values.
        seed: of the bootstrap.

    Returns:
        The comparison. Scores are taken to be known to one test cell: a smaller spread is not believed.

    Raises:
        DataError: fewer than two differences, one that is not a number, or no cells.

    Example:
        >>> found = compare_paired([0.02, 0.04, 0.03, 0.05, 0.01], train_count=800, test_count=200)
        >>> round(found.difference, 4), round(found.p, 4)  # t = 0.03 / (0.0158 sqrt(1/5 + 1/4)) = 2.828
        (0.03, 0.0474)

    Reference:
        Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003, section 3:
        the variance of the mean is estimated by (1/R + test_count / train_count) times that of a difference.
    """
    values = np.asarray(differences, np.float64)
    _check(values, train_count, test_count, level)
    repeats = len(values)
    mean, deviation = float(values.mean()), _deviation(values, test_count)
    error = standard_error(deviation, repeats, train_count, test_count)
    reach = float(special.stdtrit(repeats - 1, 0.5 + level / 2)) * error
    rng = np.random.default_rng(derive(seed, "paired bootstrap"))
    means = rng.choice(values, (2000, repeats)).mean(1)
    bootstrap_low, bootstrap_high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Comparison(
        difference=mean,
        low=mean - reach,
        high=mean + reach,
        bootstrap_low=float(bootstrap_low),
        bootstrap_high=float(bootstrap_high),
        p=float(2 * special.stdtr(repeats - 1, -abs(mean) / error)),
        deviation=deviation,
        repeats=repeats,
        smallest=smallest_effect(deviation, repeats, train_count, test_count, level, comparisons),
    )


def compare_pooled(
    differences: ArrayLike,
    train_count: int,
    test_count: int,
    level: float = LEVEL,
    questions: int = 1,
    seed: int = 0,
) -> Comparison:
    """Whether many comparisons together are other than 0: their differences, averaged within each repeat.

    Args:
        differences: (M, R) those of each comparison, NaN where it has none; only repeats with all M count.
        train_count: as for `compare_paired`.
        test_count: as for `compare_paired`.
        level: as for `compare_paired`.
        questions: how many such averages are judged at once; counts for `smallest` alone.
        seed: of the bootstrap.

    Returns:
        As `compare_paired`, which sees the (R,) means.

    Raises:
        DataError: fewer than two repeats have all comparisons.

    Example:
        >>> found = compare_pooled([[0.02, 0.04, 0.9], [0.04, 0.08, float("nan")]], 800, 200)
        >>> found.repeats, round(found.difference, 4)  # (0.03 + 0.06) / 2
        (2, 0.045)
    """
    means = np.asarray(differences, np.float64).mean(0)
    return compare_paired(means[~np.isnan(means)], train_count, test_count, level, questions, seed)


def standard_error(deviation: float, repeats: int, train_count: int, test_count: int) -> float:
    """Standard error of a mean over overlapping repeats, see `compare_paired`.

    Example:
        >>> standard_error(2.0, 4, train_count=400, test_count=300)
        2.0
    """
    return float(deviation * np.sqrt(1 / repeats + test_count / train_count))


def power(
    effect: float,
    deviation: float,
    repeats: int,
    train_count: int,
    test_count: int,
    level: float = LEVEL,
    comparisons: int = 1,
) -> float:
    """Probability that the test finds a true difference, with Bonferroni's bound over `comparisons`.

    Args:
        effect: true mean difference.
        deviation: standard deviation of the differences between repeats.
        repeats: number of repeats.
        train_count: as for `compare_paired`.
        test_count: as for `compare_paired`.
        level: 1 - level is the rate of false alarms over all comparisons.
        comparisons: how many are made at once.

    Returns:
        Probability in 0..1; at no effect it is the rate of false alarms of one comparison.

    Example:
        >>> round(power(0.0, 0.01, 5, 800, 200), 3)
        0.05
    """
    shift = abs(effect) / standard_error(deviation, repeats, train_count, test_count)
    return _power(shift, repeats, level, comparisons)


def smallest_effect(
    deviation: float,
    repeats: int,
    train_count: int,
    test_count: int,
    level: float = LEVEL,
    comparisons: int = 1,
    wanted: float = POWER,
) -> float:
    """The smallest true difference that is found with probability `wanted`; others as for `power`."""
    error = standard_error(deviation, repeats, train_count, test_count)
    return _shift(repeats, level, comparisons, wanted) * error


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """p-values adjusted so that the chance of any false alarm among all of them keeps the level: (M,).

    Args:
        p_values: (M,) of all comparisons of one family.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()  # 3 * 0.01, then 2 * 0.03, then no less than that
        [0.03, 0.06, 0.06]

    Reference:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6, 1979.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    stepwise = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepwise, 1)
    return adjusted


def rule(level: float = LEVEL) -> str:
    """The rule by which `verdict` decides, in words; a study writes it down before any number is seen.

    Example:
        >>> "is at most 0.05," in rule()
        True
    """
    return (
        "helps: the mean difference over the repeats is above 0, the p-value of the corrected resampled "
        f"t-test (two-sided, adjusted by Holm's method) is at most {1 - level:.4g}, and the bootstrap "
        "interval of the mean lies above 0. hurts: the same below 0. no evidence: everything else. First "
        "each question is judged once, by the mean of its differences over all its comparisons within each "
        "repeat (repeats that have all of them), then each comparison alone. The averages of all questions "
        "are one family for Holm's method; the single comparisons of each question are another."
    )


def verdict(comparison: Comparison, adjusted_p: float, level: float = LEVEL) -> Verdict:
    """What `rule` says.

    Args:
        comparison: from `compare_paired`, with the same level.
        adjusted_p: its p-value after `holm`.
        level: 1 - level is the rate of false alarms.

    Returns:
        "helps", "hurts" or "no evidence".
    """
    if not adjusted_p <= 1 - level:
        return "no evidence"
    if comparison.difference > 0 and comparison.bootstrap_low > 0:
        return "helps"
    if comparison.difference < 0 and comparison.bootstrap_high < 0:
        return "hurts"
    return "no evidence"


def _power(shift: float, repeats: int, level: float, comparisons: int) -> float:
    """`power` of a difference of `shift` standard errors."""
    limit = stats.t.ppf(1 - (1 - level) / (2 * comparisons), repeats - 1)
    above = stats.nct.sf(limit, repeats - 1, shift)
    below = stats.nct.cdf(-limit, repeats - 1, shift)
    # far from 0 scipy's distribution loses its digits: the upper tail is then 1, the lower one 0
    return float(np.clip(np.nan_to_num(above, nan=1.0) + np.nan_to_num(below, nan=0.0), 0, 1))


@lru_cache(maxsize=256)
def _shift(repeats: int, level: float, comparisons: int, wanted: float) -> float:
    """The difference in standard errors at which `_power` is `wanted`."""
    far = 2.0
    while _power(far, repeats, level, comparisons) < wanted:
        far *= 1.5
    return float(
        optimize.brentq(
            lambda shift: _power(shift, repeats, level, comparisons) - wanted, 0.0, far, xtol=1e-6
        )
    )


def _deviation(values: NDArray[np.float64], test_count: int) -> float:
    """Standard deviation, at least that of rounding two scores to one test cell (Sheppard): sqrt(2/12)/n."""
    return max(float(values.std(ddof=1)), float(np.sqrt(1 / 6)) / test_count)


def _check(values: NDArray[np.float64], train_count: int, test_count: int, level: float) -> None:
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise DataError(
            f"a paired comparison needs two or more finite differences in one row, got {values.tolist()}; "
            "raise --repeats."
        )
    if train_count < 1 or test_count < 1 or not 0 < level < 1:
        raise DataError(
            f"a paired comparison needs training and test cells and a level between 0 and 1, got "
            f"{train_count}, {test_count} and {level}."
        )
