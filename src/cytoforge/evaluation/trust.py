"""How far an answer can be trusted: its probability, what else it may be, and whether the kind is known.

All three limits are learned from held-out groups of cells and kept in calibration.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cytoforge.core.errors import CheckpointError, ConfigError, DataError
from cytoforge.core.files import read_json
from cytoforge.core.record import Record
from cytoforge.evaluation.calibration import Reliability, fit_temperature, reliability, softmax
from cytoforge.evaluation.conformal import (
    Score,
    class_scores,
    class_thresholds,
    coverage_range,
    covered,
    prediction_sets,
    threshold,
    true_class_scores,
)
from cytoforge.evaluation.distances import Floats
from cytoforge.evaluation.metrics import Share
from cytoforge.evaluation.novelty import Kind, Known
from cytoforge.evaluation.statistics import wilson

CALIBRATION = "calibration.json"
"""In the folder of a classifier's run."""

FEWEST = 20
"""Held-out cells below which nothing is calibrated."""


class ClassCoverage(Record):
    """How often sets hold the class of cells of one class, where each class has thresholds of its own.

    Attributes:
        groups: share of its cells covered, every group weighing the same.
        low: lower end of what a right method gives `groups` with 95 % chance at so few groups.
        high: upper end.
        kept: whether `groups` is at least `low`.
    """

    groups: float
    low: float
    high: float
    kept: bool


class Coverage(Record):
    """How often sets of one stated coverage hold the true class, on groups that nothing was fitted on.

    Attributes:
        stated: promised share.
        cells: share of cells covered.
        groups: the same with every group weighing the same, which is what is promised.
        low: lower end of what a right method gives `groups` with 95 % chance at so few groups.
        high: upper end.
        kept: whether `groups` is at least `low`.
        size: mean number of classes in a set.
        single: share of sets of one class.
        empty: share of empty sets.
        classes: class -> share of its cells covered.
        by_class: class -> how its own promise was kept; empty where only one is made for all classes.
        answered: share of cells whose answer is sure, see `Answers`; cells are taken as independent in its
            interval. None in older files.
        accuracy_answered: share of these that are named rightly; None where no answer is sure.
    """

    stated: float
    cells: float
    groups: float
    low: float
    high: float
    kept: bool
    size: float
    single: float
    empty: float
    classes: dict[str, float]
    by_class: dict[str, ClassCoverage] = Field({})
    answered: Share | None = None
    accuracy_answered: Share | None = None


class Judged(Record):
    """What the calibration gives on cells that it was not fitted on.

    Attributes:
        part: of the split.
        cells: how many.
        groups: how many.
        before: reliability of the network's own probabilities.
        after: with the temperature.
        coverage: of each stated coverage.
        false_alarms: share of these cells that are called of an unknown kind.
    """

    part: str
    cells: int
    groups: int
    before: Reliability
    after: Reliability
    coverage: tuple[Coverage, ...]
    false_alarms: float


class Calibration(Record):
    """The content of calibration.json.

    Attributes:
        format: of this file.
        classes: names, in the order of the outputs.
        weights_sha256: of the checkpoint's tensors that were calibrated.
        part: of the split that it was fitted on.
        cells: fitted on so many cells.
        groups: fitted on these groups.
        class_groups: class -> how many of them hold cells of it.
        temperature: see `evaluation.calibration`.
        score: of the sets, see `evaluation.conformal`.
        by_class: whether each class has thresholds of its own.
        thresholds: stated coverage -> one threshold, or one for each class; None admits every class.
        novelty: kind of the distance to training cells.
        false_alarm: stated share of cells of known kinds that are called unknown.
        novelty_threshold: distance above which a cell is of an unknown kind; None where groups are too few.
        reference_sha256: of the file with the training cells' features.
        framings: side of training pictures over the square root of the nucleus's area: the three
            quartiles; None where no nucleus was found.
        judged: on another part, None where the split has none.
        caveat: what the numbers mean.
    """

    format: Literal[1] = 1
    classes: tuple[str, ...]
    weights_sha256: str
    part: str
    cells: int
    groups: tuple[str, ...]
    class_groups: dict[str, int] = Field({})
    temperature: float
    score: Score
    by_class: bool
    thresholds: dict[str, float | tuple[float | None, ...] | None]
    novelty: Kind
    false_alarm: float
    novelty_threshold: float | None
    reference_sha256: str
    framings: tuple[float, float, float] | None = None
    judged: Judged | None = None
    caveat: str = (
        "Sets and false alarms are promised for a cell of a new group (photo, slide, patient) that comes "
        "from where the calibration groups came from, on average over groups; within one group the share "
        "can be far from it, and another scanner, stain or population breaks it. Not for diagnosis."
    )

    def limits(self, coverage: float) -> Floats:
        """Thresholds (K,) for a stated coverage.

        Raises:
            ConfigError: it was not calibrated.
        """
        key = coverage_key(coverage)
        if key not in self.thresholds:
            raise ConfigError(
                f"--coverage {coverage} was not calibrated; choose one of {', '.join(self.thresholds)}, or "
                f"run cytoforge classify calibrate RUN --coverages {coverage} first."
            )
        value = self.thresholds[key]
        own = value if isinstance(value, tuple) else (value,) * len(self.classes)
        return np.array([np.inf if each is None else each for each in own])


