"""Pictures go in, classes come out, each with how far it can be trusted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.executors import Executor
from cytoforge.core.files import sha256_file
from cytoforge.core.jobs import Job, run_jobs
from cytoforge.data.images import decode
from cytoforge.data.transform import prepare
from cytoforge.evaluation.trust import CALIBRATION, Answers
from cytoforge.masks.nuclei import Nucleus, find_nuclei, window
from cytoforge.report.teaching import teaching
from cytoforge.stages.engines import Engine
from cytoforge.stages.pictures import pictures_in, prepared
from cytoforge.stages.predictions import (
    Predicted,
    annotated_in,
    draw_predictions,
    named_faults,
    nothing_usable,
    picture_name,
    write_predictions,
)
from cytoforge.stages.trusted import Trusted, answered, open_trusted

_CHUNK, _PHOTOS = 64, 8
"""Pictures, and photos, to a job: few, so that a thousand keep eight workers busy. More jobs cost next to
nothing: a worker opens the classifier once. The number does not depend on the workers, so that every executor
computes in the same batches and an interrupted call finds its finished jobs."""

_JOBS = ".jobs"
_FRAMINGS = (4.0,)
"""Used where the run has no calibration that measured how wide training pictures are."""


def predict(
    run: Path,
    source: Path,
    out: Path,
    *,
    photos: bool = False,
    coverage: float = 0.9,
    meanings: Mapping[str, Any] | None = None,
    checkpoint: str = "best",
    engine: Engine = "auto",
    executor: Executor = "serial",
    workers: int | None = None,
) -> Predicted:
    """Name the cells in a picture or in all pictures of a folder.

    Write predictions.csv, predictions.json and annotated.png (annotated-0001.png, ... of several photos).
    The same call goes on where it was interrupted.

    Args:
        run: folder of `classify train`; sets, unknown kinds and true probabilities need `classify calibrate`.
        source: a picture, or a folder with pictures at any depth.
        out: folder for the results.
        photos: pictures are whole photos, in which nuclei are found first; else each shows one cell.
        coverage: stated share of sets that hold the true class; one that was calibrated.
        meanings: content of a YAML file of one's own with what classes mean, else the text that comes along.
        checkpoint: "best" or "newest".
        engine: that computes.
        executor: where pictures are dealt to, see core.jobs.
        workers: how many at once.

    Raises:
        CheckpointError: it is no run of a classifier.
        ConfigError: an option makes no sense.
        DataError: there is no picture, or none can be used.
    """
    text = teaching(meanings)
    files = pictures_in(source, out)
    trusted = open_trusted(run, checkpoint, engine)
    if trusted.calibration is not None:
        trusted.calibration.limits(coverage)
    shared = {
        "run": str(run.resolve()),
        "checkpoint": checkpoint,
        "engine": engine,
        "coverage": coverage,
        "photos": photos,
        "weights_sha256": trusted.weights_sha256,
        "calibration_sha256": sha256_file(run / CALIBRATION) if (run / CALIBRATION).is_file() else None,
    }
    size = _PHOTOS if photos else _CHUNK
    parts = [files[start : start + size] for start in range(0, len(files), size)]
    jobs = [Job({**shared, "files": [_stamp(path) for path in part]}) for part in parts]
    results = run_jobs(predict_job, jobs, out / _JOBS, executor, workers, "pictures")
    root = source if source.is_dir() else source.parent
    cells = [_named(cell, root) for result in results for cell in result["cells"]]
    faults = named_faults({path: why for result in results for path, why in result["faults"].items()}, root)
    if len(faults) == len(files):
        raise nothing_usable(source, faults)
    names = [picture_name(str(path), root) for path in files]
    shown = annotated_in([name for name in names if name not in faults], photos)
    found = Predicted(out, tuple(cells), faults, trusted.calibration is not None, trusted.quick.engine, shown)
    write_predictions(found, trusted, text, coverage, photos)
    draw_predictions(found, trusted.classes, root, photos)
    shutil.rmtree(out / _JOBS, ignore_errors=True)
    return found


def predict_job(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Some pictures.

    Args:
        parameters: as `predict` makes them.
        folder: of the job.

    Returns:
        "cells" and "faults", by path.
    """
    trusted = _opened(
        *(parameters[name] for name in ("run", "checkpoint", "engine")),
        (parameters["weights_sha256"], parameters["calibration_sha256"]),
    )
    if trusted.weights_sha256 != parameters["weights_sha256"]:
        raise ConfigError(f"{parameters['run']} has other weights now; run the command again.")
    paths = [Path(path) for path, _, _ in parameters["files"]]
    work = _photos if parameters["photos"] else _cells
    cells, faults = work(trusted, paths, parameters["coverage"])
    return {"cells": cells, "faults": faults}


