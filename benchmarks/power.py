"""How often a study finds a true difference: the picture in docs/study.md, by the functions of a study.

    python benchmarks/power.py docs/images/power.png [--deviation 0.03]

Prints the power at some differences, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoforge.core.files import write_atomic
from cytoforge.evaluation.utility import POWER, power
from cytoforge.report.plots import EOSIN, HEMATOXYLIN, PLOT_STYLE, SOFT, png

TRAIN, TEST = 4, 1
"""Five folds; the numbers of cells count by their ratio alone."""
DESIGNS = ((5, 1, EOSIN, "-"), (10, 1, HEMATOXYLIN, "-"), (5, 9, EOSIN, "--"), (10, 9, HEMATOXYLIN, "--"))
"""Repeats, comparisons made at once, and how the line is drawn."""


def found(differences: NDArray[np.float64], repeats: int, comparisons: int, deviation: float) -> list[float]:
    """Power at each true difference (N,)."""
    return [
        power(difference, deviation, repeats, TRAIN, TEST, comparisons=comparisons)
        for difference in differences
    ]


def draw(deviation: float) -> bytes:
    """Power against the true difference as a PNG."""
    differences = np.linspace(0, 0.15, 61)
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for repeats, comparisons, colour, line in DESIGNS:
            asked = "one comparison" if comparisons == 1 else f"one of {comparisons}"
            shares = found(differences, repeats, comparisons, deviation)
            axes.plot(100 * differences, shares, line, color=colour, label=f"{repeats} repeats, {asked}")
        axes.axhline(POWER, color=SOFT, linewidth=0.8, linestyle=":")
        axes.set(
            xlabel="true difference, points of balanced accuracy", ylabel="share of studies that find it"
        )
        axes.set(xlim=(0, 15), ylim=(0, 1.02))
        axes.legend(loc="lower right")
        return png(figure)


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--deviation", type=float, default=0.03, help="of the differences between repeats")
    given = parser.parse_args()
    write_atomic(given.picture, draw(given.deviation))
    points = np.array([0.02, 0.05, 0.1])
    for repeats, comparisons, *_ in DESIGNS:
        shares = found(points, repeats, comparisons, given.deviation)
        shown = ", ".join(
            f"{100 * at:g} points {share:.2f}" for at, share in zip(points, shares, strict=True)
        )
        print(f"{repeats} repeats, {comparisons} comparison(s): {shown}")


if __name__ == "__main__":
    main()
