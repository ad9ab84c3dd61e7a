"""Train a classifier on a folder of cells, and say honestly how good its kind is on them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.core.device import surroundings
from cytoforge.core.errors import ConfigError
from cytoforge.core.executors import Executor
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.jobs import Job, run_jobs
from cytoforge.core.randomness import unsigned
from cytoforge.core.run import SPLIT, Run, require_empty
from cytoforge.core.settings import checked
from cytoforge.core.table import csv_text
from cytoforge.data.cache import CachedCells, open_cache
from cytoforge.data.cells import CellSet
from cytoforge.data.folder import open_cells
from cytoforge.data.folds import Fold, grouped_folds, random_folds
from cytoforge.data.split import (
    UNGROUPED,
    Split,
    check_same_split,
    check_split,
    require_trainable,
)
from cytoforge.evaluation.classification import Scores, score
from cytoforge.evaluation.classifier_report import ClassifierReport, Curve, FoldSearch, Protocol
from cytoforge.evaluation.classifiers import Fitted, Pictures, fit_run, run_config
from cytoforge.evaluation.leakage import leak_inflation, with_sibling
from cytoforge.evaluation.measurement_classifiers import (
    MEASUREMENT_RECIPES,
    MeasurementRecipe,
    measurement_recipe_of,
)
from cytoforge.evaluation.published import COARSE, PUBLISHED, Published
from cytoforge.evaluation.recipes import RECIPES, Recipe, recipe_of, weights_sha256
from cytoforge.report.classify import build_classify
from cytoforge.stages.measured_folds import measured_fold, measurements_beside, measuring
from cytoforge.stages.other_report import read_other
from cytoforge.stages.split import split as split_folder
from cytoforge.stages.split import split_once

WATCHED = 250
"""Unseen cells that are looked at while training, for the curves."""

_FIXED = ("method", "recipe", "seed", "classes", "split_sha256")
"""Parts of config.json in which a training that goes on must agree; its number format stays."""


def train(
    data: Path,
    run: Path,
    *,
    recipe: str = "lite0",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    split: Path | None = None,
    layout: str = "auto",
    group: str | None = None,
    resume: bool = False,
) -> Run:
    """Train a classifier on the training part of a split.

    Args:
        data: folder of labelled cells.
        run: new or empty folder, or an earlier run with `resume`.
        recipe: key of `RECIPES`, or "timm:NAME".
        settings: single settings of the recipe.
        seed: of the split, weights, order and augmentation.
        split: a split.json; one is made where it is missing.
        layout: how `data` is laid out, see data.folder.
        group: regular expression that finds a cell's group in its path.
        resume: go on with the run in `run`; starts it where there is none.

    Returns:
        The run; `evaluation.classifiers.open_classifier` opens it.

    Raises:
        ConfigError: the recipe does not fit, or `run` holds something else.
        DataError: the data cannot be used.
        TrainingError: NaN or divergence.
        KeyboardInterrupt: stopped by the user; saved, but for a linear layer, which takes seconds.
    """
    if recipe in MEASUREMENT_RECIPES:
        raise ConfigError(
            f'recipe "{recipe}" learns from measurements of cells and is judged, not kept: use cytoforge '
            f"classify report {data} --out DIR --recipe {recipe}."
        )
    chosen = recipe_of(recipe, dict(settings or {}))
    going_on = resume and (run / "config.json").is_file()
    if not going_on:
        require_empty(run, (SPLIT,) if resume else ())
    cells = open_cells(data, layout, group)
    begun = going_on or (split is None and (run / SPLIT).is_file())
    parts = _parts(cells, run / SPLIT if begun else split, seed)
    if going_on:
        check_same_split(parts, split, run)
    require_trainable(parts, cells)
    cached = _open(cells, chosen)
    config = run_config(chosen, _facts(cells, cached, parts, seed))
    if going_on:
        folder = Run.open(run)
        folder.require_same({key: config[key] for key in _FIXED}, {"recipe": Recipe})
    else:
        folder = Run.create(run, config, parts)
    held = cached.select(parts.names("val")) if parts.names("val") else None
    shown = cached.select(parts.names("train")).without_masks()
    fit_run(chosen, shown, folder, seed, watched=None if held is None else _watched(held, seed))
    return folder


def report(
    data: Path,
    out: Path,
    *,
    recipe: str = "lite0",
    settings: Mapping[str, Any] | None = None,
    folds: int = 5,
    seed: int = 0,
    layout: str = "auto",
    group: str | None = None,
    against: Path | None = None,
    executor: Executor = "serial",
    workers: int | None = None,
) -> ClassifierReport:
    """The same classifier by random and by grouped folds; the same call goes on where it was interrupted.

    Grouped folds come first: they say what to expect of a new photo.

    Args:
        data: folder of labelled cells.
        out: folder for classify.json, predictions.csv, classify.html, pictures and the finished folds.
        recipe: key of `RECIPES` or of `MEASUREMENT_RECIPES`, or "timm:NAME".
        settings: single settings of the recipe.
        folds: into how many parts the cells are divided; each is tested once.
        seed: of folds, weights, order and augmentation.
        layout: how `data` is laid out.
        group: regular expression that finds a cell's group in its path.
        against: folder of another finished report on the same cells and folds, to compare with.
        executor: where folds are computed, see core.jobs.
        workers: how many at once.

    Raises:
        ConfigError: the recipe does not fit.
        DataError: the data cannot be used, or `out` or `against` holds folds of other cells or groups.
    """
    chosen = _recipe_of(recipe, dict(settings or {}))
    cells = open_cells(data, layout, group)
    parts = split_once(cells, out / SPLIT, seed)
    shared: dict[str, Any] = {
        "kind": "classify",
        "data": str(data.resolve()),
        "layout": cells.layout,
        "group": group,
        "split_sha256": parts.sha256,
        "recipe": chosen.model_dump(mode="json"),
        **({} if isinstance(chosen, MeasurementRecipe) else weights_sha256(chosen)),
        "folds": folds,
        "seed": seed,
    }
    cached = _open(cells, chosen)
    measured = None
    if isinstance(chosen, MeasurementRecipe):
        measured = measuring(chosen, measurements_beside(cells, out, chosen.masks), cached.names)
    groups = [parts.groups[name] for name in cached.names]
    other = None if against is None else read_other(against, _table(cached, groups, {}), folds, seed)
    divisions = {name: _folds(name, cached.labels, groups, folds, seed) for name in ("grouped", "random")}
    jobs = [
        Job({**shared, "protocol": protocol, "fold": fold}) for protocol in divisions for fold in range(folds)
    ]
    results = run_jobs(fold_job, jobs, out / "folds", executor, workers, title="folds")
    found = {name: results[place * folds : (place + 1) * folds] for place, name in enumerate(divisions)}
    probabilities = {name: _together(divisions[name], found[name], cached) for name in divisions}
    protocols = {
        name: _protocol(
            name, cached, probabilities[name], groups, divisions[name], found[name], cells.layout, seed
        )
        for name in divisions
    }
    right = probabilities["grouped"].argmax(1) == cached.labels
    judged = ClassifierReport(
        data=data.name,
        layout=cells.layout,
        cells=len(cached),
        groups=len(set(groups)),
        recipe=recipe,
        settings=chosen.model_dump(mode="json"),
        parameters=found["grouped"][0]["parameters"],
        folds=folds,
        seed=seed,
        random=protocols["random"],
        grouped=protocols["grouped"],
        leak=leak_inflation(
            cached.labels, probabilities["random"].argmax(1), probabilities["grouped"].argmax(1), groups, seed
        ),
        against=None if other is None else other.against(right, seed),
        measuring=measured,
        faults=_left_out(cells, cached),
        ungrouped=UNGROUPED in parts.warnings,
        published=_published(cells),
    )
    write_json(out / "classify.json", judged.model_dump(mode="json"))
    write_atomic(out / "predictions.csv", _table(cached, groups, probabilities))
    build_classify(out, judged, cached.labels, groups, probabilities)
    return judged


def fold_job(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """One fold: train on the others, predict its cells. The split lies two folders up.

    Args:
        parameters: as `report` makes them.
        folder: of the job.

    Returns:
        "rows" of the tested cells, their "logits", "seconds" of training, "curve" (of networks; empty for
        linear layers, which take no logged steps), number of "parameters".
    """
    asked, where = parameters["recipe"], "recipe of the job"
    recipe = checked(MeasurementRecipe, asked, where) if "kind" in asked else checked(Recipe, asked, where)
    cells = open_cells(Path(parameters["data"]), parameters["layout"], parameters["group"])
    parts = _parts(cells, folder.parents[1] / SPLIT, parameters["seed"])
    if parts.sha256 != parameters["split_sha256"]:
        raise ConfigError(
            f"{folder.parents[1]}/split.json is not the split of this job; choose another --out."
        )
    cached = _open(cells, recipe)
    groups = [parts.groups[name] for name in cached.names]
    seed = parameters["seed"]
    fold = _folds(parameters["protocol"], cached.labels, groups, parameters["folds"], seed)[
        parameters["fold"]
    ]
    if isinstance(recipe, MeasurementRecipe):
        measured = measurements_beside(cells, folder.parents[1], recipe.masks)
        return measured_fold(recipe, measured, cached.names, cached.labels, groups, cells.classes, fold, seed)
    facts = {"seed": seed, "classes": list(cells.classes), "fold": parameters["fold"]}
    return _network_fold(recipe, cached, fold, folder / "run", facts)


def _network_fold(
    recipe: Recipe, cached: CachedCells, fold: Fold, place: Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """What `fold_job` returns, of a network; the run in `place` is gone on with."""
    shown = cached.select(np.asarray(cached.names)[fold.train].tolist())
    tested = cached.select(np.asarray(cached.names)[fold.test].tolist())
    config = run_config(recipe, facts)
    run = Run.open(place) if (place / "config.json").is_file() else Run.create(place, config)
    start, seed = time.monotonic(), facts["seed"]
    fitted = fit_run(recipe, shown, run, seed, watched=_watched(tested, seed))
    seconds = time.monotonic() - start
    records = run.read_log()
    logits = fitted.logits(np.asarray(tested.images))
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    return {
        "rows": fold.test.tolist(),
        "logits": [[round(float(value), 5) for value in row] for row in logits],
        "seconds": round(max([seconds, *(record["seconds"] for record in records)]), 1),
        "curve": _curve(records).model_dump(mode="json"),
        "parameters": _parameters(fitted),
    }


def _parts(cells: CellSet, path: Path | None, seed: int) -> Split:
    """The split in a file, or a new one."""
    if path is None:
        return split_folder(cells, seed=seed)
    parts = Split.load(path)
    check_split(parts, cells)
    return parts


def _recipe_of(name: str, settings: dict[str, Any]) -> Recipe | MeasurementRecipe:
    """The recipe of all folds. The number format is not measured: it would differ between workers."""
    if name in MEASUREMENT_RECIPES:
        return measurement_recipe_of(name, settings)
    return recipe_of(name, settings).unmeasured()


def _open(cells: CellSet, recipe: Recipe | MeasurementRecipe) -> CachedCells:
    """The cells as the recipe sees them; of those that are measured, only names and labels are used."""
    seen = RECIPES["basic-cnn"] if isinstance(recipe, MeasurementRecipe) else recipe
    return open_cache(cells, seen.preparation).without_masks()


def _left_out(cells: CellSet, cached: CachedCells) -> tuple[tuple[str, str], ...]:
    """Path below the data folder and reason of each file that is in no fold."""
    base = cells.root if cells.root.is_dir() else cells.root.parent
    lost = [(fault.path, fault.reason) for fault in cached.faults if not fault.used]
    return tuple(
        (path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name, reason)
        for path, reason in lost
    )


def _folds(
    protocol: str, labels: NDArray[np.int64], groups: Sequence[str], count: int, seed: int
) -> list[Fold]:
    if protocol == "random":
        return random_folds(labels, count, seed)
    return grouped_folds(labels, groups, count, seed)


def _watched(cells: CachedCells, seed: int) -> Pictures:
    """A few cells to look at while training."""
    rows = np.sort(np.random.default_rng(unsigned(seed)).permutation(len(cells))[:WATCHED])
    return Pictures(cells.read(rows), cells.labels[rows], cells.shape.classes)


def _facts(cells: CellSet, cached: CachedCells, parts: Split, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "classes": list(cached.shape.classes),
        "data": {"root": str(cells.root.resolve()), "layout": cells.layout},
        "split_sha256": parts.sha256,
        **surroundings(),
    }


def _curve(records: Sequence[Mapping[str, Any]]) -> Curve:
    """Loss while training, accuracy and loss on unseen cells."""
    losses = [record for record in records if record["kind"] == "losses"]
    looks = [record for record in records if record["kind"] == "measure"]
    return Curve(
        seen=tuple(record["seen"] for record in losses),
        loss=tuple(record["losses"]["cross_entropy"] for record in losses),
        looked=tuple(record["seen"] for record in looks),
        accuracy=tuple(record["accuracy"] for record in looks),
        unseen_loss=tuple(record["cross_entropy"] for record in looks),
    )


def _parameters(fitted: Fitted) -> int:
    return sum(parameter.numel() for parameter in fitted.network.parameters())


def _together(
    folds: Sequence[Fold], results: Sequence[Mapping[str, Any]], cached: CachedCells
) -> NDArray[np.float64]:
    """Probabilities (N, K) of all cells, each by the classifier that did not see it."""
    logits = np.full((len(cached), len(cached.shape.classes)), np.nan)
    for fold, result in zip(folds, results, strict=True):
        assert result["rows"] == fold.test.tolist()
        logits[fold.test] = result["logits"]
    found: NDArray[np.float64] = torch.from_numpy(logits).softmax(1).numpy()
    return found


def _protocol(
    name: str,
    cached: CachedCells,
    probabilities: NDArray[np.float64],
    groups: Sequence[str],
    folds: Sequence[Fold],
    results: Sequence[Mapping[str, Any]],
    layout: str,
    seed: int,
) -> Protocol:
    right = probabilities.argmax(1) == cached.labels
    return Protocol(
        name=name,
        scores=score(cached.labels, probabilities, cached.shape.classes, groups, seed),
        coarse=_coarse(cached, probabilities, groups, layout, seed),
        accuracies=tuple(float(right[fold.test].mean()) for fold in folds),
        sibling=with_sibling(folds, groups),
        seconds=tuple(result["seconds"] for result in results),
        curves=tuple(
            Curve.model_validate(result["curve"]) for result in results if result.get("curve", {}).get("seen")
        ),
        searches=tuple(
            FoldSearch(chosen=result["chosen"], inner_accuracy=result["inner_accuracy"])
            for result in results
            if "chosen" in result
        ),
    )


def _published(cells: CellSet) -> tuple[Published, ...]:
    """Others' figures, where the classes are those of the published data set."""
    same = set(cells.classes) == set(COARSE.get(cells.layout, {}))
    return PUBLISHED.get(cells.layout, ()) if same else ()


