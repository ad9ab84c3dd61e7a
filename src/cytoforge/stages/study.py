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

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import read_json, sha256_bytes, write_atomic, write_json
from cytoforge.core.jobs import Executor, Job, Work, run_jobs
from cytoforge.core.png import encode_png
from cytoforge.core.progress import progress
from cytoforge.data.augment import Policy, parse_policy
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, check_split
from cytoforge.evaluation.classifiers import Recipe, recipe_of
from cytoforge.evaluation.features import DEFAULT_EXTRACTOR
from cytoforge.evaluation.ledger import check_unseen
from cytoforge.evaluation.regimes import (
    DEFAULT_REGIMES,
    REGIMES,
    TRADITIONAL,
    Question,
    Regime,
    questions_of,
    regimes_of,
)
from cytoforge.evaluation.utility import LEVEL, POWER, Comparison, compare_paired, holm, rule, verdict
from cytoforge.methods.catalogue import method_type
from cytoforge.report.study import build_study
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.stages.split import split as split_folder
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
    real_rows,
    train_generator,
    trained_entry,
)
from cytoforge.stages.train import plan as check_training

MINUTES = 5.0
"""Training of a generator where neither minutes nor images are given."""

SPARE = 2
"""Cells drawn for each one wanted where some regime selects among them."""

Score = Literal["balanced_accuracy", "accuracy", "macro_f1"]
Settings = Mapping[str, Mapping[str, Any]]


