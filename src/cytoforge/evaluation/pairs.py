"""All set-level scores of a real and a synthetic set from one pass, and of many pairs side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cytoforge.evaluation.distances import Floats, check_features, one_thread, threads
from cytoforge.evaluation.diversity import effective_modes, pairwise_distance, shares_in_balls
from cytoforge.evaluation.fidelity import KernelSums, frechet_distance
from cytoforge.evaluation.products import between, within

K = 5

BOUNDS = {
    "frechet_distance": (0.0, math.inf),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "density": (0.0, math.inf),
    "coverage": (0.0, 1.0),
    "pairwise_distance": (0.0, 2.0),
    "effective_modes": (1.0, math.inf),
}
"""Least and largest value of each score; the kernel distance, being unbiased, has none."""


@dataclass(frozen=True)
class Pair:
    """What one pass over two sets found.

    Attributes:
        scores: all set-level scores by name.
        sums: of the kernel, for the interval of the kernel distance.
        real_nearest: (N,) squared distance of each real row to its nearest other.
        fake_nearest: (M,) the same among synthetic rows.
    """

    scores: dict[str, float]
    sums: KernelSums
    real_nearest: Floats
    fake_nearest: Floats


def measure(real: Floats, fake: Floats) -> Pair:
    """All set-level scores; each inner product of features is computed once.

    Args:
        real: (N, D), N > 5.
        fake: (M, D), M > 5.

    Raises:
        DataError: the shapes do not fit or there are too few images.
    """
    check_features(real, fake)
    own, other = within(real, K), within(fake, K)
    across = between(real, fake, (own.nearest[:, -1], other.nearest[:, -1]))
    sums = KernelSums(own.kernel, across.kernel_real, across.kernel_fake, other.kernel)
    scores = {
        "frechet_distance": frechet_distance(real, fake),
        "kernel_distance": sums.distance(),
        **shares_in_balls(across, K),
        "pairwise_distance": pairwise_distance(fake),
        "effective_modes": effective_modes(fake, real.mean(0)),
    }
    return Pair(scores, sums, own.nearest[:, 0], other.nearest[:, 0])


def measure_all(pairs: Sequence[Callable[[], tuple[Floats, Floats]]]) -> list[Pair]:
    """`measure` for many pairs, as many at a time as linear algebra has threads.

    One pair on each thread is faster than one pair on all of them, for factorisations gain little from more
    than one; and so the result does not depend on the number of threads.

    Args:
        pairs: functions that give the two sets, called when it is their turn, so that not all are in memory.
    """
    with ThreadPoolExecutor(threads()) as pool, one_thread():
        return list(pool.map(lambda pair: measure(*pair()), pairs))
