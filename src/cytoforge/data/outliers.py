"""Pictures that are unlike the others: blurred, badly exposed, oddly stained, or strangers in their photo.

The limits are set on simulated cells with planted faults, so that all of them are found and few others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.findings import Finding, Shown, some
from cytoforge.data.scan import Scan

Floats = NDArray[np.float64]

BLUR: Final = 5.4
EXPOSURE: Final = 9.5
UNDEREXPOSED: Final = 3.2
STAIN: Final = 2.8
STAIN_OF_GROUND: Final = 5.9
STRANGE_GROUND: Final = 9.5
STRANGE_MEAN: Final = 3.7
FEW_CELLS: Final = 50
"""Sets with fewer cells (classes with fewer than half) have no usual to compare with."""


def blurred(scan: Scan) -> Finding:
    """Cells with hardly any fine structure, far less than others of their class and of their photo."""
    against_others = -0.75 * _in_class(scan, "detail") - 0.25 * _in_photo(scan, "detail")
    scores = (against_others - 1.5 * scan.measure("finest")) / BLUR
    return _outliers(
        scan, scores, 1.0, "blur", "out of focus", "times the limit",
        "Leave them out if the nucleus cannot be judged; a generator learns blur as well.",
    )  # fmt: skip


def exposure(scan: Scan) -> Finding:
    """Cells washed out against the others of their photo, or far darker than their class.

    A washed-out cell has more pixels at white than its neighbours, and its dark parts are bright as well.
    """
    brighter = _in_photo(scan, "brightness") + _in_photo(scan, "dark")
    white = _from_siblings(scan, scan.measure("clipped"), scan.measure("clipped"))
    washed_out = 20 * np.clip(white, 0, 0.4) + np.clip(brighter, 0, 9)
    dark = np.minimum(-_in_class(scan, "brightness"), -_in_class(scan, "light"))
    scores = np.maximum(washed_out / EXPOSURE, dark / UNDEREXPOSED)
    return _outliers(
        scan, scores, 1.0, "exposure", "far too bright or too dark", "times the limit",
        "Leave them out if detail is lost in white or black.",
    )  # fmt: skip


def stain(scan: Scan) -> Finding:
    """Cells whose colour, or that of the empty slide beside them, all but a few others are far from."""
    colour = np.stack([scan.measure("green_red"), scan.measure("blue_yellow")], 1)
    ground = np.stack([scan.measure(f"ground_{name}") for name in ("red", "green", "blue")], 1).clip(min=1)
    hue = np.log(ground / ground.mean(1, keepdims=True))
    scores = np.maximum(_loneliness(colour) / STAIN, _loneliness(hue) / STAIN_OF_GROUND)
    return _outliers(
        scan, scores, 1.0, "stain", "of an unusual colour", "times the limit",
        "Look whether another stain or camera was used; leave them out or collect more of them.",
    )  # fmt: skip


def strangers(scan: Scan) -> Finding:
    """Cells whose background and colour do not fit the other cells of their photo."""
    scores = np.minimum(_odd_ground(scan) / STRANGE_GROUND, _odd_colour(scan) / STRANGE_MEAN)
    return _outliers(
        scan, scores, 1.0, "strangers", "unlike the rest of their photo", "times the limit",
        "Look whether the file belongs to this photo and class, or was put into the wrong folder.",
    )  # fmt: skip


def misplacement(scan: Scan) -> Floats:
    """(N,) 0 to 8: how little a cell's background and colour fit the other cells of its photo."""
    score: Floats = np.minimum(np.minimum(_odd_ground(scan), 8), 2 * np.minimum(_odd_colour(scan), 4))
    return score


def _in_class(scan: Scan, name: str) -> Floats:
    """(N,) distance of a measure from its class's median in robust deviations; 0 in small classes."""
    residual, labels = _residual(scan, name), scan.cells.labels
    scores = np.zeros(len(residual))
    for kind in range(len(scan.cells.classes)):
        own = labels == kind
        if own.sum() >= FEW_CELLS // 2:
            spread = 1.4826 * np.median(np.abs(residual[own]))
            scores[own] = residual[own] / max(spread, 1e-6)
    return scores


