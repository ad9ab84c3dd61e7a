"""Do synthetic cells help a classifier? Folder of real cells in, study.json and report.html out.

```
out/plan.json       what is compared and by which rule, written before anything is trained
    groups.json     which photos belong together
    jobs/<key>/     one finished piece of work each: a generator, its cells, or a classifier
    ledger.json     what each of them was shown, compared with the test cells
    study.json      scores, comparisons, verdicts; scores.csv, comparisons.csv, table.md
    report.html     the same to read, and plots/*.png
```
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytoforge.core.device import native_precision
from cytoforge.core.executors import Executor
from cytoforge.core.files import read_json, sha256_bytes, write_atomic, write_json
from cytoforge.core.jobs import DONE, Job, Work, run_jobs
from cytoforge.core.png import encode_png
from cytoforge.core.progress import progress
from cytoforge.core.table import csv_text
from cytoforge.data.folder import open_cells
from cytoforge.evaluation.ledger import Shown, check_unseen
from cytoforge.evaluation.regimes import questions_of
from cytoforge.evaluation.utility import rule
from cytoforge.report.study import build_study
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.stages.split import split_once
from cytoforge.stages.study_jobs import (
    GROUPS,
    Material,
    Place,
    draw_set,
    judge_regime,
    open_material,
    outer_fold,
    read_entry,
    read_images,
    train_generator,
    trained_entry,
)
from cytoforge.stages.study_plan import (
    Plan,
    Trial,
    check_masks,
    check_plan,
    choosers_of,
    generator_jobs,
    methods,
    selection_obstacles,
    set_jobs,
    trials_of,
)
from cytoforge.stages.study_results import Done, Result, content_of
from cytoforge.stages.train import usual_preset


def study(
    data: Path,
    out: Path,
    plan: Plan,
    *,
    layout: str = "auto",
    group: str | None = None,
    executor: Executor = "serial",
    workers: int | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Compare classifiers with and without synthetic cells; goes on where it was interrupted.

    In every repeat generator, selection and classifier see cells of the training groups only. All regimes of
    a repeat have the same real cells, the same seed, the same number of optimiser steps and the same test
    cells.

    Args:
        data: folder of labelled cells.
        out: folder of the study: new, or one with a study of the same cells, whose finished jobs are used.
        plan: what to compare.
        layout: of the cells.
        group: regular expression with one capture that finds a cell's group in its name.
        executor: where jobs are done.
        workers: jobs at once.
        threads: that each job computes with.

    Returns:
        The content of study.json.

    Raises:
        ConfigError: the plan makes no sense.
        DataError: the cells cannot be used, or something was shown a test cell.
    """
    check_plan(plan)
    place = Place(str(data.resolve()), str(out.resolve()), layout, group)
    precision, presets, choosers = _begin(place, plan)
    material = open_material(place, plan.resolution)

    def run(work: Any, jobs: Sequence[Job], title: str) -> dict[str, Result]:
        once = {job.key: job for job in jobs}
        placed: Work = partial(work, place=place)
        found = run_jobs(placed, list(once.values()), place.jobs, executor, workers, title, threads)
        return dict(zip(once, found, strict=True))

    _remove_followers(place.jobs)
    generators = generator_jobs(plan, material, precision, presets)
    trained = run(train_generator, list(generators.values()), "generators")
    sets = set_jobs(plan, material, place, generators, choosers)
    drawn = run(draw_set, list(sets.values()), "synthetic sets")
    usable = {key: job for key, job in sets.items() if not drawn[job.key]["failed"]}
    obstacles = selection_obstacles(plan, material, place)
    trials = trials_of(plan, material, usable, obstacles)
    judged = run(judge_regime, [trial.job for trial in trials], "classifiers")
    ledger = _ledger(plan, place, material, generators, sets, trials)
    done = Done(generators, sets, trials, trained, drawn, judged, obstacles)
    content = content_of(plan, material, place, done, ledger)
    write_json(Path(place.out) / "ledger.json", ledger)
    _write(Path(place.out), content, material, place, usable)
    return content


def _remove_followers(jobs: Path) -> None:
    """Remove sets and classifiers of what is not done: they would be read as made from its second making.

    So what a user removes to have it done again is done again with all that was made from it.
    """
    asked = {path.parent: read_json(path) for path in jobs.glob("*/parameters.json")}
    for kind in ("set", "classifier"):
        for folder, own in asked.items():
            used = {own.get("trained"), own.get("set"), *own.get("judged", ())} - {None}
            if own["kind"] == kind and not all((jobs / key / DONE).is_file() for key in used):
                shutil.rmtree(folder)


