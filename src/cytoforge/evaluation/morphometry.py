"""Whether synthetic cells have the sizes, forms and textures of real ones, class by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cytoforge.core.errors import DataError
from cytoforge.core.mask import UNKNOWN
from cytoforge.core.randomness import derive
from cytoforge.evaluation.metrics import Measurement, Morphometry, PartShare
from cytoforge.evaluation.statistics import divide
from cytoforge.morphology.features import FEATURES, REGIONS, measure_cell

FEWEST = 10
"""With fewer cells on a side nothing is compared."""

DIVISIONS = 20
FALSE_ALARMS = 0.05
_APART = 0.1

RULES = {
    "morphometry": (
        "Each measurement of the synthetic cells of a class against the same of unseen real cells: "
        "Wasserstein distance in standard deviations of the real ones; floor: real cells against real cells "
        f"of other groups in equal numbers, {DIVISIONS} divisions, for which synthetic cells are thinned at "
        "random to as many as the real ones that are not unseen. It differs where the distance exceeds the "
        "floor's 97.5th percentile and the Kolmogorov-Smirnov test rejects at "
        f"{FALSE_ALARMS:g} after Benjamini-Hochberg within the class; by the test alone where real cells are "
        "too few for a floor. Orientation is left out: it depends on how the slide lay. Cells without a "
        "nucleus have no measurements of one, nor of cytoplasm those without any; how many have it differs "
        f"where shares are more than {100 * _APART:g} points apart, farther than the floor's 97.5th "
        f"percentile, and Fisher's exact test rejects at {FALSE_ALARMS:g} after Bonferroni over classes and "
        "parts."
    )
}

TOLD = ("nc_ratio", "nucleus_area", "cytoplasm_area", "nucleus_eccentricity", "nucleus_green_mean")
"""Measurements that a short table has."""

NAMES = (
    "nc_ratio",
    *(f"{region}_{name}" for region in REGIONS for name in FEATURES if name != "orientation"),
)
"""The compared measurements: of `morphology`, without orientation."""


@dataclass(frozen=True)
class MeasuredCells:
    """Cells with their measurements.

    Attributes:
        table: (N, len(NAMES)), NaN where a cell has no such measurement, as without a nucleus.
        labels: (N,) class.
        groups: (N,) photo or slide of each.
    """

    table: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: tuple[str, ...]

    def column(self, name: str, label: int) -> NDArray[np.float64]:
        """(n,) what there is of one measurement in one class."""
        values: NDArray[np.float64] = self.table[self.labels == label, NAMES.index(name)]
        return values[np.isfinite(values)]

    def having(self, part: str, label: int) -> NDArray[np.bool_]:
        """(n,) which cells of one class have a nucleus or cytoplasm."""
        there: NDArray[np.bool_] = np.isfinite(self.table[self.labels == label, NAMES.index(f"{part}_area")])
        return there


def measure_cells(
    images: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    labels: NDArray[np.int64],
    groups: Sequence[str],
) -> MeasuredCells:
    """Measurements of all cells whose mask is known; a cell whose mask is empty has none.

    Args:
        images: (N, R, R, 3).
        masks: (N, R, R): 0 background, 1 cytoplasm, 2 nucleus, 3 unknown.
        labels: (N,)
        groups: (N,)
    """
    known = [index for index, mask in enumerate(masks) if (mask != UNKNOWN).any()]
    rows = [measure_cell(images[index], masks[index]) for index in known]
    table = [[row.get(name, np.nan) for name in NAMES] for row in rows]
    return MeasuredCells(
        np.array(table, np.float64).reshape(len(rows), len(NAMES)),
        labels[known],
        tuple(groups[index] for index in known),
    )


def compare_measurements(
    holdout: MeasuredCells,
    fake: MeasuredCells,
    real: MeasuredCells,
    classes: Sequence[str],
    source: str,
    seed: int = 0,
) -> Morphometry | None:
    """Every measurement of synthetic cells against real ones, in each class that has enough of both.

    Args:
        holdout: unseen real cells.
        fake: synthetic cells.
        real: all real cells, for the floors.
        classes: names by label.
        source: where the masks are from, for the record.
        seed: of the divisions.

    Returns:
        None where no class has `FEWEST` cells on both sides.
    """
    found = {}
    for label, name in enumerate(classes):
        rows = _one_class(holdout, fake, real, label, seed)
        if rows:
            found[name] = rows
    parts = _parts(holdout, fake, real, classes, seed)
    return Morphometry(source=source, classes=found, parts=parts) if found or parts else None


def wasserstein(real: NDArray[np.float64], fake: NDArray[np.float64]) -> float:
    """Distance of two distributions of numbers, in standard deviations of the first.

    Args:
        real: (N,) at least one.
        fake: (M,) at least one.

    Returns:
        0 for equal distributions; infinity where all of `real` are equal and `fake` differs.

    Raises:
        DataError: a side is empty.

    Example:
        >>> wasserstein(np.array([-1.0, 1.0]), np.array([2.0, 4.0]))
        3.0
    """
    if not len(real) or not len(fake):
        raise DataError("a distance between distributions needs at least one number on each side.")
    distance = float(stats.wasserstein_distance(real, fake))
    return distance / max(float(real.std()), 1e-12) if distance > 0 else 0.0


def missing_parts(found: Morphometry) -> list[str]:
    """A line for each class and part that another share of cells has than of unseen real ones.

    Example:
        >>> few = PartShare(
        ...     n_real=50, n_fake=100, real=0.98, fake=0.2, floor_high=0.1, p_value=1e-9, differs=True
        ... )
        >>> missing_parts(Morphometry(source="given", classes={}, parts={"flat": {"nucleus": few}}))
        ['flat: 20 % of synthetic cells have a nucleus, 98 % of unseen real ones.']
    """
    words = {"nucleus": "a nucleus", "cytoplasm": "cytoplasm"}
    return [
        f"{label}: {100 * share.fake:.0f} % of synthetic cells have {words[part]}, {100 * share.real:.0f} % "
        "of unseen real ones."
        for label, shares in found.parts.items()
        for part, share in shares.items()
        if share.differs
    ]


def _parts(
    holdout: MeasuredCells, fake: MeasuredCells, real: MeasuredCells, classes: Sequence[str], seed: int
) -> dict[str, dict[str, PartShare]]:
    """Shares of cells with nucleus and with cytoplasm, of each class that has enough cells on both sides."""
    own = [
        label
        for label in range(len(classes))
        if min(int(np.sum(side.labels == label)) for side in (holdout, fake)) >= FEWEST
    ]
    found: dict[str, dict[str, PartShare]] = {}
    for label in own:
        thinned = _as_many(holdout, fake, real, label, seed)
        divisions = list(_divisions(holdout, thinned, real, label, seed))
        for part in REGIONS:
            unseen, made, there = (cells.having(part, label) for cells in (holdout, fake, real))
            floor = [abs(float(there[one].mean() - there[other].mean())) for one, other in divisions]
            share = _part_share(unseen, made, len(own) * len(REGIONS), floor)
            found.setdefault(classes[label], {})[part] = share
    return found


def _part_share(
    real: NDArray[np.bool_], fake: NDArray[np.bool_], tests: int, floor: Sequence[float]
) -> PartShare:
    counts = [[int(side.sum()), int((~side).sum())] for side in (real, fake)]
    p_value = min(1.0, tests * float(stats.fisher_exact(counts).pvalue))
    high = float(np.quantile(floor, 0.975)) if floor else None
    return PartShare(
        n_real=len(real),
        n_fake=len(fake),
        real=float(real.mean()),
        fake=float(fake.mean()),
        floor_high=high,
        p_value=p_value,
        differs=p_value < FALSE_ALARMS and abs(real.mean() - fake.mean()) > max(_APART, high or 0.0),
    )


def _one_class(
    holdout: MeasuredCells, fake: MeasuredCells, real: MeasuredCells, label: int, seed: int
) -> dict[str, Measurement]:
    fake = _as_many(holdout, fake, real, label, seed)
    pairs = {name: (holdout.column(name, label), fake.column(name, label)) for name in NAMES}
    pairs = {name: pair for name, pair in pairs.items() if min(map(len, pair)) >= FEWEST}
    if not pairs:
        return {}
    tests = {name: stats.ks_2samp(*pair) for name, pair in pairs.items()}
    adjusted = stats.false_discovery_control([test.pvalue for test in tests.values()])
    floors = _floors(holdout, fake, real, label, seed)
    return {
        name: _measurement(*pairs[name], float(tests[name].statistic), float(p_value), floors.get(name, []))
        for name, p_value in zip(tests, adjusted, strict=True)
    }


def _as_many(
    holdout: MeasuredCells, fake: MeasuredCells, real: MeasuredCells, label: int, seed: int
) -> MeasuredCells:
    """Of a class as many synthetic cells, at random, as there are real ones beside the holdout's."""
    own = np.flatnonzero(fake.labels == label)
    room = int(np.sum(real.labels == label) - np.sum(holdout.labels == label))
    if not FEWEST <= room < len(own):
        return fake
    rng = np.random.default_rng(derive(seed, "as many", label))
    rows = np.sort(rng.permutation(own)[:room])
    return MeasuredCells(fake.table[rows], fake.labels[rows], tuple(fake.groups[row] for row in rows))