class Plan(BaseModel):
    """A study, wholly named before it begins.

    Attributes:
        generators: methods whose cells are tried.
        control: method of the regimes "gan" and "orig+gan", or None.
        classifiers: recipes.
        real: real cells of each class; None stands for all of a repeat's training cells.
        ratios: synthetic cells for each real one.
        regimes: keys of `evaluation.regimes.REGIMES`.
        repeats: outer test folds: those of one division, then those of the next.
        folds: of each division.
        resolution: of real and synthetic cells, in pixels.
        minutes: of each generator's training, or None.
        images: the same in training images, or None.
        traditional: ordinary augmentation.
        score: what is compared.
        level: 1 - level is the rate of false alarms within a question.
        extractor: what selection sees.
        share: of real cells that each rule of selection would lose.
        seed: of everything.
        settings: generator or classifier -> its settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generators: tuple[str, ...]
    control: str | None = None
    classifiers: tuple[str, ...] = ("linear",)
    real: tuple[int | None, ...] = (20, 50, 100)
    ratios: tuple[float, ...] = (2.0,)
    regimes: tuple[str, ...] = DEFAULT_REGIMES
    repeats: int = Field(5, ge=2)
    folds: int = Field(5, ge=2)
    resolution: int = Field(64, ge=16)
    minutes: float | None = Field(None, gt=0)
    images: int | None = Field(None, ge=1)
    traditional: Policy = TRADITIONAL
    score: Score = "balanced_accuracy"
    level: float = Field(LEVEL, gt=0.5, lt=1)
    extractor: str = DEFAULT_EXTRACTOR
    share: float = Field(0.05, gt=0, lt=0.5)
    seed: int = 0
    settings: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Trial:
    """One classifier of the study and the job that trains it."""

    classifier: str
    real: int | None
    regime: str
    generator: str | None
    ratio: float | None
    repeat: int
    job: Job

    @property
    def cell(self) -> tuple[Any, ...]:
        """All but the repeat."""
        return self.classifier, self.real, self.regime, self.generator, self.ratio


Result = Mapping[str, Any]


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
    _begin(place, plan)
    material = open_material(place, plan.resolution)

    def run(work: Any, jobs: Sequence[Job], title: str) -> dict[str, Result]:
        once = {job.key: job for job in jobs}
        placed: Work = partial(work, place=place)
        found = run_jobs(placed, list(once.values()), place.jobs, executor, workers, title, threads)
        return dict(zip(once, found, strict=True))

    generators = _generator_jobs(plan, material)
    trained = run(train_generator, list(generators.values()), "generators")
    sets = _set_jobs(plan, material, place, generators)
    drawn = run(draw_set, list(sets.values()), "synthetic sets")
    usable = {key: job for key, job in sets.items() if not drawn[job.key]["failed"]}
    trials = _trials(plan, material, usable)
    judged = run(judge_regime, [trial.job for trial in trials], "classifiers")
    ledger = _ledger(plan, place, material, generators, sets, trials)
    content = _content(plan, material, place, _Done(generators, sets, trials, trained, drawn, judged), ledger)
    _write(Path(place.out), content, material, place, usable)
    return content


def check_plan(plan: Plan) -> None:
    """Refuse what cannot be studied, before anything is trained.

    Raises:
        ConfigError: names unknown, settings that do not fit, or nothing to compare.
    """
    regimes_of(plan.regimes, plan.control is not None)
    if not questions_of(plan.regimes):
        raise ConfigError("these regimes leave nothing to compare; add orig or +trad as a baseline.")
    for name in plan.classifiers:
        classifier_recipe(plan, name)
    for name in _methods(plan):
        kind = method_type(name)
        if (kind.needs_masks and name != "syncgan") or name == "text-to-image":
            raise ConfigError(
                f"{name} cannot draw cells from training cells alone; choose another generator."
            )
        check_training(name, None, {"resolution": plan.resolution, **plan.settings.get(name, {})})
    unknown = sorted(plan.settings.keys() - {*_methods(plan), *plan.classifiers})
    if unknown:
        raise ConfigError(
            f"settings of {unknown[0]!r}: it is no generator or classifier of this study. Write "
            "--set NAME.key=value."
        )
    for values, what in ((plan.generators, "generators"), (plan.real, "real"), (plan.ratios, "ratios")):
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"--{what}: give one or more, each once.")
    if any(count is not None and count < 2 for count in plan.real) or any(
        ratio <= 0 for ratio in plan.ratios
    ):
        raise ConfigError("--real needs 2 or more cells of a class, --ratios numbers above 0.")


def classifier_recipe(plan: Plan, name: str) -> Recipe:
    """A classifier's recipe with the study's settings, without any augmentation and averaging over views."""
    return recipe_of(name, {**plan.settings.get(name, {}), "views": 1})


def regime_recipe(recipe: Recipe, regime: Regime, traditional: str) -> Recipe:
    """The recipe under a regime: ordinary augmentation, or none at all; steps stay the same.

    Args:
        recipe: of the classifier.
        regime: of the trial.
        traditional: policy of `data.augment`.
    """
    names = parse_policy(traditional) if regime.augmented else ()
    turned = [name for name in names if name in ("flip", "rotate")]
    others = [name for name in names if name not in turned]
    changes = {"symmetry": ",".join(turned), "augment": ",".join(others), "strength": 1.0, "mixup": 0.0}
    return recipe.model_copy(update={**changes, **({} if names else {"copies": 1})})


def cost(plan: Plan) -> dict[str, float]:
    """How much a plan asks for: trainings of generators and of classifiers, and minutes of the generators."""
    regimes = regimes_of(plan.regimes, plan.control is not None).values()
    synthetic = any(regime.synthetic for regime in regimes)
    generators = plan.repeats * len(plan.real) * len(_methods(plan)) * synthetic
    each = [
        1 if not regime.synthetic else len(plan.ratios) * (1 if regime.control else len(plan.generators))
        for regime in regimes
    ]
    classifiers = plan.repeats * len(plan.real) * len(plan.classifiers) * sum(each)
    minutes = generators * (plan.minutes or (0.0 if plan.images else MINUTES))
    return {"generators": generators, "classifiers": classifiers, "generator_minutes": minutes}


@dataclass(frozen=True)
class _Done:
    """All jobs and what they gave."""

    generators: dict[tuple[Any, ...], Job]
    sets: dict[tuple[Any, ...], Job]
    trials: list[Trial]
    trained: dict[str, Result]
    drawn: dict[str, Result]
    judged: dict[str, Result]


def _begin(place: Place, plan: Plan) -> None:
    """Find the groups once, and write the plan before anything is trained."""
    out, path = Path(place.out), Path(place.out) / GROUPS
    cells = open_cells(Path(place.data), place.layout, place.group)
    if path.is_file():
        check_split(Split.load(path), cells)
    else:
        split_folder(cells).save(path)
    content = {
        "plan": plan.model_dump(mode="json"),
        "rule": rule(plan.level),
        "questions": [asdict(question) for question in questions_of(plan.regimes)],
        "groups_sha256": Split.load(path).sha256,
        "earlier": [],
    }
    if (out / "plan.json").is_file():
        before = read_json(out / "plan.json")
        earlier = before.pop("earlier", [])
        now = {key: content[key] for key in before}
        content["earlier"] = earlier if before == now else [*earlier, before]
    write_json(out / "plan.json", content)


def _methods(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*plan.generators, *([plan.control] if plan.control else [])]))


def _common(plan: Plan, material: Material, repeat: int, real: int | None) -> dict[str, Any]:
    """Parameters that decide which cells a job may see."""
    return {
        "data": material.division.sha256,
        "resolution": plan.resolution,
        "folds": plan.folds,
        "seed": plan.seed,
        "repeat": repeat,
        "real": real,
    }


def _generator_jobs(plan: Plan, material: Material) -> dict[tuple[Any, ...], Job]:
    """(repeat, real, method) -> training."""
    if not any(regime.synthetic for regime in regimes_of(plan.regimes, plan.control is not None).values()):
        return {}
    minutes = MINUTES if plan.minutes is None and plan.images is None else plan.minutes
    return {
        (repeat, real, name): Job(
            {
                "kind": "generator",
                **_common(plan, material, repeat, real),
                "generator": name,
                "minutes": minutes,
                "images": plan.images,
                "settings": plan.settings.get(name, {}),
            }
        )
        for repeat in range(plan.repeats)
        for real in plan.real
        for name in _methods(plan)
    }


def _set_jobs(
    plan: Plan, material: Material, place: Place, generators: Mapping[tuple[Any, ...], Job]
) -> dict[tuple[Any, ...], Job]:
    """(repeat, real, method) -> drawing as many cells as any regime can use."""
    select = any(REGIMES[name].selected for name in plan.regimes)
    jobs = {}
    for (repeat, real, name), job in generators.items():
        common = _common(plan, material, repeat, real)
        fold = outer_fold(place, plan.resolution, plan.folds, plan.seed, repeat)
        most = int(np.bincount(material.labels[real_rows(material, fold, common)]).max())
        jobs[repeat, real, name] = Job(
            {
                "kind": "set",
                **common,
                "trained": job.key,
                "per_class": ceil(max(plan.ratios) * most * (SPARE if select else 1)),
                "select": select,
                "extractor": plan.extractor,
                "share": plan.share,
            }
        )
    return jobs


def _trials(plan: Plan, material: Material, sets: Mapping[tuple[Any, ...], Job]) -> list[Trial]:
    """Every classifier of the study; those of generators without cells are left out."""
    trials = []
    for repeat in range(plan.repeats):
        for real in plan.real:
            for classifier in plan.classifiers:
                base = {
                    "kind": "classifier",
                    **_common(plan, material, repeat, real),
                    "set": None,
                    "ratio": None,
                }
                judges = sorted(sets[repeat, real, name].key for name in _available(plan, sets, repeat, real))
                for word, regime in regimes_of(plan.regimes, plan.control is not None).items():
                    recipe = regime_recipe(classifier_recipe(plan, classifier), regime, plan.traditional)
                    flags = {**asdict(regime), "title": "", "control": False}
                    own = {**base, "regime": flags, "recipe": recipe.model_dump(mode="json")}
                    own["judged"] = judges if word == "orig" else []
                    if not regime.synthetic:
                        trials.append(Trial(classifier, real, word, None, None, repeat, Job(own)))
                        continue
                    for name in (plan.control,) if regime.control else plan.generators:
                        for ratio in plan.ratios if (repeat, real, name) in sets else ():
                            job = Job({**own, "set": sets[repeat, real, name].key, "ratio": ratio})
                            trials.append(Trial(classifier, real, word, name, ratio, repeat, job))
    return trials


def _available(
    plan: Plan, sets: Mapping[tuple[Any, ...], Job], repeat: int, real: int | None
) -> tuple[str, ...]:
    return tuple(name for name in _methods(plan) if (repeat, real, name) in sets)


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
    keys = {job.key for job in (*sets.values(), *(trial.job for trial in trials))}
    entries = [
        trained_entry(place.jobs / job.key, material, repeat) for (repeat, _, _), job in generators.items()
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


def _content(
    plan: Plan, material: Material, place: Place, done: _Done, ledger: Mapping[str, Any]
) -> dict[str, Any]:
    comparisons = _compare(plan, done)
    return {
        "kind": "study",
        "data": {
            "name": Path(place.data).name,
            "cells": len(material.labels),
            "groups": len(set(material.groups)),
            "classes": list(material.cached.shape.classes),
        },
        "plan": plan.model_dump(mode="json"),
        "plans_before": len(read_json(Path(place.out) / "plan.json")["earlier"]),
        "rule": rule(plan.level),
        "power": POWER,
        "answers": _answers(plan, comparisons),
        "comparisons": comparisons,
        "regimes": _regimes(plan, done),
        "generators": _generators(plan, done),
        "scores": [_score(trial, done.judged[trial.job.key]) for trial in done.trials],
        "steps": {name: classifier_recipe(plan, name).steps for name in plan.classifiers},
        "ledger": {"clean": ledger["clean"], "checked": ledger["checked"], "tests": len(ledger["tests"])},
        "_ledger": ledger,
    }


def _score(trial: Trial, result: Result) -> dict[str, Any]:
    names = ("accuracy", "balanced_accuracy", "macro_f1", "real", "synthetic")
    return {
        "classifier": trial.classifier,
        "real_per_class": trial.real,
        "regime": trial.regime,
        "generator": trial.generator,
        "ratio": trial.ratio,
        "repeat": trial.repeat,
        **{name: result[name] for name in names},
    }


def _compare(plan: Plan, done: _Done) -> list[dict[str, Any]]:
    """All questions for all classifiers, fractions, generators and ratios, with verdicts."""
    results: dict[tuple[Any, ...], dict[int, Result]] = {}
    for trial in done.trials:
        results.setdefault(trial.cell, {})[trial.repeat] = done.judged[trial.job.key]
    rows: list[dict[str, Any]] = []
    for question in questions_of(plan.regimes):
        pairs = [pair for pair in _pairs(plan, question) if _repeats(results, pair)]
        family = [_comparison(plan, results, pair, len(pairs)) for pair in pairs]
        adjusted = holm([found.p for found in family])
        for (new, base), found, p in zip(pairs, family, adjusted, strict=True):
            rows.append(
                {
                    "question": question.name,
                    "classifier": new[0],
                    "real_per_class": new[1],
                    "generator": new[3] or base[3],
                    "ratio": new[4] or base[4],
                    **asdict(found),
                    "p_holm": float(p),
                    "verdict": verdict(found, float(p), plan.level),
                }
            )
    everywhere = holm([row["p"] for row in rows])
    return [{**row, "p_holm_study": float(p)} for row, p in zip(rows, everywhere, strict=True)]


def _pairs(plan: Plan, question: Question) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Cells of the grid that a question compares: new way and baseline."""
    both = [REGIMES[question.regime], REGIMES[question.baseline]]
    sources: list[tuple[str | None, float | None]]
    if any(regime.synthetic and not regime.control for regime in both):
        sources = [(name, ratio) for name in plan.generators for ratio in plan.ratios]
    else:
        sources = [(plan.control, ratio) for ratio in plan.ratios] if both[0].synthetic else [(None, None)]

    def cell(word: str, regime: Regime, name: str | None, ratio: float | None) -> tuple[Any, ...]:
        if not regime.synthetic:
            return word, None, None
        return word, plan.control if regime.control else name, ratio

    return [
        ((classifier, real, *cell(question.regime, both[0], *source)),
         (classifier, real, *cell(question.baseline, both[1], *source)))
        for classifier in plan.classifiers for real in plan.real for source in sources
    ]  # fmt: skip


