"""What `predict` found, as a table, as JSON and as annotated pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoforge.core.errors import DataError
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.core.table import csv_text
from cytoforge.data.images import decode
from cytoforge.report.annotate import Note, annotated_cells, annotated_photo
from cytoforge.report.teaching import Teaching
from cytoforge.stages.trusted import Trusted

SHOWN = 60
"""Single cells that are drawn."""

_FRAMED = (
    "The stated coverage and share of false alarms are not promised in photos: they were learned with one "
    "framing of each cell, and here each nucleus takes, of those tried, the framing nearest to training "
    "cells, which makes an unknown kind harder to notice."
)
"""Caveat of answers in whole photos."""

_RESEARCH = "For research and teaching. Not for diagnosis."

_COLUMNS = ("image", "left", "top", "width", "height", "class", "probability", "answer", "possible",
            "distance", "kind", "meaning", "usual follow-up")  # fmt: skip


@dataclass(frozen=True)
class Predicted:
    """What `predict` found.

    Attributes:
        folder: of predictions.csv, predictions.json and annotated.png.
        cells: one mapping for each cell, as in predictions.json.
        faults: picture -> why it could not be used.
        calibrated: whether the run has a calibration.
        engine: that computed.
        annotated: picture -> file in `folder` that shows it; of single cells only the first.
    """

    folder: Path
    cells: tuple[dict[str, Any], ...]
    faults: dict[str, str]
    calibrated: bool
    engine: str
    annotated: dict[str, str]


def picture_name(path: str, root: Path) -> str:
    """A picture's path below the folder that was asked about, or its name alone."""
    place, base = Path(path).absolute(), root.absolute()
    return place.relative_to(base).as_posix() if place.is_relative_to(base) else place.name


def named_faults(faults: Mapping[str, str], root: Path) -> dict[str, str]:
    """Why pictures could not be used by `picture_name` in place of path, so that no local folder is told."""
    return {picture_name(path, root): why.removeprefix(f"{path}: ") for path, why in faults.items()}


def nothing_usable(source: Path, faults: Mapping[str, str]) -> DataError:
    """The error where every picture has a fault; those are by name."""
    name, why = next(iter(faults.items()))
    return DataError(f"no picture of {source} can be used; the first: {name}: {why}")


def verdict(cell: Mapping[str, Any], calibrated: bool) -> str:
    """What to do with an answer, in one word or two."""
    if not calibrated:
        return "not calibrated"
    if cell["unknown"]:
        return "unknown kind"
    if len(cell["possible"]) == 1:
        return "sure"
    return "several possible" if cell["possible"] else "fits no class"


def write_predictions(
    found: Predicted, trusted: Trusted, text: Teaching, coverage: float, photos: bool
) -> None:
    """predictions.csv and predictions.json."""
    classes, calibration = trusted.classes, trusted.calibration
    header = [*_COLUMNS, *(f"p({name})" for name in classes)]
    rows = [_row(cell, text, found.calibrated) for cell in found.cells]
    write_atomic(found.folder / "predictions.csv", csv_text(header, rows))
    known = {name: meaning for name in classes if (meaning := text.of(name)) is not None}
    unjudged = ("possible", "distance", "unknown", "sure")
    cells = [
        {key: None if key in unjudged and not found.calibrated else value for key, value in cell.items()}
        | {"answer": verdict(cell, found.calibrated)}
        for cell in found.cells
    ]
    write_json(
        found.folder / "predictions.json",
        {
            "format": 1,
            "kind": "predictions",
            "notice": _RESEARCH,
            "note": text.note,
            "run": trusted.run.path.resolve().name,
            "weights_sha256": trusted.weights_sha256,
            "classes": list(classes),
            "photos": photos,
            "engine": found.engine,
            "calibrated": found.calibrated,
            "coverage": coverage if found.calibrated else None,
            "caveat": None if calibration is None else _caveat(calibration.caveat, photos),
            "meanings": {
                name: meaning.model_dump(mode="json", exclude={"names"}) for name, meaning in known.items()
            },
            "faults": found.faults,
            "annotated": found.annotated,
            "cells": cells,
        },
    )


def _row(cell: Mapping[str, Any], text: Teaching, calibrated: bool) -> list[Any]:
    """A line of predictions.csv, see `_COLUMNS`."""
    meaning = text.of(cell["class"])
    return [
        cell["image"],
        *(cell["box"] or [""] * 4),
        cell["class"],
        cell["probability"],
        verdict(cell, calibrated),
        " | ".join(cell["possible"]) if calibrated else "",
        cell["distance"] if calibrated else "",
        *(("", "", "") if meaning is None else (meaning.kind, meaning.meaning, meaning.follow_up)),
        *cell["probabilities"].values(),
    ]


def _caveat(promise: str, photos: bool) -> str:
    return f"{promise} {_FRAMED}" if photos else promise


def _note(cell: Mapping[str, Any], classes: Sequence[str], calibrated: bool) -> Note:
    doubt = {"unknown kind": "?? ", "several possible": "? ", "fits no class": "? "}
    mark = doubt.get(verdict(cell, calibrated), "")
    words = f"{mark}{cell['probability']:.2f} {cell['class']}"
    box = None if cell["box"] is None else tuple(cell["box"])
    return Note(classes.index(cell["class"]), words, cell["sure"] or not calibrated, box)


def annotated_in(names: Sequence[str], photos: bool) -> dict[str, str]:
    """Picture -> file that shows it: each photo has its own, the first `SHOWN` single cells share one.

    Args:
        names: pictures that could be used.
        photos: whether they are whole photos.
    """
    if not photos:
        return dict.fromkeys(names[:SHOWN], "annotated.png")
    if len(names) == 1:
        return {names[0]: "annotated.png"}
    return {name: f"annotated-{number:04d}.png" for number, name in enumerate(names, start=1)}


def draw_predictions(found: Predicted, classes: Sequence[str], root: Path, photos: bool) -> None:
    """The files of `annotated`: photos with frames, or single cells in rows."""
    marks = {"Content": "pictures with answers of a classifier", "Notice": _RESEARCH}
    if not photos:
        chosen = [cell for cell in found.cells if cell["image"] in found.annotated]
        cells = [decode(root / cell["image"]) for cell in chosen]
        notes = [_note(cell, classes, found.calibrated) for cell in chosen]
        left = len(found.cells) - len(chosen)
        sheet = annotated_cells(cells, notes, f"{left} more cells in predictions.csv" if left else "")
        write_atomic(found.folder / "annotated.png", encode_png(sheet, marks))
        return
    for name, file in found.annotated.items():
        notes = [_note(cell, classes, found.calibrated) for cell in found.cells if cell["image"] == name]
        write_atomic(found.folder / file, encode_png(annotated_photo(decode(root / name), notes), marks))
