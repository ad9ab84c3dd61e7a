"""What an audit says: findings with their examples, and the whole of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cytoforge.core.record import Record, Tone


class Shown(Record):
    """One example of a finding.

    Attributes:
        names: one cell or file, or the cells of a pair.
        caption: what is to be seen.
        cells: whether the names are those of cells that can be decoded.
    """

    names: tuple[str, ...]
    caption: str
    cells: bool = True


class Finding(Record):
    """What one check found.

    Attributes:
        check: name of the check.
        tone: good, bad, unsure (look at it), or a note that judges nothing.
        blocking: whether work with these data should not go on.
        headline: the statement.
        because: the numbers behind it.
        advice: what to do.
        numbers: by name.
        shown: all that was found, worst first.
    """

    check: str
    tone: Tone
    headline: str
    because: str = ""
    advice: str = ""
    blocking: bool = False
    numbers: dict[str, float] = Field({})
    shown: tuple[Shown, ...] = ()


class Verdict(Record):
    """A finding in one line, as reports show it."""

    tone: Tone
    headline: str
    because: str


class ClassCount(Record):
    """What there is of one class."""

    label: str
    images: int
    groups: int
    width: float
    height: float


class Probe(Record):
    """How well a linear classifier on frozen features does, by the way the cells are divided.

    Attributes:
        extractor: what computed the features.
        random: accuracy, cells divided at random, five folds.
        grouped: photos (slides, patients) kept together.
        merged: photos that share a cell kept together as well.
        chance: share of the largest class.
    """

    extractor: str
    random: float
    grouped: float
    merged: float
    chance: float


class Audit(Record):
    """All that was found.

    Attributes:
        format: version of this record.
        root: the data folder.
        layout: how it lies on disk.
        images: usable cells.
        groups: photos, slides or patients.
        merged_groups: the same after those that share a cell were made one.
        classes: one row a class.
        probe: classifier scores by the way of dividing, or None where features were not computed.
        verdicts: findings in one line each.
        facts: a short table for reports.
        findings: all checks, worst first.
    """

    format: Literal[1] = 1
    root: str
    layout: str
    images: int
    groups: int
    merged_groups: int
    classes: tuple[ClassCount, ...]
    probe: Probe | None
    verdicts: tuple[Verdict, ...]
    facts: dict[str, str]
    findings: tuple[Finding, ...]

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """Findings that forbid to go on."""
        return tuple(finding for finding in self.findings if finding.blocking)


def some(count: int, one: str, many: str = "") -> str:
    """Count and noun.

    Example:
        >>> some(1, "class", "classes"), some(3, "pair")
        ('1 class', '3 pairs')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"
