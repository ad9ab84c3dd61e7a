"""The audit as one page that needs nothing else: verdicts, numbers, then the cells that are meant."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cytoforge.core.errors import DataError
from cytoforge.core.files import write_atomic
from cytoforge.data.findings import Audit, Finding, Probe, Shown
from cytoforge.data.folder import read_image
from cytoforge.data.scan import Scan
from cytoforge.report.pages import render
from cytoforge.report.plots import EOSIN, HEMATOXYLIN, PLOT_STYLE, SOFT, address, plain, svg

MOST_SHOWN = 24
"""Examples of each finding on the page; audit.json lists all."""
_SIDE = 112
_STYLE = {**PLOT_STYLE, "axes.grid": False}


@dataclass(frozen=True)
class Example:
    """What the page shows of one example: addresses of its pictures (or none) and words."""

    pictures: tuple[str, ...]
    names: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class Section:
    """One finding with its examples."""

    finding: Finding
    examples: tuple[Example, ...]
    more: int


def build_audit(path: Path, audit: Audit, scan: Scan, pictures: bool = True) -> None:
    """Write audit.html.

    Args:
        path: the page.
        audit: what was found.
        scan: the cells that it speaks of.
        pictures: whether to show them.

    Raises:
        DataError: the page cannot be written.
    """
    sections = [
        _section(finding, scan, pictures) for finding in audit.findings if finding.shown or finding.advice
    ]
    page = render(
        "audit.html",
        audit=audit,
        sections=sections,
        has_pictures=pictures and any(example.pictures for part in sections for example in part.examples),
        measures_plot=_measures_plot(scan),
        probe_plot=_probe_plot(audit.probe) if audit.probe is not None else None,
        name=Path(audit.root).name,
    )
    write_atomic(path, page)


def _section(finding: Finding, scan: Scan, pictures: bool) -> Section:
    chosen = finding.shown[:MOST_SHOWN]
    examples = tuple(_example(shown, scan, pictures) for shown in chosen)
    return Section(finding, examples, len(finding.shown) - len(chosen))


def _example(shown: Shown, scan: Scan, pictures: bool) -> Example:
    addresses = tuple(_thumbnail(scan, name) for name in shown.names) if pictures and shown.cells else ()
    return Example(tuple(address for address in addresses if address), shown.names, shown.caption)


def _thumbnail(scan: Scan, name: str) -> str:
    """Address that holds a cell as a small JPEG; empty where the file has gone meanwhile."""
    cell = scan.cells.select([name]).cells[0]
    try:
        image = Image.fromarray(read_image(cell))
    except DataError:
        return ""
    image.thumbnail((2 * _SIDE, 2 * _SIDE) if max(image.size) > _SIDE else image.size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return address(buffer.getvalue(), "image/jpeg")


def _measures_plot(scan: Scan) -> str:
    """Sizes, sharpness and brightness of each class, as boxes."""
    columns = (("width in px", "width"), ("sharpness", "fine"), ("brightness", "brightness"))
    classes = scan.cells.classes
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 0.9 + 0.32 * len(classes)), layout="constrained")
        axes = figure.subplots(1, len(columns), sharey=True)
        for axis, (title, name) in zip(axes, columns, strict=True):
            values = scan.measure(name)
            _boxes(axis, [values[scan.cells.labels == kind] for kind in range(len(classes))], title)
        axes[0].set_yticks(range(len(classes)), [plain(label) for label in classes])
        axes[0].invert_yaxis()
    return svg(figure)


def _boxes(axis: Axes, groups: Sequence[NDArray[np.float64]], title: str) -> None:
    """For each group a line over 5 to 95 %, a bar over the middle half and a dot at the median."""
    for place, values in enumerate(groups):
        if len(values) == 0:
            continue
        low, first, middle, third, high = np.percentile(values, (5, 25, 50, 75, 95))
        axis.plot((low, high), (place, place), color=SOFT, linewidth=1)
        axis.plot((first, third), (place, place), color=HEMATOXYLIN, linewidth=7, solid_capstyle="butt")
        axis.plot(middle, place, "o", color="white", markersize=4)
    axis.set_title(title)
    axis.tick_params(axis="y", length=0)


def _probe_plot(probe: Probe) -> str:
    """Three accuracies under each other, with chance."""
    rows = (
        ("cells at random", probe.random, EOSIN),
        ("photos kept together", probe.grouped, HEMATOXYLIN),
        ("photos that share a cell, too", probe.merged, HEMATOXYLIN),
    )
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 1.7), layout="constrained")
        axis = figure.subplots()
        for place, (_, value, colour) in enumerate(rows):
            axis.plot(value, place, "o", color=colour, markersize=8)
            axis.annotate(f"{value:.3f}", (value, place), (8, -3), textcoords="offset points", color=colour)
        values = [value for _, value, _ in rows]
        axis.set_xlim(min(values) - 0.02, max(values) + 0.02)
        axis.set_ylim(2.5, -0.5)
        axis.set_yticks(range(3), [name for name, _, _ in rows])
        axis.grid(axis="x", color="#eeedf2")
        axis.tick_params(axis="y", length=0)
        axis.set_title(
            f"accuracy of a linear classifier ({probe.chance:.2f} by always naming the largest class)"
        )
    return svg(figure)
