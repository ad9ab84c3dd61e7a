"""What a report shows: numbers that are formatted already, pictures that are addresses holding their data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cytoforge.core.record import Tone
from cytoforge.evaluation.metrics import Verdict


@dataclass(frozen=True)
class Sides:
    """Real and synthetic cells of one class.

    Attributes:
        label: name of the class.
        real: picture, or None where real cells are left out.
        synthetic: picture.
    """

    label: str
    real: str | None
    synthetic: str | None


@dataclass(frozen=True)
class Quantity:
    """One number with what it must be compared with.

    Attributes:
        name: as in the table.
        value: formatted.
        interval: formatted, or empty.
        floor: what two samples of real cells of the same size give, or empty.
        floor_interval: formatted, or empty.
        bar: picture of value, interval and floor on one axis, or empty.
        meaning: how to read it.
        tone: how it compares with the floor.
        comparison: the same in words.
    """

    name: str
    value: str
    interval: str
    floor: str
    floor_interval: str
    bar: str
    meaning: str
    tone: Tone
    comparison: str


@dataclass(frozen=True)
class ClassNumbers:
    """One class's row: name, how many images, cells (value, floor) in the order of the table's columns."""

    label: str
    count: str
    cells: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class PairView:
    """A synthetic cell beside the training cell that it resembles most.

    Attributes:
        synthetic: picture.
        nearest: picture, or None where real cells are left out.
        label: class.
        seed: of the synthetic cell.
        ratio: distance as a share of the threshold, formatted.
        flagged: whether it is below the threshold.
    """

    synthetic: str
    nearest: str | None
    label: str
    seed: int
    ratio: str
    flagged: bool


@dataclass(frozen=True)
class Copies:
    """The section on copies.

    Attributes:
        verdicts: what was found.
        facts: name and value of each number.
        histogram: picture of distances, or empty.
        pairs: most suspicious first.
    """

    verdicts: Sequence[Verdict]
    facts: Sequence[tuple[str, str]]
    histogram: str
    pairs: Sequence[PairView]


@dataclass(frozen=True)
class ConfusionCell:
    """Share of the images asked for as one class that a classifier calls another.

    Attributes:
        text: formatted.
        shade: 0 to 1.
    """

    text: str
    shade: float


@dataclass(frozen=True)
class ClassCorrectness:
    """The section on classes: verdicts, facts, and rows (asked-for class, cells per recognised class)."""

    verdicts: Sequence[Verdict]
    facts: Sequence[tuple[str, str]]
    labels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[ConfusionCell]]]


@dataclass(frozen=True)
class Training:
    """The section on training: curves with how to read them, pictures of fixed seeds, facts."""

    curves: Sequence[tuple[str, str, str]]
    growth: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]
    events: Sequence[str]


@dataclass(frozen=True)
class AuditSummary:
    """The section on the data: what the audit of the real cells found."""

    verdicts: Sequence[Verdict]
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class MeasuredClass:
    """Measurements of one class.

    Attributes:
        label: name of the class.
        summary: how many differ, in words.
        parts: for nucleus and cytoplasm the share of real and of synthetic cells that have one, and whether
            it differs.
        chart: picture of all distances beside their floors; None where nothing could be measured.
        rows: name, real and synthetic median with quartiles, distance, floor, KS statistic and p-value, and
            whether it differs; formatted; the farthest first.
    """

    label: str
    summary: str
    parts: Sequence[tuple[str, str, str, bool]]
    chart: str | None
    rows: Sequence[tuple[str, str, str, str, str, str, bool]]


@dataclass(frozen=True)
class Morphometry:
    """The section on sizes, forms and textures: where the masks are from, and the classes."""

    source: str
    classes: Sequence[MeasuredClass]


@dataclass(frozen=True)
class Page:
    """A whole report; parts that are None or empty are left out."""

    title: str
    subtitle: str
    selected: bool
    has_real_images: bool
    verdicts: Sequence[Verdict]
    sides: Sequence[Sides]
    quantities: Sequence[Quantity]
    class_columns: Sequence[str]
    class_rows: Sequence[ClassNumbers]
    warnings: Sequence[str]
    copies: Copies | None
    correctness: ClassCorrectness | None
    morphometry: Morphometry | None
    training: Training | None
    audit: AuditSummary | None
    commands: Sequence[str]
    rules: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]