def read_calibration(run: Path, weights_sha256: str, classes: Sequence[str]) -> Calibration | None:
    """The calibration in the folder of a classifier's run, None where it was not calibrated.

    Args:
        run: folder of `classify train`.
        weights_sha256: of the checkpoint's tensors that it should belong to.
        classes: names, in the order of the classifier's outputs.

    Raises:
        CheckpointError: it is broken or of other weights.
    """
    path = run / CALIBRATION
    if not path.is_file():
        return None
    again = f"run cytoforge classify calibrate {run} again."
    try:
        found = Calibration.model_validate(read_json(path))
    except (DataError, ValidationError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {again}") from error
    if found.weights_sha256 != weights_sha256 or found.classes != tuple(classes):
        raise CheckpointError(f"{path} belongs to other weights; {again}")
    return found


@dataclass(frozen=True)
class Held:
    """Held-out cells as the classifier sees them.

    Attributes:
        logits: (N, K).
        features: (N, D).
        labels: (N,).
        groups: (N,) photo, slide or patient.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """What is said about some cells.

    Attributes:
        probabilities: (N, K), calibrated.
        sets: (N, K) classes that cannot be excluded at the stated coverage.
        distances: (N,) to known cells.
        unknown: (N,) whether a cell is farther than almost all cells of known kinds.
    """

    probabilities: Floats
    sets: NDArray[np.bool_]
    distances: Floats
    unknown: NDArray[np.bool_]

    @property
    def found(self) -> NDArray[np.int64]:
        """(N,) the most probable class."""
        best: NDArray[np.int64] = self.probabilities.argmax(1)
        return best

    @property
    def sure(self) -> NDArray[np.bool_]:
        """(N,) whether the answer stands: one class left, and a known kind. Else a person has to look."""
        alone: NDArray[np.bool_] = (self.sets.sum(1) == 1) & ~self.unknown
        return alone


def coverage_key(coverage: float) -> str:
    """The name of a coverage in calibration.json.

    Example:
        >>> coverage_key(0.9)
        '0.9'
    """
    return f"{coverage:g}"


def calibrate(
    held: Held,
    known: Known,
    classes: Sequence[str],
    *,
    part: str,
    weights_sha256: str,
    reference_sha256: str,
    coverages: Sequence[float] = (0.8, 0.9, 0.95),
    score: Score = "lac",
    by_class: bool = False,
    false_alarm: float = 0.05,
) -> Calibration:
    """Learn all limits from held-out cells.

    Args:
        held: cells that the classifier was not trained on.
        known: the training cells.
        classes: names.
        part: where `held` is from.
        weights_sha256: of the classifier.
        reference_sha256: of the training cells' features.
        coverages: stated, each between 0 and 1.
        score: of the sets.
        by_class: a threshold for each class.
        false_alarm: share of cells of known kinds that may be called unknown.

    Raises:
        DataError: there are fewer than `FEWEST` cells.
        ConfigError: a share is not between 0 and 1.
    """
    if len(held.labels) < FEWEST:
        raise DataError(
            f"the {part} part has {len(held.labels)} cells, calibration needs {FEWEST}; choose another "
            "--part or train with another split."
        )
    temperature = fit_temperature(held.logits, held.labels)
    scores = class_scores(softmax(held.logits, temperature), score)
    thresholds: dict[str, float | tuple[float | None, ...] | None] = {}
    for coverage in coverages:
        if by_class:
            own = class_thresholds(scores, held.labels, coverage, held.groups)
            thresholds[coverage_key(coverage)] = tuple(_finite(value) for value in own)
        else:
            true = true_class_scores(scores, held.labels)
            thresholds[coverage_key(coverage)] = _finite(threshold(true, coverage, held.groups))
    return Calibration(
        classes=tuple(classes),
        weights_sha256=weights_sha256,
        part=part,
        cells=len(held.labels),
        groups=tuple(sorted(set(held.groups))),
        class_groups={name: len(set(_of_class(held, label))) for label, name in enumerate(classes)},
        temperature=temperature,
        score=score,
        by_class=by_class,
        thresholds=thresholds,
        novelty=known.kind,
        false_alarm=false_alarm,
        novelty_threshold=_finite(threshold(known.distances(held.features), 1 - false_alarm, held.groups)),
        reference_sha256=reference_sha256,
    )


def answer(
    calibration: Calibration,
    known: Known,
    logits: NDArray[np.float32],
    features: NDArray[np.float32],
    coverage: float,
) -> Answers:
    """What is said about cells.

    Args:
        calibration: the limits.
        known: the training cells.
        logits: (N, K).
        features: (N, D).
        coverage: stated share of sets that hold the true class.

    Raises:
        ConfigError: this coverage was not calibrated.
    """
    probabilities = softmax(logits, calibration.temperature)
    sets = prediction_sets(class_scores(probabilities, calibration.score), calibration.limits(coverage))
    distances = known.distances(features) if len(features) else np.empty(0)
    limit = np.inf if calibration.novelty_threshold is None else calibration.novelty_threshold
    return Answers(probabilities, sets, distances, distances > limit)


def judge(calibration: Calibration, known: Known, held: Held, part: str, seed: int = 0) -> Judged:
    """Check a calibration on cells that it was not fitted on.

    Args:
        calibration: what is checked.
        known: the training cells.
        held: other held-out cells.
        part: where they are from.
        seed: of the comparison with chance.
    """
    levels = [float(key) for key in calibration.thresholds]
    answers = {level: answer(calibration, known, held.logits, held.features, level) for level in levels}
    first = answers[levels[0]]
    return Judged(
        part=part,
        cells=len(held.labels),
        groups=len(set(held.groups)),
        before=reliability(held.labels, softmax(held.logits), seed=seed),
        after=reliability(held.labels, first.probabilities, seed=seed),
        coverage=tuple(_coverage(calibration, held, found, level) for level, found in answers.items()),
        false_alarms=float(first.unknown.mean()),
    )


def group_mean(values: NDArray[np.bool_], groups: Sequence[str]) -> float:
    """Mean of (N,) values with every group weighing the same.

    Example:
        >>> group_mean(np.array([True, False, False, False]), ["a", "b", "b", "b"])
        0.5
    """
    _, code = np.unique(np.asarray(groups), return_inverse=True)
    return float((np.bincount(code, values) / np.bincount(code)).mean())


def _coverage(calibration: Calibration, held: Held, found: Answers, stated: float) -> Coverage:
    inside, sizes, sure = covered(found.sets, held.labels), found.sets.sum(1), found.sure
    groups = group_mean(inside, held.groups)
    low, high = coverage_range(len(calibration.groups), len(set(held.groups)), stated)
    return Coverage(
        stated=stated,
        cells=float(inside.mean()),
        groups=groups,
        low=low,
        high=high,
        kept=groups >= low,
        size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
        empty=float((sizes == 0).mean()),
        classes={
            name: float(inside[held.labels == label].mean())
            for label, name in enumerate(calibration.classes)
            if (held.labels == label).any()
        },
        by_class=_by_class(calibration, held, inside, stated) if calibration.by_class else {},
        answered=_share(sure),
        accuracy_answered=_share((found.found == held.labels)[sure]) if sure.any() else None,
    )


def _by_class(
    calibration: Calibration, held: Held, inside: NDArray[np.bool_], stated: float
) -> dict[str, ClassCoverage]:
    """Coverage of each class that both parts have cells of."""
    kept = {}
    for label, name in enumerate(calibration.classes):
        own, learned = _of_class(held, label), calibration.class_groups.get(name, 0)
        if not own or not learned:
            continue
        groups = group_mean(inside[held.labels == label], own)
        low, high = coverage_range(learned, len(set(own)), stated)
        kept[name] = ClassCoverage(groups=groups, low=low, high=high, kept=groups >= low)
    return kept


def _of_class(held: Held, label: int) -> list[str]:
    """The group of each cell of a class."""
    return [group for group, own in zip(held.groups, held.labels, strict=True) if own == label]


def _share(hits: NDArray[np.bool_]) -> Share:
    low, high = wilson(int(hits.sum()), len(hits))
    return Share(value=float(hits.mean()), low=low, high=high, count=len(hits))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