def _in_photo(scan: Scan, name: str) -> Floats:
    """(N,) distance of a measure from the photo's other cells in usual distances; alone, from the class."""
    offset = _from_siblings(scan, _residual(scan, name), np.full(len(scan.cells), np.nan))
    known = np.isfinite(offset)
    in_class = _in_class(scan, name)
    if known.sum() < FEW_CELLS:
        return in_class
    usual = max(1.4826 * float(np.median(np.abs(offset[known]))), 1e-6)
    compared: Floats = np.where(known, offset / usual, in_class)
    return compared


def _residual(scan: Scan, name: str) -> Floats:
    """(N,) a measure less the median of its class."""
    values, labels = scan.measure(name), scan.cells.labels
    kinds = range(len(scan.cells.classes))
    middle = np.array([np.median(values[labels == k]) if (labels == k).any() else 0.0 for k in kinds])
    residual: Floats = values - middle[labels]
    return residual


def _from_siblings(scan: Scan, values: Floats, otherwise: Floats) -> Floats:
    """(N,) difference from the median of the group's other cells; `otherwise` in groups below three."""
    rows: dict[str, list[int]] = {}
    for index, group in enumerate(scan.cells.groups):
        rows.setdefault(group, []).append(index)
    offset = otherwise.copy()
    for own in rows.values():
        if len(own) >= 3:
            for index in own:
                offset[index] = values[index] - np.median([values[i] for i in own if i != index])
    return offset


def _misfit(scan: Scan, names: Sequence[str]) -> Floats:
    """(N,) distance from the group's other cells in usual distances, root mean square over measures."""
    unknown = np.full(len(scan.cells), np.nan)
    offset = np.stack([_from_siblings(scan, scan.measure(name), unknown) for name in names], 1)
    known = np.isfinite(offset[:, 0])
    if known.sum() < FEW_CELLS:
        return np.zeros(len(offset))
    usual = np.maximum(1.4826 * np.median(np.abs(offset[known]), 0), 1.0)
    score: Floats = np.sqrt((np.nan_to_num(offset / usual) ** 2).mean(1))
    return score


def _odd_ground(scan: Scan) -> Floats:
    """(N,) how far the brightest tenth is from that of the photo's other cells."""
    return _misfit(scan, ("ground_red", "ground_green", "ground_blue"))


def _odd_colour(scan: Scan) -> Floats:
    """(N,) how far the mean colour is from that of the photo's other cells."""
    return _misfit(scan, ("red", "green", "blue"))


def _loneliness(points: Floats) -> Floats:
    """(N,) distance, in standard deviations, within which a point has 2 % of all others (ten at least).

    0 in sets that are too small to have a usual.
    """
    from scipy.spatial import KDTree

    if len(points) < FEW_CELLS:
        return np.zeros(len(points))
    points = points / np.maximum(points.std(0), 1e-6)
    count = min(max(10, len(points) // 50), len(points) - 1)
    distance, _ = KDTree(points).query(points, k=[count + 1])
    column: Floats = distance[:, 0]
    return column


def _outliers(
    scan: Scan, scores: Floats, limit: float, check: str, what: str, unit: str, advice: str
) -> Finding:
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] >= limit]
    share = len(order) / len(scores)
    if not order:
        return Finding(check=check, tone="good", headline=f"No picture stands out as {what}.")
    return Finding(
        check=check,
        tone="unsure",
        headline=f"{some(len(order), 'picture')} {what}.",
        because=f"{100 * share:.1f} % of {len(scores)}.",
        advice=advice,
        numbers={"cells": float(len(order)), "limit": limit},
        shown=tuple(Shown(names=(scan.cells.names[i],), caption=f"{scores[i]:.1f} {unit}") for i in order),
    )
