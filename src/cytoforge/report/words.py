"""Numbers become sentences: what each measure means, and what may be concluded from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cytoforge.report.page import Tone, Verdict


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


def percent(share: float | None) -> str:
    """A share as percent.

    Example:
        >>> percent(0.1234), percent(0.00123), percent(1.0), percent(None)
        ('12 %', '0.1 %', '100 %', '–')
    """
    if share is None or math.isnan(share):
        return "–"
    rounded = f"{100 * share:.1f}" if 0 < share < 0.0995 else f"{100 * share:.0f}"
    return f"{rounded.removesuffix('.0')} %"


def comparison(name: str, number: Mapping[str, Any]) -> tuple[Tone, str]:
    """How a value stands against real cells compared with other real cells.

    A value whose interval reaches that of the floor cannot be told from it. Otherwise a distance is called
    close up to twice, and a share from four fifths of the floor.
    """
    floor = number.get("floor")
    if floor is None:
        return "note", ""
    value, low, high, floor_low, floor_high = _ends(number)
    lower = MEASURES[name].better == "lower"
    if (low <= floor_high) if lower else (high >= floor_low):
        return "good", "like real cells"
    if lower:
        ratio = value / floor_high if floor_high > 0 else float("inf")
        if ratio <= 2:
            return "unsure", "close to real cells"
        return "bad", f"{ratio:.0f} times what real cells reach" if ratio < 100 else "far from real cells"
    ratio = value / floor if floor > 0 else 1.0
    return (
        ("unsure", "close to real cells")
        if ratio >= 0.8
        else ("bad", f"{percent(max(0.0, ratio))} of real cells")
    )


def realism(overall: Mapping[str, Mapping[str, Any]]) -> Verdict | None:
    """Whether synthetic cells can be told from real ones."""
    name = "kernel_distance" if "kernel_distance" in overall else "frechet_distance"
    number = overall.get(name)
    if number is None or number.get("floor") is None:
        return None
    tone, _ = comparison(name, number)
    headline = {
        "good": "The measures used here cannot tell the synthetic cells from real ones",
        "unsure": "The synthetic cells are close to real ones, and still differ measurably",
        "bad": "The synthetic cells differ clearly from real ones",
    }[tone]
    parts = [_against_floor(key, overall[key]) for key in (name, "precision") if key in overall]
    return Verdict(tone, headline, "; ".join(parts) + ".")


def variety(overall: Mapping[str, Mapping[str, Any]]) -> Verdict | None:
    """Whether the generator shows the range of real cells."""
    keys = [key for key in ("recall", "coverage") if key in overall and overall[key].get("floor") is not None]
    if not keys:
        return None
    tones = [comparison(key, overall[key])[0] for key in keys]
    tone: Tone = "bad" if "bad" in tones else "unsure" if "unsure" in tones else "good"
    headline = {
        "good": "The synthetic cells are as varied as real ones",
        "unsure": "The synthetic cells are nearly as varied as real ones",
        "bad": "The synthetic cells are less varied than real ones",
    }[tone]
    return Verdict(tone, headline, "; ".join(_against_floor(key, overall[key]) for key in keys) + ".")


def copying(copies: Mapping[str, Any]) -> Verdict:
    """Whether more cells look copied than chance explains.

    "Suspected" needs more alarms than the range that honest generators raise.
    """
    flagged, checked = int(copies["flagged"]), int(copies["checked"])
    most = int(copies["honest_range"][1])
    because = (
        f"{flagged} of {checked} synthetic cells resemble one training cell more than all but "
        f"{percent(float(copies['false_alarm_rate']))} of unseen real cells do; up to {most} would be chance."
    )
    if flagged > most:
        return Verdict("bad", "Some synthetic cells may be copies of training cells", because)
    return Verdict("good", "No sign that training cells were copied", because)


def classes_kept(correctness: Mapping[str, Any]) -> Verdict:
    """Whether a classifier that learned from real cells finds the class that was asked for."""
    accuracy, holdout = float(correctness["accuracy"]), correctness.get("holdout_accuracy")
    because = f"The classifier names the class asked for in {percent(accuracy)} of synthetic cells"
    if holdout is None:
        return Verdict("note", "How often the class asked for is recognised", f"{because}.")
    because += f", and the right class in {percent(float(holdout))} of unseen real cells."
    ratio = accuracy / float(holdout) if holdout else 0.0
    if ratio >= 0.95:
        return Verdict("good", "Synthetic cells show their class as clearly as real ones", because)
    if ratio >= 0.75:
        return Verdict(
            "unsure", "Most synthetic cells show their class, though less clearly than real ones", because
        )
    return Verdict("bad", "Many synthetic cells do not show the class that was asked for", because)


def _against_floor(name: str, number: Mapping[str, Any]) -> str:
    floor = number.get("floor")
    against = "" if floor is None else f" (real against real {shown(floor)})"
    return f"{MEASURES[name].name} {shown(number['value'])}{against}"


def _ends(number: Mapping[str, Any]) -> tuple[float, float, float, float, float]:
    value, floor = float(number["value"]), float(number["floor"])
    low, high = (value if number.get(end) is None else float(number[end]) for end in ("low", "high"))
    floor_low, floor_high = (
        floor if number.get(end) is None else float(number[end]) for end in ("floor_low", "floor_high")
    )
    return value, low, high, floor_low, floor_high
