"""All set-level scores of synthetic images against holdout cells, each with its floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError
from cytoforge.core.randomness import derive
from cytoforge.evaluation.distances import Floats
from cytoforge.evaluation.diversity import share_of_twins
from cytoforge.evaluation.fidelity import jackknife
from cytoforge.evaluation.metrics import Collapse, Comparison, Number
from cytoforge.evaluation.pairs import BOUNDS, K, measure_all
from cytoforge.evaluation.statistics import Floor, divide, floors_of

__all__ = ["K", "RULES", "FeatureSet", "check_comparable", "compare"]

SMALLEST = 10
"""Fewer images on a side give no scores."""

RARE = 2 * SMALLEST
"""A class of fewer real cells, which can have no floor of its own, may be left out of overall numbers."""

Counts = NDArray[np.int64]
"""(C,) images of each class."""

RULES = {
    "floors": (
        "Each floor is the same score for two sets of real cells that share no photo, with as many cells on "
        "each side as real and synthetic images in the value beside it: mean over 20 random divisions of all "
        "real cells (6 above 1,000 images, 3 above 3,000), and the range in which one more division would "
        "lie with 95 % chance (prediction interval by Student's t)."
    ),
    "intervals": (
        "Kernel distance: 95 % jackknife, one real photo or one synthetic image left out at a time. Shares: "
        "95 % Wilson. Accuracy on holdout cells: 95 % bootstrap. Share nearer to training: 95 %, by random "
        "halves of images and of photos."
    ),
    "mix": (
        "Overall numbers compare the classes that were generated. Synthetic images are thinned at random to "
        "the holdout's mix of classes, unless that would lose more than half of what can be compared. "
        f"Classes of fewer than {RARE} real cells are left out where they would cost more than half of it."
    ),
    "collapse": (
        "Collapsed where pairwise distance or effective number of different images is below half of that of "
        "real cells in equal number, or where the share of images with a twin is more than 10 points above "
        "that of real cells. A twin is another synthetic image nearer than half the median distance of real "
        "cells to their nearest neighbour. Blurred images count as alike too."
    ),
}


@dataclass(frozen=True)
class FeatureSet:
    """Features of some images, with what they may be compared with.

    Attributes:
        values: (N, D).
        labels: (N,) classes.
        groups: (N,) photo or patient of each.
        extractor: name, input size included.
        resolution: side of the images, in pixels.
    """

    values: Floats
    labels: NDArray[np.int64]
    groups: tuple[str, ...]
    extractor: str
    resolution: int

    def __len__(self) -> int:
        return len(self.values)

    def part(self, rows: NDArray[np.int64]) -> FeatureSet:
        """The set of these rows."""
        groups = tuple(self.groups[row] for row in rows)
        return FeatureSet(self.values[rows], self.labels[rows], groups, self.extractor, self.resolution)

    def of(self, label: int) -> FeatureSet:
        """The set of one class."""
        return self.part(np.flatnonzero(self.labels == label))

    def counts(self, classes: int) -> Counts:
        """(C,) images of each class."""
        return np.bincount(self.labels, minlength=classes)


def check_comparable(*sets: FeatureSet) -> None:
    """Refuse features that do not mean the same.

    Raises:
        ConfigError: other extractors or resolutions.
    """
    for name in ("extractor", "resolution"):
        found = {str(getattr(each, name)) for each in sets}
        if len(found) > 1:
            raise ConfigError(
                f"these features cannot be compared: their {name} differs ({', '.join(sorted(found))}). "
                f"Compute all of them with one {name}."
            )


def compare(
    holdout: FeatureSet, fake: FeatureSet, real: FeatureSet, classes: Sequence[str], seed: int = 0
) -> tuple[Comparison, list[str]]:
    """Synthetic images against holdout cells, with floors from all real cells.

    Args:
        holdout: real cells that training did not use.
        fake: synthetic images.
        real: all real cells, the holdout among them.
        classes: names, for warnings.
        seed: of thinning and of the divisions for floors.

    Returns:
        The comparison, and warnings.

    Raises:
        ConfigError: the features do not mean the same.
    """
    check_comparable(holdout, fake, real)
    first, second, warnings = _wanted(holdout, fake, real, classes)
    count = len(fake)
    if min(first.sum(), second.sum()) < SMALLEST:
        return Comparison(count=count, n_real=int(first.sum()), n_fake=int(second.sum())), warnings
    rng = np.random.default_rng(derive(seed, "thin"))
    holdout, fake = _thin(holdout, first, rng), _thin(fake, second, rng)
    divisions = divide(real.labels, real.groups, first, second, _repeats(len(holdout) + len(fake)), seed)
    divisions = [pair for pair in divisions if min(map(len, pair)) >= SMALLEST]
    jobs = [partial(_sides, real.values, *rows) for rows in divisions]
    value, *others = measure_all([lambda: (holdout.values, fake.values), *jobs])
    found = floors_of([other.scores for other in others], BOUNDS)
    _, *ends = jackknife(holdout.values, value.sums, holdout.groups)
    intervals = {"kernel_distance": (ends[0], ends[1])}
    numbers = {
        name: _number(score, found.get(name), intervals.get(name)) for name, score in value.scores.items()
    }
    twins = others[0].fake_nearest if others else value.real_nearest
    result = Comparison(
        count=count,
        n_real=len(holdout),
        n_fake=len(fake),
        numbers=numbers,
        collapse=_collapse(numbers, twins, value.fake_nearest),
    )
    return result, warnings


def _sides(values: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[Floats, Floats]:
    return values[first], values[second]


def _wanted(
    holdout: FeatureSet, fake: FeatureSet, real: FeatureSet, classes: Sequence[str]
) -> tuple[Counts, Counts, list[str]]:
    """Images of each class to compare: holdout (C,), synthetic (C,), and warnings."""
    warnings = []
    first, second, every = (each.counts(len(classes)) for each in (holdout, fake, real))
    present = (first > 0) & (second > 0)
    if unseen := [classes[int(index)] for index in np.flatnonzero((second > 0) & (first == 0))]:
        warnings.append(f"No holdout cells of {', '.join(unseen)}: these images are in no comparison.")
    sizes = _sizes(np.where(present, first, 0), np.where(present, second, 0), every)
    if left_out := [classes[int(index)] for index in np.flatnonzero(present & (sizes.second == 0))]:
        warnings.append(
            f"Too few real cells of {', '.join(left_out)}: these images are left out of the overall numbers."
        )
    if not sizes.matched:
        warnings.append(
            "Class shares of synthetic and holdout images differ, which raises overall distances."
        )
    if 2 * len(sizes) < len(fake):
        warnings.append(
            f"Only {len(sizes):,} of {len(fake):,} synthetic images are in the overall numbers: classes with "
            "too few real cells, the holdout's mix of classes and floors of equal size exclude the others."
        )
    return sizes.first, sizes.second, warnings


@dataclass(frozen=True)
class _Sizes:
    """Images of each class to compare.

    Attributes:
        first: (C,) of the holdout.
        second: (C,) synthetic ones, which are counted as its length.
        matched: both in the holdout's mix of classes.
    """

    first: Counts
    second: Counts
    matched: bool

    def __len__(self) -> int:
        return int(self.second.sum())


def _sizes(first: Counts, second: Counts, every: Counts) -> _Sizes:
    """With as few rare classes left out, the scarcest first, as keep half of what can be kept."""
    rare = np.flatnonzero((first > 0) & (every < RARE))
    rare = rare[np.argsort(every[rare] / first[rare], kind="stable")]
    options = [_sizes_without(rare[:count], first, second, every) for count in range(len(rare) + 1)]
    most = max(map(len, options))
    return next(option for option in options if 2 * len(option) >= most)


def _sizes_without(left_out: NDArray[np.int64], first: Counts, second: Counts, every: Counts) -> _Sizes:
    """In the holdout's mix of classes, or in the mixes there are where that would lose more than half."""
    first, second = first.copy(), second.copy()
    first[left_out] = second[left_out] = 0
    if (every - first < _shrunk(first, second)).any():
        first = np.minimum(first, every // 2)
    fitting, matched = (_fitted(first, mix, every) for mix in (second, _shrunk(first, second)))
    if 2 * matched[1].sum() >= fitting[1].sum():
        return _Sizes(*matched, True)
    return _Sizes(*fitting, False)


def _fitted(first: Counts, second: Counts, every: Counts) -> tuple[Counts, Counts]:
    """Both sides so small that all real cells are enough for a floor of equal numbers."""
    if (every - first >= second).all():
        return first, second
    first = np.minimum(first, every // 2)
    return first, np.minimum(second, _shrunk(second, every - first))


def _shrunk(mix: Counts, available: Counts) -> Counts:
    """The largest counts in the proportions of `mix` that `available` allows."""
    used = mix > 0
    if not used.any():
        return mix
    scale = float((available[used] / mix[used]).min())
    counts: Counts = np.minimum(available, np.floor(scale * mix + 1e-9).astype(np.int64))
    return counts


def _thin(images: FeatureSet, counts: Counts, rng: np.random.Generator) -> FeatureSet:
    rows = [
        rng.permutation(np.flatnonzero(images.labels == label))[:count] for label, count in enumerate(counts)
    ]
    return images.part(np.sort(np.concatenate(rows)))


def _repeats(images: int) -> int:
    if images <= 1000:
        return 20
    return 6 if images <= 3000 else 3


def _number(value: float, floor: Floor | None, interval: tuple[float, float] | None) -> Number:
    low, high = interval or (None, None)
    if floor is None:
        return Number(value=value, low=low, high=high)
    return Number(
        value=value,
        low=low,
        high=high,
        floor=floor.mean,
        floor_low=floor.low,
        floor_high=floor.high,
        floor_repeats=floor.repeats,
    )


def _collapse(numbers: dict[str, Number], real_nearest: Floats, fake_nearest: Floats) -> Collapse | None:
    shares = {}
    for name in ("pairwise_distance", "effective_modes"):
        floor = numbers[name].floor
        if not floor:
            return None
        shares[name] = numbers[name].value / floor
    spread, modes = shares["pairwise_distance"], shares["effective_modes"]
    repeated = share_of_twins(real_nearest, fake_nearest)
    usual = share_of_twins(real_nearest, real_nearest)
    return Collapse(
        collapsed=spread < 0.5 or modes < 0.5 or repeated > usual + 0.1,
        spread=spread,
        modes=modes,
        repeated=repeated,
        real_repeated=usual,
    )
