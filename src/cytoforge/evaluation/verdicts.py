"""Numbers become lines that a reader takes home, by rules that are printed beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cytoforge.core.record import Tone
from cytoforge.evaluation.metrics import (
    ClassCorrectness,
    Collapse,
    Comparison,
    Copies,
    Metrics,
    Number,
    Verdict,
)
from cytoforge.evaluation.morphometry import missing_parts

FEW = 50
"""Fewer images than this on a side, and a warning is printed."""

RULES = {
    "realism": (
        "Good where the interval of the kernel distance reaches its floor's range, unsure up to twice the "
        "upper end of that range, bad above."
    ),
    "variety": (
        "Good where recall and coverage both reach their floors' ranges, unsure where both reach 80 % of "
        "their floors, bad below or with mode collapse in any class."
    ),
    "class-correctness": (
        "The share of synthetic cells recognised as asked for, over the share of unseen real cells "
        "recognised: good from 0.95, unsure from 0.75, bad below. Far more than unseen real cells reach "
        "is no merit: such images show only the clearest cells of a class."
    ),
}


def stands(number: Number, *, lower_is_better: bool) -> Tone:
    """How a number stands against its floor, what real cells reach among themselves.

    A value whose interval reaches that of the floor cannot be told from it: "good". Otherwise a distance is
    "unsure" up to twice the floor, a share from four fifths of it, and "bad" beyond. Without a floor: "note".
    """
    if number.floor is None:
        return "note"
    low, high = (number.value if end is None else end for end in (number.low, number.high))
    floor_low, floor_high = (
        number.floor if end is None else end for end in (number.floor_low, number.floor_high)
    )
    if lower_is_better:
        return "good" if low <= floor_high else "unsure" if number.value <= 2 * floor_high else "bad"
    return "good" if high >= floor_low else "unsure" if number.value >= 0.8 * number.floor else "bad"


def percent(share: float | None) -> str:
    """A share as percent, a small one with a decimal.

    Example:
        >>> percent(0.1234), percent(0.00123), percent(1.0), percent(None)
        ('12 %', '0.1 %', '100 %', '–')
    """
    if share is None or math.isnan(share):
        return "–"
    rounded = f"{100 * share:.1f}" if 0 < share < 0.0995 else f"{100 * share:.0f}"
    return f"{rounded.removesuffix('.0')} %"


def verdicts(metrics: Metrics) -> tuple[Verdict, ...]:
    """All lines, in the order in which they should be read."""
    collapsed = [
        name
        for name, collapse in {
            "all classes together": metrics.collapse,
            **{name: found.collapse for name, found in metrics.classes.items()},
        }.items()
        if collapse is not None and collapse.collapsed
    ]
    lines = (
        realism(metrics.overall),
        variety(metrics.overall, collapsed),
        class_correctness(metrics.class_correctness),
        copying(metrics.copies),
    )
    return tuple(line for line in lines if line is not None)


def realism(overall: Mapping[str, Number]) -> Verdict | None:
    """Whether synthetic cells can be told from real ones; None without a floor."""
    number = overall.get("kernel_distance")
    if number is None or number.floor is None or number.floor_high is None:
        return None
    tone = stands(number, lower_is_better=True)
    headline = {
        "good": "The measures used here cannot tell the synthetic cells from real ones",
        "unsure": "The synthetic cells are close to real ones, and still differ measurably",
        "bad": "The synthetic cells differ clearly from real ones",
    }[tone]
    because = (
        f"Kernel distance {_number(number.value)}{_interval(number)} to unseen real cells, where real "
        f"cells of other photos have up to {_number(number.floor_high)}"
    )
    if precision := overall.get("precision"):
        because += (
            f"; {percent(precision.value)} of synthetic cells resemble some real cell{_real(precision)}"
        )
    return Verdict(topic="realism", tone=tone, headline=headline, because=f"{because}.")


def variety(overall: Mapping[str, Number], collapsed: list[str]) -> Verdict | None:
    """Whether the generator shows the range of real cells; None without a floor.

    Args:
        overall: numbers of all classes together.
        collapsed: names of the classes that collapsed.
    """
    numbers = [overall.get(name) for name in ("recall", "coverage")]
    known = [number for number in numbers if number is not None and number.floor is not None]
    levels = [stands(number, lower_is_better=False) for number in known]
    if not levels:
        return None
    tone = "bad" if collapsed or "bad" in levels else "unsure" if "unsure" in levels else "good"
    headline = {
        "good": "The synthetic cells are as varied as real ones",
        "unsure": "The synthetic cells are nearly as varied as real ones",
        "bad": "The synthetic cells are less varied than real ones",
    }[tone]
    parts = [
        f"{percent(number.value)} of unseen real cells {what}{_real(number)}"
        for number, what in zip(
            numbers, ("could have been made", "have a synthetic one close by"), strict=True
        )
        if number is not None
    ]
    if collapsed:
        parts.append(f"too little variety in {', '.join(collapsed)}")
    return Verdict(topic="variety", tone=tone, headline=headline, because="; ".join(parts) + ".")


def class_correctness(found: ClassCorrectness | None) -> Verdict | None:
    """Whether images show the class that was asked for, as clearly as real cells do."""
    if found is None:
        return None
    because = (
        "A classifier that learned from real training cells recognises the class asked for in "
        f"{percent(found.accuracy)} of synthetic cells"
    )
    if not found.holdout_accuracy:
        headline = "How often the class asked for is recognised"
        return Verdict(topic="classes", tone="note", headline=headline, because=f"{because}.")
    because += f", and the right class in {percent(found.holdout_accuracy)} of unseen real cells in this mix"
    if found.holdout_low is not None and found.holdout_low <= 1 / len(found.labels):
        headline = "The classifier hardly tells the classes apart, so it says little of synthetic cells"
        return Verdict(topic="classes", tone="note", headline=headline, because=f"{because}.")
    both = {name: share for name, share in found.classes.items() if name in found.holdout_classes}
    images = sum(share.count for share in both.values())
    ratio = sum(share.count * share.value for share in both.values()) / images / found.holdout_accuracy
    tone: Tone = "good" if ratio >= 0.95 else "unsure" if ratio >= 0.75 else "bad"
    headline = {
        "good": "Synthetic cells show their class as clearly as real ones",
        "unsure": "Most synthetic cells show their class, though less clearly than real ones",
        "bad": "Many synthetic cells do not show the class that was asked for",
    }[tone]
    if absent := sorted(found.classes.keys() - both.keys()):
        because += f" (without {', '.join(absent)}, of which there are no unseen cells)"
    weakest = min(found.classes, key=lambda label: found.classes[label].value)
    because += f"; least often in {weakest}, {percent(found.classes[weakest].value)}"
    return Verdict(topic="classes", tone=tone, headline=headline, because=f"{because}.")


def copying(copies: Copies | None) -> Verdict:
    """Whether more images look copied than chance, blur or typical cells explain."""
    if copies is None:
        return Verdict(
            topic="copies",
            tone="note",
            headline="Copies of training cells could not be looked for",
            because="There are too few training or unseen cells. This says nothing about privacy.",
        )
    because = (
        f"{copies.flagged} of {copies.checked} synthetic cells resemble one training cell more than all but "
        f"{percent(copies.false_alarm_rate)} of unseen real cells do; {copies.honest_low} to "
        f"{copies.honest_high} would be chance"
    )
    leans = copies.nearer_low > 0.5
    if copies.found:
        tone: Tone = "bad"
        headline = (
            "Some synthetic cells look copied from training cells: see the pairs before sharing this set"
        )
    elif copies.flagged > copies.honest_high and copies.exchanged_flagged > copies.honest_high:
        tone, headline = "unsure", "More alarms than chance, but as many without the training cells"
        because += (
            f". Against unseen cells in the place of training cells {copies.exchanged_flagged} are flagged "
            "as well: blurred or typical images do that, copies do not"
        )
    elif copies.flagged > copies.honest_high:
        tone = "unsure"
        headline = (
            "More synthetic cells than chance resemble a training cell: see the pairs before sharing this set"
        )
        because += f". Against unseen cells in their place {copies.exchanged_flagged} are flagged, "
        if copies.cells is not None and 2 * copies.cells < copies.flagged:
            because += (
                f"but few training cells, {copies.cells}, are behind all alarms: copies of these, or blurred "
                "images that resemble a blurred cell"
            )
        else:
            because += "so blur does not explain it, but the alarms are too few to be sure"
    elif leans:
        tone = "unsure"
        headline = (
            "No synthetic cell looks copied, but the set lies nearer to training cells than to unseen ones"
        )
    elif copies.unchecked:
        tone, headline = "unsure", "No sign of copies in the classes that could be checked"
    else:
        tone, headline = "good", "No sign that training cells were copied"
    if leans:
        because += (
            f". {percent(copies.share_nearer_to_train)} of synthetic cells are nearer to training photos "
            f"than to equally many unseen ones ({percent(copies.nearer_low)} to "
            f"{percent(copies.nearer_high)}), where 50 % would be chance"
        )
    return Verdict(topic="copies", tone=tone, headline=headline, because=f"{because}{_of_classes(copies)}.")


def _of_classes(copies: Copies) -> str:
    """What must be said of single classes, each sentence after a full stop."""
    worst = [f"{name} ({own.flagged} of {own.checked})" for name, own in copies.classes.items() if own.found]
    told = {
        "Too many of one class": worst,
        "Too few training cells to check": copies.unchecked,
        "Too few unseen cells to tell copies from blur": copies.uncounted,
    }
    return "".join(f". {what}: {', '.join(names)}" for what, names in told.items() if names)


def warnings(metrics: Metrics, alpha: float) -> list[str]:
    """What a reader must know before quoting a number.

    Args:
        metrics: all numbers.
        alpha: false-alarm rate that was asked for.
    """
    counts = metrics.counts
    return [
        *_few(counts.synthetic, "synthetic images"),
        *_few(counts.holdout, "holdout cells"),
        *_bias(metrics),
        *_small_classes(metrics.classes),
        *_weak_copy_test(metrics.copies, alpha),
        *_collapses({"all classes together": metrics.collapse}),
        *_collapses({name: found.collapse for name, found in metrics.classes.items()}),
        *([] if metrics.morphometry is None else missing_parts(metrics.morphometry)),
    ]


def _few(count: int, kind: str) -> list[str]:
    if count >= FEW:
        return []
    return [
        f"Only {count} {kind}: every share is uncertain by {50 / max(count, 1) ** 0.5:.0f} points or more. "
        f"Give {FEW} or more, better 200 of each class."
    ]


def _bias(metrics: Metrics) -> list[str]:
    distance = metrics.overall.get("frechet_distance")
    smaller = min(metrics.sizes.values())
    if (
        distance is None
        or distance.floor is None
        or distance.floor <= 0.5 * distance.value
        or smaller >= 2000
    ):
        return []
    return [
        f"With {smaller} images, {_number(distance.floor)} of the Fréchet distance of "
        f"{_number(distance.value)} is what real cells have among themselves: quote the kernel distance "
        "instead."
    ]


def _small_classes(classes: Mapping[str, Comparison]) -> list[str]:
    empty = [name for name, found in classes.items() if not found.numbers]
    few = [name for name, found in classes.items() if found.numbers and min(found.n_real, found.n_fake) < FEW]
    notes = []
    if empty:
        notes.append(f"Too few images for numbers of their own: {', '.join(empty)}.")
    if few:
        notes.append(f"Fewer than {FEW} images on a side, so read against the floor only: {', '.join(few)}.")
    return notes


def _weak_copy_test(copies: Copies | None, alpha: float) -> list[str]:
    if copies is None:
        return []
    notes = []
    if copies.false_alarm_rate > alpha:
        notes.append(
            f"With {copies.holdout} holdout cells the copy test reaches a false-alarm rate of "
            f"{percent(copies.false_alarm_rate)}, not {percent(alpha)}; hold out {round(1 / alpha) - 1} "
            "or more."
        )
    if copies.holdout_repeats > copies.false_alarm_rate:
        notes.append(
            f"{percent(copies.holdout_repeats)} of holdout cells look like repeats of training cells, "
            "which blunts the copy test; merge the photos that share cells (`cytoforge split`) and train "
            "again."
        )
    return notes


def _collapses(found: Mapping[str, Collapse | None]) -> list[str]:
    return [
        f"Too little variety (repetition or blur) in {name}: {collapse.modes:.2f} times as many different "
        f"images as real cells, {percent(collapse.repeated)} with a twin "
        f"({percent(collapse.real_repeated)} among real cells)."
        for name, collapse in found.items()
        if collapse is not None and collapse.collapsed
    ]


def _real(number: Number) -> str:
    return "" if number.floor is None else f" ({percent(number.floor)} among real cells)"


def _interval(number: Number) -> str:
    if number.low is None or number.high is None:
        return ""
    return f" ({_number(number.low)} to {_number(number.high)})"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.4f}"
