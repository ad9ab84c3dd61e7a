"""Pictures of a calibration: probabilities, promises of sets, and what is gained by handing over."""

from __future__ import annotations

from itertools import cycle

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoforge.evaluation.calibration import Abstention, Reliability
from cytoforge.evaluation.trust import Judged
from cytoforge.report.plots import EOSIN, HEMATOXYLIN, PLOT_STYLE, SOFT, png

_GREEN = "#2f7a58"


def calibration_picture(
    judged: Judged,
    abstention: Abstention,
    distances: NDArray[np.float64],
    training: NDArray[np.float64],
    limit: float | None,
) -> bytes:
    """Four panels as a PNG file.

    Args:
        judged: calibration on cells that it was not fitted on.
        abstention: of the same cells.
        distances: (N,) of these cells to training cells.
        training: (M,) of calibration cells, for comparison.
        limit: distance above which a cell counts as unknown.
    """
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(10.4, 7.6), layout="constrained")
        panels = figure.subplots(2, 2).ravel()
        _diagram(panels[0], judged)
        _coverage(panels[1], judged)
        _abstention(panels[2], abstention, judged)
        _distances(panels[3], distances, training, limit)
        figure.suptitle(
            f"{judged.cells} cells of {judged.groups} groups ({judged.part}) that nothing was fitted on",
            fontsize=11,
        )
        return png(figure)


def _diagram(axes: Axes, judged: Judged) -> None:
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1)
    for found, colour, name in ((judged.before, EOSIN, "before"), (judged.after, HEMATOXYLIN, "after")):
        _line(axes, found, colour, name)
    axes.set(xlabel="stated probability", ylabel="share right", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title("Do probabilities come true?")
    axes.legend(loc="lower right", fontsize=9)


def _line(axes: Axes, found: Reliability, colour: str, name: str) -> None:
    x = [each.confidence for each in found.bins]
    y = [each.accuracy for each in found.bins]
    below = [each.accuracy - each.accuracy_low for each in found.bins]
    above = [each.accuracy_high - each.accuracy for each in found.bins]
    label = f"{name}: error {found.error:.3f} (chance {found.chance_error:.3f}), Brier {found.brier:.3f}"
    axes.errorbar(
        x, y, np.maximum([below, above], 0), color=colour, marker="o", markersize=4, elinewidth=1, label=label
    )


def _coverage(axes: Axes, judged: Judged) -> None:
    stated = [each.stated for each in judged.coverage]
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1)
    axes.vlines(
        stated,
        [each.low for each in judged.coverage],
        [each.high for each in judged.coverage],
        color="#c9c8d2",
        linewidth=9,
        label="what chance allows at so few groups",
    )
    axes.plot(stated, [each.groups for each in judged.coverage], "o", color=HEMATOXYLIN, label="groups")
    axes.plot(stated, [each.cells for each in judged.coverage], "x", color=EOSIN, label="cells")
    own = [(each.stated, found.groups) for each in judged.coverage for found in each.by_class.values()]
    if own:
        axes.plot(*np.transpose(own), ".", color=_GREEN, markersize=5, label="groups, each class alone")
    for each in judged.coverage:
        axes.annotate(
            f"{each.size:.2f} classes",
            (each.stated, min(each.low, each.groups)),
            xytext=(0, -14),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=SOFT,
        )
    low = min(*stated, *(each.low for each in judged.coverage)) - 0.08
    axes.set(xlabel="promised coverage", ylabel="true class in the set", xlim=(low, 1), ylim=(low, 1.01))
    axes.set_title("Do sets hold the true class?")
    axes.legend(loc="upper left", fontsize=9)


def _abstention(axes: Axes, abstention: Abstention, judged: Judged) -> None:
    axes.plot(abstention.kept, abstention.error, color=HEMATOXYLIN)
    for each, marker in zip(judged.coverage, cycle("osD^v")):
        answered, right = each.answered, each.accuracy_answered
        if answered is None or right is None:
            continue
        axes.errorbar(
            answered.value,
            1 - right.value,
            [[right.high - right.value], [right.value - right.low]],
            color=EOSIN,
            marker=marker,
            linestyle="",
            elinewidth=1,
            label=f"sure at {each.stated:.0%}: {answered.value:.0%} answered, {right.value:.1%} rightly",
        )
    axes.set(xlabel="share answered, surest first", ylabel="share wrong", xlim=(0, 1), ylim=(0, None))
    axes.set_title(f"What is gained by handing over? (area {abstention.area:.3f})")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", fontsize=8)


def _distances(
    axes: Axes, distances: NDArray[np.float64], training: NDArray[np.float64], limit: float | None
) -> None:
    edges = np.linspace(0, float(max(distances.max(), training.max())), 41)
    for values, colour, name in ((training, SOFT, "calibration"), (distances, EOSIN, "these")):
        shares = np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, color=colour, linewidth=1.6, label=f"{name} cells")
    if limit is not None:
        axes.axvline(limit, color=HEMATOXYLIN, linestyle=(0, (4, 3)), label="unknown beyond")
    axes.set(xlabel="distance to training cells", ylabel="share of cells")
    axes.set_title("How far are cells from what is known?")
    axes.legend(loc="best", fontsize=9)