def _coarse(
    cached: CachedCells, probabilities: NDArray[np.float64], groups: Sequence[str], layout: str, seed: int
) -> Scores | None:
    """The same predictions in the data set's own coarser division, such as normal and abnormal."""
    kinds = COARSE.get(layout, {})
    classes = cached.shape.classes
    if set(classes) - set(kinds):
        return None
    names = tuple(dict.fromkeys(kinds[name] for name in classes))
    if len(names) < 2:
        return None
    member = np.array([names.index(kinds[name]) for name in classes])
    summed = probabilities @ np.eye(len(names))[member]
    return score(member[cached.labels], summed, names, groups, seed)


def _table(
    cached: CachedCells, groups: Sequence[str], probabilities: Mapping[str, NDArray[np.float64]]
) -> str:
    """Every cell with what was found in it, as CSV."""
    classes = cached.shape.classes
    found = [f"{protocol} found" for protocol in probabilities]
    columns = [f"{protocol} p({name})" for protocol in probabilities for name in classes]
    rows = [
        [
            *(name, groups[index], classes[cached.labels[index]]),
            *(classes[int(values[index].argmax())] for values in probabilities.values()),
            *(f"{value:.4f}" for values in probabilities.values() for value in values[index]),
        ]
        for index, name in enumerate(cached.names)
    ]
    return csv_text(["image", "group", "class", *found, *columns], rows)