@lru_cache(maxsize=1)
def _opened(run: str, checkpoint: str, engine: Engine, _hashes: tuple[str, str | None]) -> Trusted:
    return open_trusted(Path(run), checkpoint, engine)


def _cells(
    trusted: Trusted, paths: Sequence[Path], coverage: float
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Pictures of one cell each."""
    found: list[dict[str, Any]] = []
    faults: dict[str, str] = {}
    for names, images in prepared(paths, trusted.preparation, faults):
        answers = answered(trusted, *trusted.quick(images), coverage)
        found += [_row(trusted.classes, str(name), None, answers, index) for index, name in enumerate(names)]
    return found, faults


def _photos(
    trusted: Trusted, paths: Sequence[Path], coverage: float
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Whole photos: every nucleus in the framing in which it looks most like a training cell."""
    found: list[dict[str, Any]] = []
    faults: dict[str, str] = {}
    framings: Sequence[float] = _FRAMINGS
    if trusted.calibration is not None and trusted.calibration.framings is not None:
        framings = trusted.calibration.framings
    for path in paths:
        try:
            photo = decode(path)
        except DataError as error:
            faults[str(path)] = str(error)
            continue
        nuclei = find_nuclei(photo)
        if nuclei:
            found += _around(trusted, path, photo, nuclei, framings, coverage)
    return found, faults


def _around(
    trusted: Trusted,
    path: Path,
    photo: NDArray[np.uint8],
    nuclei: Sequence[Nucleus],
    framings: Sequence[float],
    coverage: float,
) -> list[dict[str, Any]]:
    windows = [[window(nucleus, framing, photo.shape) for nucleus in nuclei] for framing in framings]
    looks = []
    for row in windows:
        images = np.stack([prepare(each.cut(photo), trusted.preparation) for each in row])
        looks.append(answered(trusted, *trusted.quick(images), coverage))
    best = np.argmin([look.distances for look in looks], axis=0)
    cells = []
    for index, which in enumerate(best):
        place = windows[which][index]
        box = (place.left, place.top, place.side, place.side)
        cells.append(_row(trusted.classes, str(path), box, looks[which], index))
    return cells


def _row(
    classes: Sequence[str], path: str, box: tuple[int, ...] | None, answers: Answers, index: int
) -> dict[str, Any]:
    probabilities = answers.probabilities[index]
    return {
        "image": path,
        "box": None if box is None else list(box),
        "class": classes[int(answers.found[index])],
        "probability": round(float(probabilities.max()), 5),
        "probabilities": {
            name: round(float(value), 5) for name, value in zip(classes, probabilities, strict=True)
        },
        "possible": [name for name, inside in zip(classes, answers.sets[index], strict=True) if inside],
        "distance": round(float(answers.distances[index]), 5),
        "unknown": bool(answers.unknown[index]),
        "sure": bool(answers.sure[index]),
    }


def _stamp(path: Path) -> tuple[str, int, int]:
    """A file and what tells that it was exchanged."""
    state = path.stat()
    return str(path.absolute()), state.st_size, state.st_mtime_ns


def _named(cell: Mapping[str, Any], root: Path) -> dict[str, Any]:
    return {**cell, "image": picture_name(cell["image"], root)}
