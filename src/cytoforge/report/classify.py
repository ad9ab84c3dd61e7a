"""One classifier under two protocols as a page: scores twice, the difference, and the mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoforge.core.files import write_atomic
from cytoforge.evaluation.classification import Estimate, roc, roc_band
from cytoforge.evaluation.classifier_report import Against, ClassifierReport, Protocol
from cytoforge.evaluation.statistics import FEW_GROUPS
from cytoforge.report.pages import render
from cytoforge.report.plots import EOSIN, HEMATOXYLIN, PLOT_STYLE, SOFT, plain, png, svg

_COLOURS = (HEMATOXYLIN, EOSIN, "#2f7a58", "#946a12", "#3f7ea6", "#7f5145", "#6b8e23")


@dataclass(frozen=True)
class _Row:
    """A line of a table: a name and formatted numbers."""

    name: str
    cells: tuple[str, ...]


def build_classify(
    out: Path,
    judged: ClassifierReport,
    labels: NDArray[np.int64],
    groups: Sequence[str],
    probabilities: Mapping[str, NDArray[np.float64]],
) -> None:
    """Write classify.html and the pictures curves.png, confusion.png and roc.png.

    Args:
        out: folder.
        judged: all numbers.
        labels: (N,) true classes.
        groups: (N,) photo, slide or patient of each cell.
        probabilities: "random" and "grouped" -> (N, K).
    """
    protocols = (judged.random, judged.grouped)
    trained = {"curves": _curves_figure(protocols)} if judged.grouped.curves else {}
    figures = {
        **trained,
        "confusion": _confusion_figure(protocols),
        "roc": _roc_figure(protocols, labels, groups, probabilities, judged.seed),
    }
    for name, figure in figures.items():
        write_atomic(out / f"{name}.png", png(figure))
    page = render(
        "classify.html",
        judged=judged,
        pictures={name: svg(figure) for name, figure in figures.items()},
        summary=_summary_rows(protocols),
        classes=_class_rows(protocols),
        coarse=[_coarse_row(protocol) for protocol in protocols if protocol.coarse is not None],
        leak=_points(judged.leak),
        against=None if judged.against is None else against_sentence(judged.against),
        left_out=left_out(judged.faults),
        searches=[
            f"{_title(protocol)}: {_searched(protocol)}" for protocol in protocols if protocol.searches
        ],
        shown=percent,
        sentence=sentence(judged),
    )
    write_atomic(out / "classify.html", page)


def percent(share: float) -> str:
    """A share as it is printed.

    Example:
        >>> percent(0.9583)
        '95.8 %'
    """
    return f"{100 * share:.1f} %"


def interval(estimate: Estimate) -> str:
    """A share with its interval.

    Example:
        >>> interval(Estimate(value=0.9, low=0.88, high=0.92))
        '90.0 % (88.0 to 92.0)'
    """
    return f"{percent(estimate.value)} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def sentence(judged: ClassifierReport) -> str:
    """The result in one sentence, and another where its intervals are too short or no photo is known."""
    if judged.ungrouped:
        return (
            f"{judged.recipe} names {interval(judged.random.scores.accuracy)} of {judged.cells} cells "
            f"rightly when cells are divided at random ({judged.folds} folds). No photo, slide or patient is "
            "known, so what siblings give away, and what to expect of a new photo, cannot be said: what is "
            "called photos kept together divides single cells in another way. --group says where a file's "
            "name tells it."
        )
    few = (
        f" Intervals over {judged.groups} groups are too short; read them as hints."
        if judged.groups < FEW_GROUPS
        else ""
    )
    return (
        f"{judged.recipe} names {interval(judged.grouped.scores.accuracy)} of {judged.cells} cells rightly "
        f"when photos are kept together ({judged.folds} folds, {judged.groups} groups), and "
        f"{interval(judged.random.scores.accuracy)} when cells are divided at random: a leak inflation of "
        f"{_points(judged.leak)} points.{few}"
    )


def against_sentence(against: Against) -> str:
    """What the judged classifier gains over the one it was compared with, in one sentence."""
    gain = against.gain
    verdict = "it is better" if gain.low > 0 else "it is worse" if gain.high < 0 else "no difference is seen"
    return (
        f"Against {against.recipe} on the same cells and folds, photos kept together "
        f"({interval(against.accuracy)}): {_points(gain)} points, cell by cell; {verdict}."
    )


def left_out(faults: Sequence[tuple[str, str]], most: int = 3) -> str:
    """How many files are in no figure, and the commonest reasons.

    Example:
        >>> left_out([("a.png", "half a file"), ("b.png", "half a file"), ("c.png", "empty")])
        '3 files are left out (2: half a file; 1: empty)'
    """
    reasons = Counter(reason for _, reason in faults).most_common()
    listed = "; ".join(f"{count}: {reason}" for reason, count in reasons[:most])
    more = f"; {len(reasons) - most} more reasons" if len(reasons) > most else ""
    return f"{len(faults)} file{'s are' if len(faults) > 1 else ' is'} left out ({listed}{more})"


def _searched(protocol: Protocol) -> str:
    """Settings with the number of folds that chose them, and accuracy inside the training cells."""
    sets = Counter(
        ", ".join(f"{name} {value}" for name, value in sorted(search.chosen.items()))
        for search in protocol.searches
    )
    listed = "; ".join(
        f"{words} ({count} of {len(protocol.searches)} folds)" for words, count in sets.items()
    )
    inner = [search.inner_accuracy for search in protocol.searches]
    return f"{listed}; accuracy inside the training cells {percent(min(inner))} to {percent(max(inner))}"


def _points(leak: Estimate) -> str:
    return f"{100 * leak.value:.1f} ({100 * leak.low:.1f} to {100 * leak.high:.1f})"


def _summary_rows(protocols: Sequence[Protocol]) -> list[_Row]:
    rows = []
    for protocol in protocols:
        scores = protocol.scores
        numbers = (scores.accuracy, scores.balanced_accuracy, scores.macro_f1, scores.macro_auc)
        spread = f"{percent(min(protocol.accuracies))} to {percent(max(protocol.accuracies))}"
        minutes = f"{sum(protocol.seconds) / 60:.0f}"
        cells = (*(interval(number) for number in numbers), spread, percent(protocol.sibling), minutes)
        rows.append(_Row(_title(protocol), cells))
    return rows


def _class_rows(protocols: Sequence[Protocol]) -> list[_Row]:
    """Each class by both protocols: support, precision, recall, F1, AUC."""
    rows = []
    for label in protocols[0].scores.classes:
        for protocol in protocols:
            found = protocol.scores.classes[label]
            numbers = (found.precision, found.recall, found.f1, found.auc)
            cells = (protocol.name, str(found.support), *(interval(number) for number in numbers))
            rows.append(_Row(label, cells))
    return rows


def _coarse_row(protocol: Protocol) -> _Row:
    assert protocol.coarse is not None
    scores = protocol.coarse
    recalls = (f"{name}: {interval(found.recall)}" for name, found in scores.classes.items())
    return _Row(_title(protocol), (interval(scores.accuracy), "; ".join(recalls)))


def _title(protocol: Protocol) -> str:
    return "photos kept together" if protocol.name == "grouped" else "cells at random"


def _curves_figure(protocols: Sequence[Protocol]) -> Figure:
    """Loss and accuracy, mean and range of the folds, one row for each protocol."""
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(10, 5), layout="constrained")
        panels = figure.subplots(2, 2, squeeze=False, sharex=True, sharey="col")
        for row, protocol in zip(panels, protocols, strict=True):
            curves = protocol.curves
            _draw_folds(row[0], [(curve.seen, curve.loss) for curve in curves], SOFT)
            _draw_folds(row[0], [(curve.looked, curve.unseen_loss) for curve in curves], EOSIN)
            _draw_folds(row[1], [(curve.looked, curve.accuracy) for curve in curves], HEMATOXYLIN)
            row[0].set_title(f"{_title(protocol)}: loss, training (grey) and unseen cells")
            row[1].set_title(f"{_title(protocol)}: accuracy on unseen cells while training")
        for panel in panels[1]:
            panel.set_xlabel("training images seen")
        figure.suptitle("lines: mean of the folds; bands: from the lowest to the highest fold", fontsize=9)
    return figure


def _draw_folds(axes: Axes, folds: Sequence[tuple[Sequence[int], Sequence[float]]], colour: str) -> None:
    """The mean of the folds' curves (images seen, values) in a band from the lowest to the highest."""
    seen = folds[0][0]
    values = np.stack([np.interp(seen, *fold) for fold in folds])
    axes.plot(seen, values.mean(0), color=colour, linewidth=1.4)
    axes.fill_between(seen, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)