def _measurement(
    real: NDArray[np.float64],
    fake: NDArray[np.float64],
    statistic: float,
    p_value: float,
    floor: Sequence[float],
) -> Measurement:
    distance = min(wasserstein(real, fake), 1e6)
    high = float(np.quantile(floor, 0.975)) if floor else None
    return Measurement(
        n_real=len(real),
        n_fake=len(fake),
        real=_quartiles(real),
        fake=_quartiles(fake),
        wasserstein=distance,
        floor=float(np.mean(floor)) if floor else None,
        floor_high=high,
        ks=statistic,
        p_value=p_value,
        differs=p_value < FALSE_ALARMS and (high is None or distance > high),
    )


def _quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def _floors(
    holdout: MeasuredCells, fake: MeasuredCells, real: MeasuredCells, label: int, seed: int
) -> dict[str, list[float]]:
    """Distances of real cells to real cells of other groups, in as many cells as here."""
    own = np.flatnonzero(real.labels == label)
    found: dict[str, list[float]] = {}
    for one, other in _divisions(holdout, fake, real, label, seed):
        for position, name in enumerate(NAMES):
            sides = [values[np.isfinite(values)] for values in _sides(real.table[own, position], one, other)]
            if min(map(len, sides)) >= FEWEST:
                found.setdefault(name, []).append(min(wasserstein(*sides), 1e6))
    return found


def _divisions(
    holdout: MeasuredCells, fake: MeasuredCells, real: MeasuredCells, label: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of the real cells of a class, two sides of other groups in as many cells as here; or nothing."""
    groups = [group for group, own in zip(real.groups, real.labels, strict=True) if own == label]
    wanted = np.array([np.sum(side.labels == label) for side in (holdout, fake)])
    if wanted.sum() > len(groups) or wanted.min() < FEWEST or len(set(groups)) < 2:
        return
    first, second = (np.array([count]) for count in wanted)
    yield from divide(np.zeros(len(groups), np.int64), groups, first, second, DIVISIONS, seed)


def _sides(
    values: NDArray[np.float64], one: NDArray[np.int64], other: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return values[one], values[other]


def describe(classes: Mapping[str, Mapping[str, Measurement]]) -> str:
    """How many measurements differ, in words.

    Example:
        >>> describe({})
        '0 of 0 measurements differ from unseen real cells'
    """
    rows = [row for measured in classes.values() for row in measured.values()]
    return f"{sum(row.differs for row in rows)} of {len(rows)} measurements differ from unseen real cells"
