"""The work of a utility study: train a generator, draw and select its cells, train a classifier and test it.

Each function is one job: it derives which cells it may see from its parameters, says in `seen.json` which
it was shown, by content, and stops where a test cell is among them. What a generator was shown is what its
training read, not what its split says.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import CheckpointError, DataError, TrainingError
from cytoforge.core.files import read_json, sha256_file, write_json
from cytoforge.core.randomness import derive
from cytoforge.core.run import Run
from cytoforge.data.cache import CachedCells, cache_directory, open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.folds import Fold, grouped_folds
from cytoforge.data.split import Split, check_split
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.classes import confusion
from cytoforge.evaluation.classification import class_rates
from cytoforge.evaluation.classifiers import Fitted, fit
from cytoforge.evaluation.comparison import FeatureSet
from cytoforge.evaluation.features import Extractor, extract, open_extractor
from cytoforge.evaluation.ledger import Entry, Held, Shown, check_unseen, content_hashes
from cytoforge.evaluation.recipes import Recipe
from cytoforge.evaluation.regimes import Regime, draw_cells, draw_synthetic
from cytoforge.evaluation.selection import class_rejections, obstacle, region_rejections
from cytoforge.sampling.conditions import needs_masks, write_masks
from cytoforge.sampling.generate import drawing_versions
from cytoforge.sampling.provenance import read_manifest
from cytoforge.sampling.sealed import MANIFEST
from cytoforge.stages.compared import read_set
from cytoforge.stages.generate import generate
from cytoforge.stages.train import train, usual_preset

SEEN = "seen.json"
GROUPS = "groups.json"
JOBS = "jobs"
DRAWING = "drawing.json"
"""Seconds that drawing a set has taken so far, interrupted calls included."""

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where the cells and the study are.

    Attributes:
        data: folder of labelled cells.
        out: folder of the study.
        layout: of the cells.
        group: regular expression that finds a cell's group, or None.
    """

    data: str
    out: str
    layout: str = "auto"
    group: str | None = None

    @property
    def jobs(self) -> Path:
        """Folder of all jobs."""
        return Path(self.out) / JOBS