def _begin(place: Place, plan: Plan) -> tuple[str, dict[str, str], dict[str, str]]:
    """Find the groups once, and write the plan before anything is trained.

    Number format and presets of generators and the networks that select, which it gives back, are those of
    the machine where the study began: others would be another study.
    """
    out, path = Path(place.out), Path(place.out) / GROUPS
    cells = open_cells(Path(place.data), place.layout, place.group)
    check_masks(plan, cells)
    division = split_once(cells, path)
    outer_fold(place, plan.resolution, plan.folds, plan.seed, 0)  # refused before it is called the plan
    content: dict[str, Any] = {
        "plan": plan.model_dump(mode="json"),
        "rule": rule(plan.level),
        "questions": [asdict(question) for question in questions_of(plan.regimes)],
        "groups_sha256": division.sha256,
        "precision": native_precision(),
        "presets": {name: usual_preset(name, torch.cuda.is_available()) for name in methods(plan)},
        "choosers": choosers_of(plan),
        "earlier": [],
    }
    if (out / "plan.json").is_file():
        before = read_json(out / "plan.json")
        earlier = before.pop("earlier", [])
        content["precision"] = before.get("precision", content["precision"])
        kept = before.get("presets", {})
        content["presets"] = {name: kept.get(name, usual) for name, usual in content["presets"].items()}
        content["choosers"] = _kept_choosers(content["choosers"], before, plan)
        now = {key: content[key] for key in before}
        content["earlier"] = earlier if before == now else [*earlier, before]
    write_json(out / "plan.json", content)
    return content["precision"], content["presets"], content["choosers"]


def _kept_choosers(here: Mapping[str, str], before: Mapping[str, Any], plan: Plan) -> dict[str, str]:
    """The networks that selected so far, but for what the plan now asks otherwise."""
    kept, asked = before.get("choosers", {}), before["plan"]
    same = asked["extractor"] == plan.extractor
    return {
        name: kept.get(name, usual)
        if same and asked["settings"].get(name) == plan.settings.get(name)
        else usual
        for name, usual in here.items()
    }


def _ledger(
    plan: Plan,
    place: Place,
    material: Material,
    generators: Mapping[tuple[Any, ...], Job],
    sets: Mapping[tuple[Any, ...], Job],
    trials: Sequence[Trial],
) -> dict[str, Any]:
    """Compare what every job was shown with the test cells, from what lies on disk now.

    Raises:
        DataError: one was shown a test cell.
    """
    held = [
        material.held(repeat, outer_fold(place, plan.resolution, plan.folds, plan.seed, repeat))
        for repeat in range(plan.repeats)
    ]
    runs = {place.jobs / job.key / "run" for job in generators.values()}
    keys = {job.key for job in (*sets.values(), *(trial.job for trial in trials))}
    entries = [
        trained_entry(place.jobs / job.key, material, place, repeat)
        for (repeat, _, _), job in generators.items()
    ]
    with progress("ledger", len(keys)) as advance:
        for key in sorted(keys):
            entries.append(read_entry(place.jobs / key))
            advance(1)
    counts = check_unseen(entries, held)
    shown = [*(each.cells for each in entries), *(part.cells for part in held)]
    return {
        "clean": True,
        "checked": counts,
        "by_split": sum(not Shown.path(run).is_file() for run in runs),
        "tests": [
            {"repeat": part.repeat, "cells": _digest(part.cells), "groups": len(part.groups)} for part in held
        ],
        "shown": [
            {
                "job": each.job,
                "role": each.role,
                "repeat": each.repeat,
                "cells": _digest(each.cells),
                "groups": len(each.groups),
            }
            for each in entries
        ],
        "lists": {_digest(cells): list(cells) for cells in shown},
    }


def _digest(cells: Sequence[str]) -> str:
    return sha256_bytes("\n".join(cells).encode())[:16]


def _write(
    out: Path,
    content: dict[str, Any],
    material: Material,
    place: Place,
    sets: Mapping[tuple[Any, ...], Job],
) -> None:
    write_json(out / "study.json", content)
    write_atomic(out / "scores.csv", _csv(content["scores"]))
    write_atomic(out / "comparisons.csv", _csv(content["comparisons"]))
    picture = _cells(material, place, sets)
    if picture is not None:
        write_atomic(out / "cells.png", encode_png(picture, {"Synthetic": "true"}))
    build_study(out, content, picture)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with the keys of the first as header."""
    header = list(rows[0]) if rows else []
    return csv_text(header, [[row[key] for key in header] for row in rows])


def _cells(material: Material, place: Place, sets: Mapping[tuple[Any, ...], Job]) -> Any:
    """The first cells of each class from every generator and fraction of the first repeat: (H, W, 3)."""
    rows = {}
    for (repeat, real, name), job in sets.items():
        if repeat == 0:
            images, labels = read_images(place.jobs / job.key, material)
            classes = np.unique(labels)
            each = max(1, 10 // len(classes))
            first = np.concatenate([np.flatnonzero(labels == label)[:each] for label in classes])
            rows[f"{name}, {'all' if real is None else real} a class"] = images[first]
    return labelled_rows(rows, "synthetic; the first seeds of each class, nothing chosen") if rows else None
