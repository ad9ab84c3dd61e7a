"""Checks on files, classes, copies, published splits and masks: from what was seen to one finding each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np

from cytoforge.core.record import Tone
from cytoforge.data.duplicates import Repeat, Repeats
from cytoforge.data.findings import Finding, Shown, some
from cytoforge.data.scan import NOT_SEARCHED, Scan

NO_NUCLEUS: Final = 0.0022
"""Share of the picture below which a mask has almost no nucleus."""


def unreadable(scan: Scan) -> Finding:
    """Files that cannot be used, and files that had to be converted."""
    lost = [fault for fault in scan.faults if not fault.used]
    converted = [fault for fault in scan.faults if fault.used]
    shown = tuple(_fault(scan, fault.path, fault.reason) for fault in (*lost, *converted))
    numbers = {"unusable": float(len(lost)), "converted": float(len(converted))}
    if not lost:
        because = f"{len(scan.cells)} images decoded to the last byte."
        if converted:
            because += (
                f" {len(converted)} remarks: files that were converted, or have a mask that cannot be used."
            )
        tone: Tone = "note" if converted else "good"
        headline = "Every image can be read."
        return Finding(check="unreadable files", tone=tone, headline=headline, because=because,
                       numbers=numbers, shown=shown)  # fmt: skip
    return Finding(
        check="unreadable files",
        tone="bad",
        headline=f"{some(len(lost), 'file')} cannot be used.",
        because="They are listed below with the reason and are left out of everything.",
        advice="Copy them again from their source, or delete them.",
        numbers=numbers,
        shown=shown,
    )


def class_sizes(scan: Scan) -> Finding:
    """Whether every class has enough usable images, and how unequal they are."""
    counts = Counter(cell.label for cell in scan.cells.cells)
    few = [label for label in scan.cells.classes if counts[label] < 2]
    listed = ", ".join(f"{label} {counts[label]}" for label in scan.cells.classes)
    if few:
        return Finding(
            check="class balance",
            tone="bad",
            blocking=True,
            headline=f"{some(len(few), 'class', 'classes')} with fewer than two images: {', '.join(few)}.",
            because=f"Images in each class: {listed}.",
            advice="Add images to it, or take its folder out of the data set.",
        )
    ratio = max(counts.values()) / min(counts.values())
    alike = ratio < 3
    return Finding(
        check="class balance",
        tone="good" if alike else "unsure",
        headline="Classes are of similar size."
        if alike
        else f"The largest class is {ratio:.0f} times the smallest.",
        because=f"Images in each class: {listed}.",
        advice="" if alike else "Training draws classes evenly; collect more of the small ones all the same.",
        numbers={"largest / smallest": round(ratio, 3)},
    )


def published_leaks(scan: Scan, repeats: Repeats) -> Finding:
    """Cells or groups that are in two parts of the split that the data set publishes."""
    part = {cell.name: cell.split for cell in scan.cells.cells}
    if not any(part.values()):
        return Finding(check="leaks between parts", tone="note", headline="The data set publishes no split.",
                       because="cytoforge split makes one that keeps photos together.")  # fmt: skip
    crossing = [
        p for p in repeats.pairs if part[p.first] and part[p.second] and part[p.first] != part[p.second]
    ]
    parts_of: dict[str, dict[str, list[str]]] = {}
    for cell in scan.cells.cells:
        if cell.split:
            parts_of.setdefault(cell.group, {}).setdefault(cell.split, []).append(cell.name)
    torn = {group: parts for group, parts in parts_of.items() if len(parts) > 1}
    if not crossing and not torn:
        whole = scan.fully_compared
        return Finding(
            check="leaks between parts",
            tone="good" if whole else "note",
            headline="The published split is tight." if whole else "No leak was found.",
            because="No cell and no group is in two of its parts." if whole else NOT_SEARCHED,
        )
    doubtful = not torn and all(p.kind == "recurring" for p in crossing)
    doubtful &= len(crossing) <= repeats.false_alarms * len(scan.cells)
    shown = [
        Shown(names=(p.first, p.second), caption=f"{part[p.first]} and {part[p.second]}: {_described(p)}")
        for p in crossing
    ]
    shown += [
        Shown(
            names=tuple(name for own in names.values() for name in own),
            caption=f"one group in {' and '.join(names)}: {group}",
        )
        for group, names in torn.items()
    ]
    return Finding(
        check="leaks between parts",
        tone="unsure" if doubtful else "bad",
        blocking=not doubtful,
        headline="The published split may leak: look at these pairs."
        if doubtful
        else "The published split leaks: scores on its test part are too good.",
        because=f"{some(len(crossing), 'pair')} of pictures of one cell and {some(len(torn), 'group')} "
        f"lie in two parts.{' The search raises as many false alarms.' if doubtful else ''}",
        advice="Take the training copies out, or give the data without a split and use cytoforge split.",
        numbers={"pairs": float(len(crossing)), "groups": float(len(torn))},
        shown=tuple(shown),
    )


def contradictions(scan: Scan, repeats: Repeats) -> Finding:
    """Pictures of one cell with two labels."""
    label = {cell.name: cell.label for cell in scan.cells.cells}
    found = [p for p in repeats.pairs if label[p.first] != label[p.second]]
    if not found:
        return Finding(check="contradicting labels", tone="good", headline="No cell has two labels.")
    return Finding(
        check="contradicting labels",
        tone="bad",
        headline=f"{some(len(found), 'pair')} of pictures show one cell under two labels.",
        because="At least one label of each pair is wrong.",
        advice="Let an expert decide, then correct or remove them.",
        numbers={"pairs": float(len(found))},
        shown=tuple(
            Shown(
                names=(p.first, p.second), caption=f"{label[p.first]} and {label[p.second]}: {_described(p)}"
            )
            for p in found
        ),
    )


def copies(scan: Scan, repeats: Repeats) -> Finding:
    """Exact copies and copies that were turned, recoloured, rescaled or compressed."""
    found = [pair for pair in repeats.pairs if pair.kind != "recurring"]
    counts = Counter(pair.kind for pair in found)
    numbers = {"exact": float(counts["exact"]), "near": float(counts["near"])}
    if not found:
        return Finding(
            check="copies",
            tone="good" if scan.fully_compared else "note",
            headline="No copies.",
            because="Searched as they are, mirrored, turned and recoloured."
            if scan.fully_compared
            else NOT_SEARCHED,
            numbers=numbers,
        )
    return Finding(
        check="copies",
        tone="bad",
        headline=f"{some(len(found), 'pair')} of pictures are copies.",
        because=f"{counts['exact']} exact, {counts['near']} altered (turned, mirrored, recoloured, rescaled, "
        f"or the same frame from another photo).{'' if scan.fully_compared else ' ' + NOT_SEARCHED}",
        advice="cytoforge split keeps them in one part. Delete all but one of each.",
        numbers=numbers,
        shown=tuple(Shown(names=(p.first, p.second), caption=_described(p)) for p in found),
    )


def recurring(scan: Scan, repeats: Repeats) -> Finding:
    """Cells that were cropped again from an overlapping photo."""
    own = dict(zip(scan.cells.names, scan.cells.groups, strict=True))
    found = [pair for pair in repeats.pairs if pair.kind == "recurring"]
    photos = {frozenset((own[p.first], own[p.second])) for p in found if own[p.first] != own[p.second]}
    affected = {name for pair in found for name in (pair.first, pair.second)}
    numbers = {
        "pairs": float(len(found)),
        "cells": float(len(affected)),
        "pairs of groups": float(len(photos)),
        "false alarms, share of cells": round(repeats.false_alarms, 5),
        "threshold": round(repeats.threshold, 4),
    }
    if not scan.fully_compared:
        return Finding(
            check="recurring cells",
            tone="note",
            headline="Recurring cells were not searched.",
            because=NOT_SEARCHED,
            advice="Give --group so that cells of one photo stay together.",
        )
    if not found:
        return Finding(check="recurring cells", tone="good", headline="No cell recurs in another photo.",
                       numbers=numbers)  # fmt: skip
    within = "" if photos else " All lie inside one group, which a split keeps together."
    return Finding(
        check="recurring cells",
        tone="bad" if photos else "note",
        headline=f"{some(len(affected), 'cell')} recur in overlapping photos."
        if photos
        else f"{some(len(affected), 'cell')} were cropped more than once.",
        because=f"{some(len(found), 'pair')} of crops, {some(len(photos), 'pair')} of groups.{within} "
        "Against mirrored pictures, where nothing is to be found, the search flags "
        f"{100 * repeats.false_alarms:.2g} % of cells.",
        advice="A split by photo number still leaks; cytoforge split makes such photos one group."
        if photos
        else "Count them once when you count cells.",
        numbers=numbers,
        shown=tuple(Shown(names=(p.first, p.second), caption=_described(p)) for p in found),
    )


def masks(scan: Scan) -> Finding:
    """Masks that cannot be used, or have almost no nucleus."""
    known = np.flatnonzero(np.isfinite(scan.nucleus))
    if len(known) == 0:
        return Finding(check="masks", tone="note", headline="No masks.",
                       because="Measurements of nucleus and cytoplasm need them.")  # fmt: skip
    names = scan.cells.names
    tiny = sorted((scan.nucleus[i], names[i]) for i in known if scan.nucleus[i] < NO_NUCLEUS)
    numbers = {"masks": float(len(known)), "without nucleus": float(len(tiny))}
    if not tiny:
        return Finding(check="masks", tone="good", headline="Every mask has a nucleus.", numbers=numbers,
                       because=f"{len(known)} masks of {len(names)} cells.")  # fmt: skip
    return Finding(
        check="masks",
        tone="unsure",
        headline=f"{some(len(tiny), 'mask')} with almost no nucleus.",
        because=f"Of {len(known)} masks; less than 0.22 % of the picture is nucleus.",
        advice="Draw them again, or leave these cells out of measurements.",
        numbers=numbers,
        shown=tuple(
            Shown(names=(n,), caption=f"nucleus {100 * share:.2f} % of the picture") for share, n in tiny
        ),
    )


def _fault(scan: Scan, path: Path, reason: str) -> Shown:
    inside = path.is_relative_to(scan.cells.root)
    return Shown(names=((path.relative_to(scan.cells.root) if inside else path).as_posix(),), caption=reason,
                 cells=False)  # fmt: skip


def _described(pair: Repeat) -> str:
    if pair.kind == "exact":
        return "the same pixels"
    turned = "" if pair.symmetry == "as it is" else f", {pair.symmetry}"
    return f"{pair.kind}{turned}, correlation {pair.form:.3f}"
