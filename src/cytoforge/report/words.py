"""Numbers become words: what each measure means, and how it stands against real cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cytoforge.core.record import Tone
from cytoforge.evaluation.metrics import Number
from cytoforge.evaluation.verdicts import percent, stands


@dataclass(frozen=True)
class Measure:
    """How a measure is named and read.

    Attributes:
        name: for readers.
        better: "lower" or "higher".
        meaning: one sentence for someone who has never heard of it.
        top: right end of its axis, None where there is none.
    """

    name: str
    better: str
    meaning: str
    top: float | None = None


MEASURES: dict[str, Measure] = {
    "frechet_distance": Measure(
        "Fréchet distance", "lower", "How far apart real and synthetic cells are as a whole. Low is good."
    ),
    "kernel_distance": Measure(
        "Kernel distance (KID)", "lower", "The same question, trustworthy for few images too. Low is good."
    ),
    "precision": Measure(
        "Precision", "higher", "Share of synthetic cells that look like some real cell: realism.", 1.0
    ),
    "recall": Measure(
        "Recall", "higher", "Share of real cells that the generator could have made: variety.", 1.0
    ),
    "density": Measure("Density", "higher", "How many real cells surround each synthetic one: realism."),
    "coverage": Measure(
        "Coverage", "higher", "Share of real cells that have a synthetic one close by: variety.", 1.0
    ),
    "pairwise_distance": Measure(
        "Pairwise distance", "higher", "How much two synthetic cells of one class differ on average: variety."
    ),
    "effective_modes": Measure(
        "Effective number of kinds", "higher", "Into how many different kinds the images fall: variety."
    ),
}
"""In the order in which a report shows them."""


CURVES: dict[str, tuple[str, str, str]] = {
    "kid": (
        "Distance to real cells",
        "KID",
        "Kernel distance to real cells that are not trained on; low is good. It should fall and then "
        "flatten. If it rises again, the training has gone on too long or has become unstable; the "
        "checkpoint with the lowest value, divided by variety, was kept as the best (the newest, where only "
        "the network that training works against could measure).",
    ),
    "diversity": (
        "Variety within a class",
        "share of real variety",
        "How much images of one class differ, as a share of what real cells do; about 1 is right. A fall "
        "towards 0 means that the generator makes the same cell again and again.",
    ),
    "losses": (
        "Losses",
        "loss",
        "What the networks work against, each under its name. Of an autoencoder or a diffusion model they "
        "fall and flatten. Of two networks that play against each other none need fall: a Wasserstein "
        "critic's “wasserstein” is minus its estimate of the distance and climbs slowly towards 0, the "
        "“generator” loss has no meaning by itself. Sudden jumps and steady growth are signs of trouble.",
    ),
}
"""Curve -> title, axis, how to read it."""


def shown(value: float | None, digits: int = 3) -> str:
    """A number as a table shows it.

    Example:
        >>> shown(0.12345), shown(12.345), shown(1234.5), shown(None)
        ('0.123', '12.3', '1234', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    text = f"{value:.{digits}g}"
    return f"{value:.{digits + 1}f}" if "e" in text else text


def level(name: str, value: float | None) -> str:
    """A number of one measure as a table shows it: shares with two decimals, others with three digits.

    Example:
        >>> level("recall", 0.00704), level("kernel_distance", 0.00704)
        ('0.01', '0.00704')
    """
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.2f}" if MEASURES[name].top == 1 else shown(value)


def comparison(name: str, number: Number) -> tuple[Tone, str]:
    """How a value stands against real cells compared with other real cells, see `verdicts.stands`.

    Args:
        name: a key of `MEASURES`.
        number: value and floor, with their intervals where they have some.
    """
    lower = MEASURES[name].better == "lower"
    tone = stands(number, lower_is_better=lower)
    if number.floor is None or tone != "bad":
        return tone, {"good": "like real cells", "unsure": "close to real cells", "note": ""}[tone]
    if not lower:
        return tone, f"{percent(max(0.0, number.value / number.floor))} of real cells"
    floor = number.floor if number.floor_high is None else number.floor_high
    ratio = number.value / floor if floor > 0 else math.inf
    return tone, f"{ratio:.0f} times what real cells reach" if ratio < 100 else "far from real cells"


def named(name: str) -> str:
    """How readers know a measure."""
    return MEASURES[name].name if name in MEASURES else name.replace("_", " ")


def span(name: str, low: float | None, high: float | None) -> str:
    """An interval of one measure as a table shows it, empty where there is none.

    Example:
        >>> span("recall", 0.1, 0.25), span("recall", None, None)
        ('0.10 to 0.25', '')
    """
    return "" if low is None or high is None else f"{level(name, low)} to {level(name, high)}"


def percent_span(low: float | None, high: float | None) -> str:
    """An interval of a share in percent, empty where there is none.

    Example:
        >>> percent_span(0.1, 0.25)
        '10 % to 25 %'
    """
    return "" if low is None or high is None else f"{percent(low)} to {percent(high)}"


def spelled(name: str) -> str:
    """A measurement's name for readers.

    Example:
        >>> spelled("nucleus_red_third_moment"), spelled("nc_ratio")
        ('nucleus: red third moment', 'N:C ratio')
    """
    if name == "nc_ratio":
        return "N:C ratio"
    region, _, measurement = name.partition("_")
    return f"{region}: {measurement.replace('_', ' ')}"
