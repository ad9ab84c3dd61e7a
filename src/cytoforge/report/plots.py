"""Figures and cells as pictures inside a page; nothing here knows where the numbers come from."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoforge.core.grid import grid
from cytoforge.core.png import encode_png

HEMATOXYLIN = "#51457f"
EOSIN = "#b64d72"
SOFT = "#8a8c97"
_INK = "#22232a"
_COLOURS = (HEMATOXYLIN, EOSIN, "#2f7a58", "#946a12", "#3f7ea6")
PLOT_STYLE = {
    "svg.hashsalt": "cytoforge",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": "#c9c8d2",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": "#eeedf2",
}


def picture(image: NDArray[np.uint8], synthetic: bool) -> str:
    """One image as an address that needs no file; a synthetic one keeps its mark inside.

    Args:
        image: (H, W, 3).
        synthetic: whether it shows synthetic cells.
    """
    marks = {"Synthetic": "true"} if synthetic else {"Synthetic": "false"}
    return address(encode_png(image, marks), "image/png")


def tiles(images: NDArray[np.uint8], columns: int, synthetic: bool) -> str:
    """Images (N, H, W, 3) in rows of `columns` as one picture."""
    return picture(grid(images, columns, gap=2), synthetic)


def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], ylabel: str) -> str:
    """Lines over the number of images seen.

    Args:
        series: name -> (images seen, values), each of one length.
        ylabel: of the vertical axis.

    Returns:
        Address of an SVG picture.
    """
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(6.4, 2.8), layout="constrained")
        axes = figure.subplots()
        for colour, (name, (seen, values)) in zip(_repeated(len(series)), series.items(), strict=True):
            marker = "o" if len(seen) < 25 else None
            axes.plot(seen, values, color=colour, label=name, linewidth=1.6, marker=marker, markersize=3)
        axes.set_xlabel("training images seen")
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_formatter(lambda value, _: _short(value))
        if len(series) > 1:
            axes.legend(loc="best", fontsize=9)
        return svg(figure)


def distances(synthetic: NDArray[np.float64], holdout: NDArray[np.float64], threshold: float) -> str:
    """Histogram of copy scores: synthetic cells against real ones that were not trained on.

    Args:
        synthetic: (N,)
        holdout: (M,)
        threshold: below it a synthetic cell is suspected to be a copy.

    Returns:
        Address of an SVG picture.
    """
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(6.4, 2.8), layout="constrained")
        axes = figure.subplots()
        both = np.concatenate([synthetic, holdout])
        edges = np.linspace(min(0.0, float(both.min())), float(both.max()), 41)
        _histogram(axes, holdout, edges, SOFT, "unseen real cells", fill=True)
        _histogram(axes, synthetic, edges, EOSIN, "synthetic cells", fill=False)
        axes.axvline(threshold, color=HEMATOXYLIN, linewidth=1.4, linestyle=(0, (4, 3)), label="threshold")
        axes.set_xlabel("copy score: distance to the nearest training cell, low is suspicious")
        axes.set_ylabel("share of cells")
        axes.legend(loc="best", fontsize=9)
        return svg(figure)


def spans(names: Sequence[str], values: Sequence[float], floors: Sequence[float | None]) -> str:
    """One line for each name: a dot at its value, and a grey bar from 0 to what real cells reach by chance.

    Args:
        names: (N,)
        values: (N,) not negative.
        floors: (N,) None where there is none.

    Returns:
        Address of an SVG picture.
    """
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(6.4, 0.8 + 0.22 * len(names)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(names))[::-1]
        axes.barh(
            places, [floor or 0.0 for floor in floors], color=SOFT, alpha=0.35, label="real against real"
        )
        axes.plot(values, places, "o", color=EOSIN, markersize=5, label="synthetic")
        axes.set_yticks(places, names)
        axes.set_xlim(left=0)
        axes.set_xlabel("distance to unseen real cells, in their standard deviations")
        axes.legend(loc="lower right", fontsize=9)
        return svg(figure)


def range_bar(
    value: float,
    interval: tuple[float, float] | None,
    floor: tuple[float, float] | None,
    top: float | None = None,
) -> str:
    """A small axis with the floor as a grey band and the value as a dot with its interval.

    Args:
        value: the number.
        interval: its ends.
        floor: ends of what real cells give against real cells.
        top: right end of the axis; a little beyond the largest number where not given.

    Returns:
        Address of an SVG picture.
    """
    ends = [value, *(interval or ()), *(floor or ())]
    low = min(0.0, *ends)
    high: float = top if top is not None else 1.08 * max(*ends, 1e-12)
    width, margin = 180.0, 6.0

    def place(number: float) -> float:
        share: float = (min(max(number, low), high) - low) / (high - low)
        return margin + (width - 2 * margin) * share

    parts = [f'<line x1="{margin}" x2="{width - margin}" y1="12" y2="12" stroke="#e3e2e8" stroke-width="2"/>']
    if floor is not None:
        left, right = place(floor[0]), place(floor[1])
        parts.append(
            f'<rect x="{left - 1.5:.1f}" y="5" width="{right - left + 3:.1f}" height="14" fill="#c9c8d2"/>'
        )
    if interval is not None:
        left, right = place(interval[0]), place(interval[1])
        parts.append(
            f'<line x1="{left:.1f}" x2="{right:.1f}" y1="12" y2="12" stroke="{EOSIN}" stroke-width="3"/>'
        )
    parts.append(f'<circle cx="{place(value):.1f}" cy="12" r="4.5" fill="{EOSIN}"/>')
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} 24">{"".join(parts)}</svg>'
    return address(svg.encode(), "image/svg+xml")


def _histogram(
    axes: Axes,
    values: NDArray[np.float64],
    edges: NDArray[np.float64],
    colour: str,
    label: str,
    *,
    fill: bool,
) -> None:
    shares = np.histogram(values, edges)[0] / max(1, len(values))
    alpha, width = (0.35, 0.0) if fill else (1.0, 1.8)
    axes.stairs(shares, edges, fill=fill, color=colour, alpha=alpha, linewidth=width, label=label)


def _repeated(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _short(value: float) -> str:
    """12000 as 12k."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def svg(figure: Figure) -> str:
    """A figure as the address of an SVG picture."""
    buffer = io.BytesIO()
    with mpl.rc_context(PLOT_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return address(buffer.getvalue(), "image/svg+xml")


def png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def address(content: bytes, kind: str) -> str:
    """The content of a file of MIME type `kind` as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def plain(label: str) -> str:
    r"""A class name as plain text for matplotlib.

    It would read formulas between dollar signs, and leave out of a legend what begins with an underscore.

    Example:
        >>> plain("a$b")
        'a\\$b'
        >>> plain("_a")
        '\u200b_a'
    """
    short = label if len(label) <= 32 else f"{label[:31]}…"
    shown = f"\u200b{short}" if short.startswith("_") else short
    return shown.replace("$", r"\$")