def _confusion_figure(protocols: Sequence[Protocol]) -> Figure:
    """Both confusions, counts in a square coloured by the share of its row, whose interval stands below."""
    side = 1.6 + 0.62 * len(protocols[0].scores.labels)
    with mpl.rc_context({**PLOT_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(2 * side, side), layout="constrained")
        for axes, protocol in zip(figure.subplots(1, 2), protocols, strict=True):
            _draw_confusion(axes, protocol)
    return figure


def _draw_confusion(axes: Axes, protocol: Protocol) -> None:
    counts = np.array(protocol.scores.confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Purples", vmin=0, vmax=1)
    labels = protocol.scores.labels
    names = [plain(name) for name in labels]
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            ink = "white" if shares[row, column] > 0.55 else "#22232a"
            share = protocol.scores.classes[labels[row]].named[labels[column]]
            ends = f"{100 * share.low:.0f} to {100 * share.high:.0f}"
            axes.text(column, row - 0.1, str(counts[row, column]), **centred, fontsize=8, color=ink)
            axes.text(column, row + 0.22, ends, **centred, fontsize=6, color=ink)
    axes.set_xlabel("found (small: 95 % interval of the row's share, in percent)")
    axes.set_ylabel("true")
    axes.set_title(_title(protocol))


def _roc_figure(
    protocols: Sequence[Protocol],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    probabilities: Mapping[str, NDArray[np.float64]],
    seed: int,
) -> Figure:
    """One-vs-rest curves of every class, with a band over groups drawn anew."""
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        for axes, protocol in zip(figure.subplots(1, 2), protocols, strict=True):
            for index, (name, found) in enumerate(protocol.scores.classes.items()):
                place = protocol.scores.labels.index(name)
                own = labels == place, probabilities[protocol.name][:, place]
                alarms, hits = roc(*own)
                colour = _COLOURS[index % len(_COLOURS)]
                label = (
                    f"{plain(name)}: area {found.auc.value:.3f} ({found.auc.low:.3f} to {found.auc.high:.3f})"
                )
                axes.plot(alarms, hits, color=colour, linewidth=1.4, label=label)
                axes.fill_between(*roc_band(*own, groups, seed=seed), color=colour, alpha=0.15, linewidth=0)
            axes.set_xlim(-0.01, 1)
            axes.set_ylim(0, 1.01)
            axes.set_xlabel("false alarms")
            axes.set_ylabel("hits")
            axes.set_title(f"{_title(protocol)}: each class against the rest")
            axes.legend(loc="lower right", fontsize=8)
    return figure
