"""A data folder becomes a paired folder: images with masks that were found in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoforge.core.errors import DataError
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.mask import NUCLEUS, UNKNOWN
from cytoforge.core.png import encode_png
from cytoforge.core.run import ANOTHER_OUT, require_empty
from cytoforge.data.cells import Cell
from cytoforge.data.folder import open_cells, read_image, read_mask
from cytoforge.data.layouts import SUMMARY
from cytoforge.evaluation.statistics import bootstrap_mean
from cytoforge.masks.agreement import dice, iou
from cytoforge.masks.unsupervised import unsupervised_masks
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.stages.paired_names import paired_names

_CHUNK = 600
_SHOWN, _SIDE = 8, 128
_NUCLEUS_INK, _CELL_INK = (255, 225, 0), (0, 230, 230)


@dataclass(frozen=True)
class _Found:
    cell: Cell
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def mask(
    data: Path, out: Path, *, layout: str = "auto", group: str | None = None, fields: bool = False
) -> dict[str, Any]:
    """Find masks without annotation and write `out`/images, `out`/masks, gallery.png and masks.json.

    The images are copied as they are; the folder has the layout "paired" and can be trained on: masks.json
    keeps each image's group and published split. Where the data have true masks, it also says how well the
    found ones agree.

    Args:
        data: data folder.
        out: folder to write, missing or empty.
        layout: a key of `data.layouts.LAYOUTS`, or "auto".
        group: pattern of the group, for the intervals of the scores.
        fields: images are fields with many nuclei instead of crops with one cell.

    Returns:
        What masks.json holds.

    Raises:
        ConfigError: `out` holds something already, or no such layout.
        DataError: the data cannot be used, or `out` cannot be written.
    """
    require_empty(out, advice=ANOTHER_OUT)
    cells = open_cells(data, layout, group)
    places = dict(zip(cells.names, paired_names(cells.cells), strict=True))
    faults: dict[str, str] = {}
    gallery: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in cells.classes}
    scores: dict[str, list[tuple[float, float, float]]] = {name: [] for name in cells.classes}
    groups: dict[str, list[str]] = {name: [] for name in cells.classes}
    empty: list[str] = []
    written: dict[str, dict[str, str | None]] = {}
    write_json(out / SUMMARY, {"format": 1, "kind": "masks", "unfinished": True})
    for start in range(0, len(cells), _CHUNK):
        for found in _found(cells.cells[start : start + _CHUNK], fields, faults):
            label = found.cell.label
            name = _write(out, found, places[found.cell.name])
            written[name] = {"group": found.cell.group, "split": found.cell.split}
            if not (found.mask == NUCLEUS).any():
                empty.append(name)
            if len(gallery[label]) < _SHOWN:
                gallery[label].append(_shown(found))
            agreement = _agreement(found, faults)
            if agreement is not None:
                scores[label].append(agreement)
                groups[label].append(found.cell.group)
    _write_gallery(out / "gallery.png", gallery)
    summary = {
        "format": 1,
        "kind": "masks",
        "method": "unsupervised",
        "images": len(written),
        "classes": list(cells.classes),
        "without_nucleus": empty,
        "faults": faults,
        "agreement": _summary(scores, groups),
        "cells": written,
    }
    write_json(out / SUMMARY, summary)
    return summary


def _found(cells: tuple[Cell, ...], fields: bool, faults: dict[str, str]) -> list[_Found]:
    pairs = []
    for cell in cells:
        try:
            pairs.append((cell, read_image(cell)))
        except DataError as error:
            faults[cell.name] = str(error)
    masks = unsupervised_masks([image for _, image in pairs], single=not fields)
    return [_Found(cell, image, mask) for (cell, image), mask in zip(pairs, masks, strict=True)]


def _write(out: Path, found: _Found, name: str) -> str:
    """Write image and mask under `<class>/<file>`; returns the image's path inside the folder."""
    cell = found.cell
    if cell.row is None:
        name += cell.path.suffix.lower()
        content = cell.path.read_bytes()
    else:
        name += ".png"
        content = encode_png(found.image, {"Source": cell.name})
    write_atomic(out / "images" / name, content)
    mask_name = str(PurePosixPath(name).with_suffix(".png"))
    write_atomic(out / "masks" / mask_name, encode_png(found.mask, {"Mask": "unsupervised"}))
    return f"images/{name}"


def _agreement(found: _Found, faults: dict[str, str]) -> tuple[float, float, float] | None:
    """Dice and IoU of the nucleus, Dice of the whole cell; None without a true mask."""
    try:
        true = read_mask(found.cell)
    except DataError as error:
        faults[found.cell.name] = f"its true mask cannot be used: {error}"
        return None
    if true is None:
        return None
    known = true != UNKNOWN
    nucleus = found.mask == NUCLEUS, true == NUCLEUS, known
    return dice(*nucleus), iou(*nucleus), dice(found.mask > 0, true > 0, known)


def _summary(
    scores: dict[str, list[tuple[float, float, float]]], groups: dict[str, list[str]]
) -> dict[str, Any]:
    """Agreement with true masks, all classes together and each; empty without any."""
    every = [row for rows in scores.values() for row in rows]
    if not every:
        return {}
    own = {label: _means(rows, groups[label]) for label, rows in scores.items() if rows}
    return {"all": _means(every, [name for names in groups.values() for name in names]), **own}


def _means(rows: list[tuple[float, float, float]], groups: list[str]) -> dict[str, Any]:
    """Mean of each score with its 95 % interval, whole groups drawn."""
    table = np.array(rows)
    found: dict[str, Any] = {"images": len(rows)}
    for column, name in enumerate(("nucleus_dice", "nucleus_iou", "cell_dice")):
        low, high = bootstrap_mean(table[:, column], groups)
        found[name] = {"value": float(table[:, column].mean()), "low": low, "high": high}
    return found


def _shown(found: _Found) -> NDArray[np.uint8]:
    """The image above the same with the outlines of nucleus (yellow) and cell (cyan)."""
    size = (_SIDE, _SIDE)
    image = np.asarray(Image.fromarray(found.image).resize(size, Image.Resampling.BICUBIC))
    mask = np.asarray(Image.fromarray(found.mask).resize(size, Image.Resampling.NEAREST))
    drawn = image.copy()
    drawn[_outline(mask > 0)] = _CELL_INK
    drawn[_outline(mask == NUCLEUS)] = _NUCLEUS_INK
    return np.concatenate([image, drawn])


def _outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a region (H, W) that touch its outside; the picture's border is no outside."""
    padded = np.pad(region, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~inner


def _write_gallery(path: Path, gallery: dict[str, list[NDArray[np.uint8]]]) -> None:
    rows = {label: np.stack(images) for label, images in gallery.items() if images}
    if not rows:
        raise DataError("none of the images can be decoded, so there are no masks.")
    sheet = labelled_rows(rows, "masks found without annotation: nucleus yellow, cell cyan")
    write_atomic(path, encode_png(sheet, {"Content": "found masks"}))
