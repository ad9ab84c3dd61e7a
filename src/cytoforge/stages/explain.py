"""Why a classifier says what it says: where it looked, and which training cells are most alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.data.cells import Cell
from cytoforge.data.folder import read_image
from cytoforge.data.transform import prepare
from cytoforge.evaluation.distances import unit_length
from cytoforge.evaluation.gradcam import (
    Likeness,
    enlarged,
    follows_weights,
    grad_cam,
    overlay,
    randomisation_test,
)
from cytoforge.evaluation.memorisation import nearest
from cytoforge.evaluation.trust import Answers
from cytoforge.report.explanation import Explained, Neighbour, build_explanation
from cytoforge.report.plots import picture
from cytoforge.report.teaching import teaching
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.stages.pictures import pictures_in, prepared
from cytoforge.stages.predictions import named_faults, nothing_usable, picture_name
from cytoforge.stages.trained_cells import cells_of
from cytoforge.stages.trusted import Trusted, answered, open_trusted

NEIGHBOURS = 5
_SANITY_IMAGES = 12


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes:
        folder: of explanation.html, explanation.json and explanation.png.
        cells: one mapping for each picture, as in explanation.json.
        sanity: number of last layers drawn anew -> likeness of the heat maps to the true ones.
        faults: picture -> why it could not be used.
    """

    folder: Path
    cells: tuple[dict[str, Any], ...]
    sanity: dict[int, Likeness]
    faults: dict[str, str]


def explain(
    run: Path,
    source: Path,
    out: Path,
    *,
    data: Path | None = None,
    coverage: float = 0.9,
    most: int = 24,
    meanings: Mapping[str, Any] | None = None,
    checkpoint: str = "best",
) -> Explanation:
    """Write explanation.html, explanation.json and explanation.png for pictures of one cell each.

    Args:
        run: folder of `classify train`; the nearest training cells need `classify calibrate`.
        source: a picture or a folder of pictures.
        out: folder for the results.
        data: the run's data folder, where that has moved; without it training cells are named, not shown.
        coverage: as for `predict`.
        most: pictures that are explained, in the order of their names.
        meanings: as for `predict`.
        checkpoint: "best" or "newest".

    Raises:
        CheckpointError: it is no run of a classifier.
        ConfigError: an option makes no sense.
        DataError: there is no picture, or none can be used.
    """
    if most < 1:
        raise ConfigError(f"--most: expected 1 or more, got {most}.")
    text = teaching(meanings)
    paths = pictures_in(source, out)
    trusted = open_trusted(run, checkpoint, "torch")
    broken: dict[str, str] = {}
    batches = _first(prepared(paths, trusted.preparation, broken), most)
    root = source if source.is_dir() else source.parent
    faults = named_faults(broken, root)
    if not batches:
        raise nothing_usable(source, faults)
    names = [picture_name(str(path), root) for found, _ in batches for path in found]
    images = np.concatenate([found for _, found in batches])
    logits, features = trusted.quick(images)
    answers = answered(trusted, logits, features, coverage)
    labels = torch.from_numpy(answers.found)
    network = trusted.quick.fitted.network
    levels = trusted.quick.fitted.prepared(images)
    heat = enlarged(grad_cam(network, levels, labels), images.shape[1])
    sanity = randomisation_test(network, levels[:_SANITY_IMAGES], labels[:_SANITY_IMAGES])
    hot = overlay(images, heat)
    neighbours = _neighbours(trusted, features, data)
    cells = tuple(
        _facts(trusted, names[index], answers, index, neighbours[index]) for index in range(len(names))
    )
    explained = [
        Explained(
            cell, picture(images[index], synthetic=False), picture(hot[index], synthetic=False),
            neighbours[index], text.of(cell["class"]),
        )
        for index, cell in enumerate(cells)
    ]  # fmt: skip
    follows = follows_weights(sanity)
    page = build_explanation(explained, sanity, follows, text.note, trusted.calibration, coverage, faults)
    write_atomic(out / "explanation.html", page)
    write_atomic(out / "explanation.png", encode_png(_sheet(images, hot), {"Content": "Grad-CAM"}))
    write_json(
        out / "explanation.json",
        {
            "format": 1,
            "kind": "explanation",
            "run": trusted.run.path.resolve().name,
            "note": text.note,
            "sanity": {str(count): likeness.model_dump() for count, likeness in sanity.items()},
            "follows_weights": follows,
            "faults": faults,
            "cells": cells,
        },
    )
    return Explanation(out, cells, sanity, faults)


def _first(
    batches: Iterable[tuple[list[Path], NDArray[np.uint8]]], most: int
) -> list[tuple[list[Path], NDArray[np.uint8]]]:
    """As many pictures as are wanted, of those that can be used."""
    taken, count = [], 0
    for paths, images in batches:
        taken.append((paths[: most - count], images[: most - count]))
        count += len(taken[-1][0])
        if count == most:
            break
    return taken


def _neighbours(
    trusted: Trusted, features: NDArray[np.float32], data: Path | None
) -> list[tuple[Neighbour, ...]]:
    """The training cells that are most alike to the classifier, with pictures where the data are at hand."""
    if trusted.known is None or trusted.labels is None:
        return [()] * len(features)
    found = nearest(
        unit_length(np.asarray(features, np.float64)), unit_length(trusted.known.features), NEIGHBOURS
    )
    pictures = _training_cells(trusted, data)
    shown = []
    for rows, distances in zip(found.indices, found.distances, strict=True):
        shown.append(
            tuple(
                Neighbour(
                    trusted.names[row],
                    trusted.classes[int(trusted.labels[row])],
                    float(distance),
                    _picture(trusted, pictures.get(trusted.names[row])),
                )
                for row, distance in zip(rows, distances, strict=True)
            )
        )
    return shown


def _training_cells(trusted: Trusted, data: Path | None) -> dict[str, Cell]:
    """Name -> cell; empty where the data are not at hand and nobody said where they are."""
    try:
        return {cell.name: cell for cell in cells_of(trusted.run, data).cells}
    except DataError:
        if data is not None:
            raise
        return {}


def _picture(trusted: Trusted, cell: Cell | None) -> str | None:
    if cell is None:
        return None
    try:
        return picture(prepare(read_image(cell), trusted.preparation), synthetic=False)
    except DataError:
        return None


def _facts(
    trusted: Trusted, name: str, answers: Answers, index: int, neighbours: tuple[Neighbour, ...]
) -> dict[str, Any]:
    calibrated = trusted.calibration is not None
    return {
        "image": name,
        "class": trusted.classes[int(answers.found[index])],
        "probabilities": {
            label: round(float(value), 5)
            for label, value in zip(trusted.classes, answers.probabilities[index], strict=True)
        },
        "possible": [
            label for label, inside in zip(trusted.classes, answers.sets[index], strict=True) if inside
        ]
        if calibrated
        else None,
        "unknown": bool(answers.unknown[index]) if calibrated else None,
        "nearest": [
            {"image": each.name, "class": each.label, "distance": round(each.distance, 5)}
            for each in neighbours
        ],
    }


def _sheet(images: NDArray[np.uint8], hot: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = {}
    for start in range(0, len(images), 8):
        part = slice(start, start + 8)
        rows[f"cells {start + 1}–{start + len(images[part])}"] = images[part]
        rows["where it looked" + " " * (start // 8)] = hot[part]
    return labelled_rows(rows, "red: speaks for the class that was named (Grad-CAM)")