def _repeats(
    results: Mapping[tuple[Any, ...], Mapping[int, Result]], pair: tuple[tuple[Any, ...], tuple[Any, ...]]
) -> list[int]:
    """Repeats that have both sides, where they are two or more."""
    both = sorted(results.get(pair[0], {}).keys() & results.get(pair[1], {}).keys())
    return both if len(both) > 1 else []


def _comparison(
    plan: Plan,
    results: Mapping[tuple[Any, ...], Mapping[int, Result]],
    pair: tuple[tuple[Any, ...], tuple[Any, ...]],
    family: int,
) -> Comparison:
    new, base = (results[cell] for cell in pair)
    both = _repeats(results, pair)
    return compare_paired(
        [new[repeat][plan.score] - base[repeat][plan.score] for repeat in both],
        round(float(np.mean([new[repeat]["train_pool"] for repeat in both]))),
        round(float(np.mean([new[repeat]["test"] for repeat in both]))),
        plan.level,
        family,
        plan.seed,
    )


def _answers(plan: Plan, comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each question: how often each verdict, the mean difference, the smallest visible effect."""
    answers = []
    for question in questions_of(plan.regimes):
        rows = [row for row in comparisons if row["question"] == question.name]
        if rows:
            answers.append(
                {
                    "question": question.name,
                    "words": question.words,
                    "comparisons": len(rows),
                    **{
                        word: sum(row["verdict"] == word for row in rows)
                        for word in ("helps", "hurts", "no evidence")
                    },
                    "mean_difference": float(np.mean([row["difference"] for row in rows])),
                    "median_smallest": float(np.median([row["smallest"] for row in rows])),
                }
            )
    return answers


def _regimes(plan: Plan, done: _Done) -> list[dict[str, Any]]:
    """Mean score and minutes of each cell of the grid."""
    cells: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in done.trials:
        cells.setdefault(trial.cell, []).append(trial)
    rows = []
    for (classifier, real, regime, generator, ratio), trials in cells.items():
        results = [done.judged[trial.job.key] for trial in trials]
        scores = [result[plan.score] for result in results]
        rows.append(
            {
                "classifier": classifier,
                "real_per_class": real,
                "regime": regime,
                "generator": generator,
                "ratio": ratio,
                "repeats": len(trials),
                "mean": float(np.mean(scores)),
                "deviation": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
                "minutes": float(np.mean([_seconds(trial, done) for trial in trials])) / 60,
                "classifier_minutes": float(np.mean([result["seconds"] for result in results])) / 60,
            }
        )
    return rows


def _seconds(trial: Trial, done: _Done) -> float:
    """What one classifier costs from nothing: generator, drawing, training and testing."""
    own = float(done.judged[trial.job.key]["seconds"])
    if trial.generator is None:
        return own
    at = (trial.repeat, trial.real, trial.generator)
    before = done.trained[done.generators[at].key], done.drawn[done.sets[at].key]
    return own + sum(float(result["seconds"]) for result in before)


def _generators(plan: Plan, done: _Done) -> list[dict[str, Any]]:
    """GAN-train, GAN-test, training and selection of each generator at each fraction."""
    rows = []
    for name in _methods(plan):
        for real in plan.real:
            found = [
                (done.trained[job.key], done.drawn[done.sets[at].key], done.sets[at].key)
                for at, job in done.generators.items()
                if at[1:] == (real, name)
            ]
            if found:
                trained, drawn, keys = zip(*found, strict=True)
                rows.append(
                    {
                        "generator": name,
                        "real_per_class": real,
                        "minutes": float(np.mean([each["seconds"] for each in trained])) / 60,
                        "images": float(np.mean([each["images"] for each in trained])),
                        "stopped": [each["stopped"] for each in trained if each["stopped"]],
                        "failed": [each["failed"] for each in drawn if each["failed"]],
                        "emptied": sorted({name for each in drawn for name in each["emptied"]}),
                        "kept": float(np.mean([each["kept"] / max(1, each["images"]) for each in drawn])),
                        "gan_train": _gan_train(plan, done, name, real),
                        "gan_test": _gan_test(plan, done, set(keys), real),
                    }
                )
    return rows


def _gan_train(plan: Plan, done: _Done, name: str, real: int | None) -> dict[str, float]:
    """Classifier -> accuracy on real test cells after synthetic cells only, at the largest ratio."""
    word = "gan" if name == plan.control and name not in plan.generators else "prop"
    found = {
        classifier: [
            done.judged[trial.job.key]["accuracy"]
            for trial in done.trials
            if trial.cell == (classifier, real, word, name, max(plan.ratios))
        ]
        for classifier in plan.classifiers
    }
    return {classifier: float(np.mean(scores)) for classifier, scores in found.items() if scores}


def _gan_test(plan: Plan, done: _Done, keys: set[str], real: int | None) -> dict[str, float]:
    """Classifier -> accuracy on synthetic cells of one that saw real cells only."""
    found: dict[str, list[float]] = {}
    for trial in done.trials:
        if trial.regime == "orig" and trial.real == real:
            shares = done.judged[trial.job.key]["gan_test"]
            found.setdefault(trial.classifier, []).extend(shares[key] for key in shares.keys() & keys)
    return {classifier: float(np.mean(scores)) for classifier, scores in found.items() if scores}


def _write(
    out: Path,
    content: dict[str, Any],
    material: Material,
    place: Place,
    sets: Mapping[tuple[Any, ...], Job],
) -> None:
    write_json(out / "ledger.json", content.pop("_ledger"))
    write_json(out / "study.json", content)
    write_atomic(out / "scores.csv", _csv(content["scores"]))
    write_atomic(out / "comparisons.csv", _csv(content["comparisons"]))
    picture = _cells(material, place, sets)
    if picture is not None:
        write_atomic(out / "cells.png", encode_png(picture, {"Synthetic": "true"}))
    build_study(out, content, picture)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; every text in them is one of our own words."""
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _spreadsheet(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def _spreadsheet(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula, such as +prop, gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" else value


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