@dataclass(frozen=True)
class Material:
    """The real cells at the study's resolution.

    Attributes:
        cached: their pixels.
        division: groups after those that share a cell were made one; its parts are not used.
        groups: (N,) of each cell.
        hashes: (N,) of each cell's pixels.
    """

    cached: CachedCells
    division: Split
    groups: tuple[str, ...]
    hashes: tuple[str, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) classes."""
        return self.cached.labels

    def entry(self, job: Path, role: str, repeat: int, digests: Iterable[str]) -> Entry:
        """What a job is shown, by the content hashes of the pixels that it gets.

        Raises:
            DataError: it is shown something that is no cell of the study.
        """
        cells = tuple(sorted(digests))
        seen = set(cells)
        if strange := seen - set(self.hashes):
            raise DataError(
                f"leak: the {role} in {job.name} was shown {len(strange)} pictures that are no cells of "
                "the study. Delete that folder and run the study again."
            )
        groups = {group for group, own in zip(self.groups, self.hashes, strict=True) if own in seen}
        return Entry(job=job.name, role=role, repeat=repeat, cells=cells, groups=tuple(sorted(groups)))

    def held(self, repeat: int, fold: Fold) -> Held:
        """What no job of a repeat may be shown."""
        cells = tuple(sorted(self.hashes[row] for row in fold.test))
        groups = tuple(sorted({self.groups[row] for row in fold.test}))
        return Held(repeat=repeat, cells=cells, groups=groups)

    def rows_of(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """Row numbers of cells."""
        wanted = set(names)
        return np.array([row for row, name in enumerate(self.cached.names) if name in wanted], np.int64)


def open_material(place: Place, resolution: int) -> Material:
    """The cells of a study, whose groups were found before; kept in memory as long as these are the same.

    Raises:
        DataError: the cells are not those that the study was begun with.
    """
    return _material(place, resolution, _groups_sha256(place))


def _groups_sha256(place: Place) -> str:
    return sha256_file(Path(place.out) / GROUPS)


@lru_cache(maxsize=2)
def _material(place: Place, resolution: int, _groups: str) -> Material:
    division = Split.load(Path(place.out) / GROUPS)
    cells = open_cells(Path(place.data), place.layout, place.group)
    check_split(division, cells)
    cached = open_cache(cells, Preparation(resolution=resolution))
    groups = tuple(division.groups[name] for name in cached.names)
    return Material(cached, division, groups, content_hashes(cached.images))


def outer_fold(place: Place, resolution: int, folds: int, seed: int, repeat: int) -> Fold:
    """Training and test rows of a repeat: fold after fold of one division, then of the next."""
    return _outer_fold(place, resolution, folds, seed, repeat, _groups_sha256(place))


@lru_cache(maxsize=64)
def _outer_fold(place: Place, resolution: int, folds: int, seed: int, repeat: int, groups: str) -> Fold:
    material = _material(place, resolution, groups)
    division = derive(seed, "outer folds", repeat // folds)
    return grouped_folds(material.labels, material.groups, folds, division)[repeat % folds]


def real_rows(material: Material, fold: Fold, parameters: Parameters) -> NDArray[np.int64]:
    """The real cells that a repeat has at a fraction: the same for all regimes."""
    seed = derive(parameters["seed"], "fraction", parameters["repeat"])
    return draw_cells(fold.train, material.labels, material.groups, parameters["real"], seed)


def obstacle_to_selection(material: Material, rows: NDArray[np.int64]) -> str | None:
    """Why selection cannot be calibrated on these real cells, None where it can."""
    groups = [material.groups[row] for row in rows]
    return obstacle(material.labels[rows], groups, material.cached.shape.classes)


def train_generator(parameters: Parameters, folder: Path, place: Place) -> dict[str, Any]:
    """Train a generator on the real cells of a repeat and a fraction; the run is in `folder`/run.

    Returns:
        "seconds" of training, "images" seen, "cells" trained on, and "stopped", the alarm that ended it.
    """
    material, fold = _open(parameters, place)
    rows = real_rows(material, fold, parameters)
    path = folder / "split.json"
    names = {material.cached.names[row] for row in rows}
    parts = dict.fromkeys(sorted(names), "train")
    division = material.division
    division.model_copy(
        update={"parts": parts, "left_out": tuple(sorted(set(division.groups) - names))}
    ).save(path)
    stopped = None
    try:
        train(
            parameters["generator"],
            Path(place.data),
            folder / "run",
            resolution=parameters["resolution"],
            images=parameters["images"],
            minutes=parameters["minutes"],
            seed=derive(parameters["seed"], "generator", parameters["repeat"]) % 2**31,
            preset=parameters.get("preset") or usual_preset(parameters["generator"], gpu=False),
            settings=parameters["settings"],
            split=path,
            layout=place.layout,
            group=place.group,
            extractor="",
            resume=True,
        )
    except TrainingError as error:
        stopped = str(error)
    _show(trained_entry(folder, material, place, parameters["repeat"]), folder, material, fold)
    last = [record for record in Run.open(folder / "run").read_log() if record["kind"] == "losses"][-1:]
    return {
        "cells": len(rows),
        "seconds": last[0]["seconds"] if last else 0.0,
        "images": last[0]["seen"] if last else 0,
        "stopped": stopped,
    }


def draw_set(parameters: Parameters, folder: Path, place: Place) -> dict[str, Any]:
    """Draw cells of a trained generator into `folder`/set and say which of them selection keeps.

    A method that paints onto masks gets those of the cells that it was trained on, turned and mirrored where
    it takes more. Selection is calibrated on these cells, too. A class of which it would keep nothing stays
    whole, and so does the set where these cells cannot calibrate it.

    Returns:
        "seconds" of drawing all "images", "selecting", seconds of selection, how many it has "kept",
        "emptied", the classes of which it would keep nothing, and "failed", why there are no images.
    """
    material, fold = _open(parameters, place)
    run = Run.open(place.jobs / parameters["trained"] / "run")
    trained = Split.load(run.split_path).parts
    learned = material.rows_of(tuple(trained))
    given = np.asarray(material.cached.read(learned))
    _show(
        material.entry(folder, "selection", parameters["repeat"], content_hashes(given)),
        folder, material, fold,
    )  # fmt: skip
    before = float(read_json(folder / DRAWING)) if (folder / DRAWING).is_file() else 0.0
    start = time.monotonic()
    try:
        wanted, masks = parameters["per_class"], None
        if needs_masks(run):
            masks = folder / "given"
            write_masks(open_cells(Path(place.data), place.layout, place.group), trained, masks, wanted)
        _remove_other_versions(folder / "set")
        generate(run.path, folder / "set", per_class=wanted, checkpoint="newest", masks=masks)
    except CheckpointError as error:
        return {"failed": str(error), "images": 0, "kept": 0, "emptied": [], "seconds": 0.0, "selecting": 0.0}
    finally:
        drawing = before + time.monotonic() - start
        write_json(folder / DRAWING, drawing)
    start = time.monotonic()
    pixels, labels = read_images(folder, material)
    kept = np.ones(len(labels), bool)
    rows = real_rows(material, fold, parameters)
    if parameters["select"] and obstacle_to_selection(material, rows) is None:
        kept = _selected(material, learned, given, pixels, labels, parameters)
    emptied = sorted(set(labels.tolist()) - set(labels[kept].tolist()))
    write_json(folder / "kept.json", np.flatnonzero(kept | np.isin(labels, emptied)).tolist())
    return {
        "failed": None,
        "images": len(labels),
        "kept": int(kept.sum()),
        "emptied": [material.cached.shape.classes[label] for label in emptied],
        "seconds": drawing,
        "selecting": time.monotonic() - start,
    }


def _remove_other_versions(drawn: Path) -> None:
    """Remove half a set that other versions drew before an interruption: its images go with no others."""
    if (drawn / MANIFEST).is_file() and read_manifest(drawn).header.versions != drawing_versions():
        shutil.rmtree(drawn)


def judge_regime(parameters: Parameters, folder: Path, place: Place) -> dict[str, Any]:
    """Train one classifier in one regime and name the test cells of the repeat.

    Returns:
        "accuracy", "balanced_accuracy", "macro_f1", "recall" by class, "named" test cells, how many real
        and synthetic images it saw, "seconds", and "gan_test": set -> share of it that is named as asked.
        Of a training that diverged only "failed", why, and "seconds".
    """
    start = time.monotonic()
    material, fold = _open(parameters, place)
    regime = Regime(**parameters["regime"])
    rows = real_rows(material, fold, parameters)
    real = (np.asarray(material.cached.read(rows)), material.labels[rows])
    shown = content_hashes(real[0]) if regime.real else ()
    fake = _synthetic(parameters, regime, material, place, real[1]) if regime.synthetic else _none(real[0])
    _show(material.entry(folder, "classifier", parameters["repeat"], shown), folder, material, fold)
    try:
        fitted = _fit(parameters, regime, real, fake, material.cached.shape.classes)
        probabilities = fitted.probabilities(np.asarray(material.cached.read(fold.test)))
        if not np.isfinite(probabilities).all():
            raise TrainingError("the classifier's probabilities are not numbers. Lower its learning_rate.")
    except TrainingError as error:
        return {"failed": str(error), "seconds": time.monotonic() - start}
    seconds = time.monotonic() - start
    named = probabilities.argmax(1)
    return {
        **scores_of(material.labels[fold.test], named, len(material.cached.shape.classes)),
        "named": named.tolist(),
        "real": len(shown),
        "synthetic": len(fake[1]),
        "train_pool": len(fold.train),
        "test": len(fold.test),
        "seconds": seconds,
        "gan_test": {key: _recognised(fitted, place.jobs / key, material) for key in parameters["judged"]},
    }


def scores_of(labels: NDArray[np.int64], named: NDArray[np.int64], classes: int) -> dict[str, Any]:
    """Point scores; classes without test cells are left out of the means.

    Example:
        >>> found = scores_of(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
        >>> round(found["accuracy"], 3), round(found["balanced_accuracy"], 3), found["recall"][1]
        (0.75, 0.833, 1.0)
    """
    table = np.array(confusion(labels, named, classes), float)
    found = {name: values[0] for name, values in class_rates(table[None]).items()}
    return {
        "accuracy": float(found["accuracy"][0]),
        "balanced_accuracy": float(np.nanmean(found["recall"])),
        "macro_f1": float(np.nanmean(found["f1"])),
        "recall": [None if np.isnan(value) else float(value) for value in found["recall"]],
    }


def read_images(folder: Path, material: Material) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The drawn cells of a finished `draw_set` (M, R, R, 3) and their classes (M,)."""
    manifest = read_manifest(folder / "set")
    index = {label: number for number, label in enumerate(material.cached.shape.classes)}
    labels = np.array([index[entry.label] for entry in manifest.images], np.int64)
    return read_set(folder / "set", manifest, material.cached), labels


def read_entry(folder: Path) -> Entry:
    """What a finished job said that it was shown.

    Raises:
        DataError: it said nothing.
    """
    return Entry.model_validate(read_json(folder / SEEN))


def trained_entry(folder: Path, material: Material, place: Place, repeat: int) -> Entry:
    """What the training of a generator read, from its own shown.json, as it is on disk now.

    Runs of the first versions have none: there the cells of their split.json count.

    Raises:
        DataError: it read something that is no cell of the study.
    """
    run = Run.open(folder / "run")
    if not Shown.path(run.path).is_file():
        rows = material.rows_of(tuple(Split.load(run.split_path).parts))
        return material.entry(folder, "generator", repeat, (material.hashes[row] for row in rows))
    shown = Shown.load(run.path)
    digests = {*shown.train, *shown.val}
    names, hashes = _content(material, place, Preparation.model_validate(run.config["preparation"]))
    read = tuple(name for name, digest in zip(names, hashes, strict=True) if digest in digests)
    known = [material.hashes[row] for row in material.rows_of(read)]
    return material.entry(folder, "generator", repeat, [*known, *(digests - set(hashes))])


def _content(
    material: Material, place: Place, preparation: Preparation
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and content hashes of all cells as a generator prepares them."""
    if preparation == material.cached.preparation:
        return material.cached.names, material.hashes
    return _prepared_content(place, preparation)


@lru_cache(maxsize=4)
def _prepared_content(place: Place, preparation: Preparation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    cached = open_cache(open_cells(Path(place.data), place.layout, place.group), preparation)
    return cached.names, content_hashes(cached.images)


def _open(parameters: Parameters, place: Place) -> tuple[Material, Fold]:
    material = open_material(place, parameters["resolution"])
    fold = outer_fold(
        place, parameters["resolution"], parameters["folds"], parameters["seed"], parameters["repeat"]
    )
    return material, fold


def _show(entry: Entry, folder: Path, material: Material, fold: Fold) -> None:
    """Write down what a job is shown, and stop where a test cell is among it."""
    write_json(folder / SEEN, entry.model_dump(mode="json"))
    check_unseen([entry], [material.held(entry.repeat, fold)])


def _selected(
    material: Material,
    rows: NDArray[np.int64],
    given: NDArray[np.uint8],
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    parameters: Parameters,
) -> NDArray[np.bool_]:
    """Which drawn cells the rules "class" and "region" keep (M,), calibrated on the real cells of `rows`."""
    network = _extractor(parameters["extractor"])
    side, known = material.cached.shape.resolution, tuple(material.groups[row] for row in rows)
    real = extract(given, network, cache_directory())
    train_cells = FeatureSet(real, material.labels[rows], known, network.name, side)
    own = tuple(str(row) for row in range(len(labels)))
    fake = FeatureSet(extract(pixels, network, cache_directory()), labels, own, network.name, side)
    rejected = class_rejections(train_cells, fake, parameters["share"])
    rejected |= region_rejections(train_cells, fake, parameters["share"])
    return ~rejected


@lru_cache(maxsize=1)
def _extractor(name: str) -> Extractor:
    return open_extractor(name)


def _synthetic(
    parameters: Parameters, regime: Regime, material: Material, place: Place, real: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The synthetic cells of a regime: so many for each real cell of a class."""
    folder = place.jobs / parameters["set"]
    pixels, labels = read_images(folder, material)
    kept = None
    if regime.selected:
        kept = np.isin(np.arange(len(labels)), read_json(folder / "kept.json"))
    rows = draw_synthetic(labels, real, parameters["ratio"], len(material.cached.shape.classes), kept)
    return pixels[rows], labels[rows]


def _none(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return images[:0], np.empty(0, np.int64)


def _fit(
    parameters: Parameters,
    regime: Regime,
    real: tuple[NDArray[np.uint8], NDArray[np.int64]],
    fake: tuple[NDArray[np.uint8], NDArray[np.int64]],
    classes: tuple[str, ...],
) -> Fitted:
    """Train in one or two phases, with the recipe's number of steps altogether."""
    recipe = Recipe.model_validate(parameters["recipe"])
    seed = derive(parameters["seed"], "classifier", parameters["repeat"]) % 2**31
    if not regime.pretrain:
        shown = [part for part, use in ((real, regime.real), (fake, regime.synthetic)) if use]
        images, labels = (np.concatenate(parts) for parts in zip(*shown, strict=True))
        return fit(recipe, images, labels, classes, seed)
    half = max(1, recipe.steps // 2)
    first = fit(recipe.model_copy(update={"steps": half}), *fake, classes, seed)
    rest = recipe.model_copy(update={"steps": max(1, recipe.steps - half)})
    return fit(rest, *real, classes, derive(seed, "fine-tune") % 2**31, start=first)


def _recognised(fitted: Fitted, folder: Path, material: Material) -> float:
    pixels, labels = read_images(folder, material)
    return float((fitted.probabilities(pixels).argmax(1) == labels).mean())
