"""What came out of a study: scores, comparisons with verdicts, and what each regime costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.core.files import read_json
from cytoforge.core.jobs import Job, mixture
from cytoforge.evaluation.features import network_of
from cytoforge.evaluation.regimes import REGIMES, Question, Regime, judge_of, questions_of
from cytoforge.evaluation.selection import FEWEST, spared
from cytoforge.evaluation.utility import (
    POWER,
    Comparison,
    compare_paired,
    compare_pooled,
    holm,
    rule,
    verdict,
)
from cytoforge.stages.study_jobs import Material, Place
from cytoforge.stages.study_plan import (
    Plan,
    Trial,
    classifier_recipe,
    methods,
    training_cells,
    training_of,
)
from cytoforge.stages.study_remarks import remarks

FORMAT = 1
"""Of study.json."""

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Done:
    """All jobs and what they gave; `obstacles` say where selection was not possible, see `study_plan`."""

    generators: dict[tuple[Any, ...], Job]
    sets: dict[tuple[Any, ...], Job]
    trials: list[Trial]
    trained: dict[str, Result]
    drawn: dict[str, Result]
    judged: dict[str, Result]
    obstacles: dict[tuple[Any, ...], str]

    @property
    def finished(self) -> list[Trial]:
        """Classifiers that were trained and tested."""
        return [trial for trial in self.trials if not _failed(self.judged[trial.job.key])]


def content_of(
    plan: Plan, material: Material, place: Place, done: Done, ledger: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of study.json."""
    comparisons = _compare(plan, done)
    scores = [_score(trial, done.judged[trial.job.key]) for trial in done.finished]
    counts = _counts(list(done.judged.values()))
    content = {
        "format": FORMAT,
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
        "answers": _answers(plan, comparisons, pooled(plan, scores, *counts)),
        "comparisons": comparisons,
        "more_real": more_real(plan, scores, *counts),
        "regimes": _regimes(plan, material, place, done),
        "generators": _generators(plan, done),
        "scores": scores,
        "failed": [
            {**trial.facts, "why": done.judged[trial.job.key]["failed"]}
            for trial in done.trials
            if _failed(done.judged[trial.job.key])
        ],
        "selection": _selection(plan, material, place, done),
        "few_real": _few_real(plan, material, place),
        "steps": {name: classifier_recipe(plan, name).steps for name in plan.classifiers},
        "ledger": {
            **{name: ledger[name] for name in ("clean", "checked", "by_split")},
            "tests": len(ledger["tests"]),
        },
    }
    places = [place.jobs / key for results in (done.trained, done.drawn, done.judged) for key in results]
    mixed = mixture(places)
    return {**content, "remarks": [*remarks(content), *([mixed] if mixed else [])]}


def _score(trial: Trial, result: Result) -> dict[str, Any]:
    names = ("accuracy", "balanced_accuracy", "macro_f1", "real", "synthetic")
    return {**trial.facts, **{name: result[name] for name in names}}


def _failed(result: Result) -> bool:
    return bool(result.get("failed"))


def _few_real(plan: Plan, material: Material, place: Place) -> list[dict[str, Any]]:
    """Numbers of real cells that some class does not have in some repeat, with these classes."""
    names, found = material.cached.shape.classes, []
    for real in [each for each in plan.real if each is not None]:
        rows = [training_cells(plan, material, place, repeat, real) for repeat in range(plan.repeats)]
        counts = np.array([np.bincount(material.labels[own], minlength=len(names)) for own in rows]).min(0)
        short = [name for name, count in zip(names, counts, strict=True) if count < real]
        if short:
            found.append({"real_per_class": real, "classes": short, "fewest": int(counts.min())})
    return found


def _selection(plan: Plan, material: Material, place: Place, done: Done) -> list[dict[str, Any]]:
    """Fractions and repeats at which selection was not possible, or passed over classes with few cells."""
    found: dict[tuple[int | None, str], list[int]] = {}
    selects = any(REGIMES[name].selected for name in plan.regimes)
    for repeat, real in product(range(plan.repeats), plan.real) if selects else ():
        labels = material.labels[training_cells(plan, material, place, repeat, real)]
        few = spared(labels, material.cached.shape.classes)
        if why := done.obstacles.get((repeat, real)):
            found.setdefault((real, f"not possible: {why}"), []).append(repeat)
        elif few:
            what = f"nothing is dropped of {', '.join(few)}: fewer than {FEWEST} real cells"
            found.setdefault((real, what), []).append(repeat)
    return [
        {"real_per_class": real, "repeats": repeats, "what": what} for (real, what), repeats in found.items()
    ]


def _compare(plan: Plan, done: Done) -> list[dict[str, Any]]:
    """All questions for all classifiers, fractions, generators and ratios, with verdicts."""
    results: dict[tuple[Any, ...], dict[int, Result]] = {}
    for trial in done.finished:
        results.setdefault(trial.cell, {})[trial.repeat] = done.judged[trial.job.key]
    rows: list[dict[str, Any]] = []
    for question in questions_of(plan.regimes):
        pairs = [pair for pair in pairs_of(plan, question) if _repeats(results, pair)]
        family = [_comparison(plan, results, pair, len(pairs)) for pair in pairs]
        for (new, base), found in zip(pairs, _called(plan, family), strict=True):
            rows.append(
                {
                    "question": question.name,
                    "classifier": new[0],
                    "real_per_class": new[1],
                    "generator": base[3] or new[3],
                    "ratio": base[4] or new[4],
                    **found,
                }
            )
    everywhere = holm([row["p"] for row in rows])
    return [{**row, "p_holm_study": float(p)} for row, p in zip(rows, everywhere, strict=True)]


def _called(plan: Plan, family: Sequence[Comparison]) -> list[dict[str, Any]]:
    """What each comparison of a family found, with "p_holm" and "verdict"."""
    adjusted = map(float, holm([found.p for found in family]))
    return [
        {**asdict(found), "p_holm": p, "verdict": verdict(found, p, plan.level)}
        for found, p in zip(family, adjusted, strict=True)
    ]


def _by_repeat(
    plan: Plan, scores: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[tuple[Any, ...], dict[int, float]]:
    """What `names` say of a score's place -> repeat -> score."""
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in scores:
        found.setdefault(tuple(row[name] for name in names), {})[row["repeat"]] = row[plan.score]
    return found


def pairs_of(plan: Plan, question: Question) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Cells of the grid that a question compares: new way and baseline; the control never with itself."""
    both = [REGIMES[question.regime], REGIMES[question.baseline]]
    sources: list[tuple[str | None, float | None]]
    if any(regime.synthetic and not regime.control for regime in both):
        names = [
            name for name in plan.generators if both[0].control == both[1].control or name != plan.control
        ]
        sources = [(name, ratio) for name in names for ratio in plan.ratios]
    elif both[0].synthetic or both[1].short:
        sources = [(plan.control, ratio) for ratio in plan.ratios]
    else:
        sources = [(None, None)]

    def cell(word: str, regime: Regime, name: str | None, ratio: float | None) -> tuple[Any, ...]:
        if not regime.synthetic:
            return word, None, ratio if regime.short else None
        return word, plan.control if regime.control else name, ratio

    return [
        ((classifier, real, *cell(question.regime, both[0], *source)),
         (classifier, real, *cell(question.baseline, both[1], *source)))
        for classifier in plan.classifiers for real in plan.real for source in sources
    ]  # fmt: skip


def _repeats(
    results: Mapping[tuple[Any, ...], Mapping[int, Any]], pair: tuple[tuple[Any, ...], tuple[Any, ...]]
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
    differences = [new[repeat][plan.score] - base[repeat][plan.score] for repeat in both]
    counts = _counts([new[repeat] for repeat in both])
    return compare_paired(differences, *counts, plan.level, family, plan.seed)


def _counts(results: Sequence[Result]) -> tuple[int, int]:
    """Cells outside and inside the test part, of a mean repeat."""
    tested = [result for result in results if not _failed(result)]
    pool, test = (
        float(np.mean([result[name] for result in tested] or [0])) for name in ("train_pool", "test")
    )
    return round(pool), round(test)


def pooled(
    plan: Plan, scores: Sequence[Mapping[str, Any]], train_count: int, test_count: int
) -> dict[str, dict[str, Any]]:
    """What all comparisons of a question say together; all questions are one family for Holm's method.

    Args:
        plan: of the study.
        scores: as in study.json.
        train_count: as for `compare_paired`.
        test_count: likewise.

    Returns:
        Question -> comparison of the means within repeats, with "p_holm" and "verdict", over the comparisons
        that are made, which have two repeats or more; left out where no two repeats have all of these.
    """
    found = _by_repeat(plan, scores, ("classifier", "real_per_class", "regime", "generator", "ratio"))
    grids = {}
    for question in questions_of(plan.regimes):
        pairs = [pair for pair in pairs_of(plan, question) if _repeats(found, pair)]
        grid = np.full((len(pairs), plan.repeats), np.nan)
        for line, pair in zip(grid, pairs, strict=True):
            for repeat in _repeats(found, pair):
                line[repeat] = found[pair[0]][repeat] - found[pair[1]][repeat]
        if pairs and (~np.isnan(grid).any(0)).sum() > 1:
            grids[question.name] = grid
    family = [
        compare_pooled(grid, train_count, test_count, plan.level, len(grids), plan.seed)
        for grid in grids.values()
    ]
    return dict(zip(grids, _called(plan, family), strict=True))


def more_real(
    plan: Plan, scores: Sequence[Mapping[str, Any]], train_count: int, test_count: int
) -> list[dict[str, Any]]:
    """What more real cells do by the same rule: the scale on which synthetic ones are to be read.

    Args:
        plan: of the study.
        scores: as in study.json.
        train_count: as for `compare_paired`.
        test_count: likewise.

    Returns:
        One row for each regime of real cells at full length, classifier and pair of fractions ("from", "to",
        real cells of a class, None for all). A regime is a family of its own for Holm's method.
    """
    real = [row for row in scores if row["generator"] is None and not REGIMES[row["regime"]].short]
    found = _by_repeat(plan, real, ("regime", "classifier", "real_per_class"))
    fractions = sorted(plan.real, key=lambda real: (real is None, real))
    rows = []
    for regime in dict.fromkeys(cell[0] for cell in found):
        pairs = [
            (name, few, many)
            for name, (few, many) in product(plan.classifiers, combinations(fractions, 2))
            if len(found.get((regime, name, few), {}).keys() & found.get((regime, name, many), {}).keys()) > 1
        ]
        family = []
        for name, few, many in pairs:
            before, after = found[regime, name, few], found[regime, name, many]
            differences = [after[repeat] - before[repeat] for repeat in sorted(before.keys() & after.keys())]
            family.append(
                compare_paired(differences, train_count, test_count, plan.level, len(pairs), plan.seed)
            )
        for (name, few, many), called in zip(pairs, _called(plan, family), strict=True):
            rows.append({"regime": regime, "classifier": name, "from": few, "to": many, **called})
    return rows


def _answers(
    plan: Plan, comparisons: Sequence[Mapping[str, Any]], averages: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """For each question: all comparisons together, then how often each verdict and what each could see."""
    answers = []
    for question in questions_of(plan.regimes):
        rows = [row for row in comparisons if row["question"] == question.name]
        if rows:
            answers.append(
                {
                    "question": question.name,
                    "words": question.words,
                    "pooled": averages.get(question.name),
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


def _regimes(plan: Plan, material: Material, place: Place, done: Done) -> list[dict[str, Any]]:
    """Mean score and minutes of each cell of the grid, and what share of its synthetic cells is missing."""
    cells: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in done.finished:
        cells.setdefault(trial.cell, []).append(trial)
    rows = []
    for (classifier, real, regime, generator, ratio), trials in cells.items():
        results = [done.judged[trial.job.key] for trial in trials]
        scores = [result[plan.score] for result in results]
        wanted = sum(_wanted(plan, material, place, trial) for trial in trials)
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
                "short": 1 - sum(result["synthetic"] for result in results) / wanted if wanted else 0.0,
                "minutes": float(np.mean([_seconds(trial, done) for trial in trials])) / 60,
                "classifier_minutes": float(np.mean([result["seconds"] for result in results])) / 60,
            }
        )
    return rows


def _wanted(plan: Plan, material: Material, place: Place, trial: Trial) -> int:
    """Synthetic cells that one classifier should see."""
    if trial.generator is None:
        return 0
    rows = training_cells(plan, material, place, trial.repeat, trial.real)
    return int(np.round((trial.ratio or 0) * np.bincount(material.labels[rows])).sum())


def _seconds(trial: Trial, done: Done) -> float:
    """What one classifier costs from nothing: generator, drawing what it uses, training and testing.

    Selection uses the whole set; so that it can choose, more is drawn than other regimes see.
    """
    judged = done.judged[trial.job.key]
    if trial.generator is None:
        return float(judged["seconds"])
    at = (trial.repeat, trial.real, trial.generator)
    trained, drawn = done.trained[done.generators[at].key], done.drawn[done.sets[at].key]
    selected = REGIMES[trial.regime].selected
    used = drawn["images"] if selected else judged["synthetic"]
    # jobs of earlier versions counted selection among the seconds of drawing
    selecting = drawn.get("selecting", 0.0) if selected else 0.0
    drawing = drawn["seconds"] / drawn["images"] * used
    return float(judged["seconds"] + trained["seconds"] + drawing + selecting)


def _generators(plan: Plan, done: Done) -> list[dict[str, Any]]:
    """GAN-train, GAN-test, training and selection of each generator at each fraction."""
    rows = []
    for name in methods(plan):
        for real in plan.real:
            found = [
                (at[0], done.trained[job.key], done.drawn[done.sets[at].key], done.sets[at].key)
                for at, job in done.generators.items()
                if at[1:] == (real, name)
            ]
            if found:
                repeats, trained, drawn, keys = zip(*found, strict=True)
                kept = [
                    each["kept"] / max(1, each["images"])
                    for repeat, each in zip(repeats, drawn, strict=True)
                    if (repeat, real) not in done.obstacles and not each["failed"]
                ]
                rows.append(
                    {
                        "generator": name,
                        "real_per_class": real,
                        "minutes": float(np.mean([each["seconds"] for each in trained])) / 60,
                        "images": float(np.mean([each["images"] for each in trained])),
                        "stopped": [each["stopped"] for each in trained if each["stopped"]],
                        "failed": [each["failed"] for each in drawn if each["failed"]],
                        "emptied": sorted({name for each in drawn for name in each["emptied"]}),
                        "kept": float(np.mean(kept)) if kept else None,
                        "chosen_by_opponent": _chosen_by_opponent(plan, done, name),
                        "gan_train": _gan_train(plan, done, name, real),
                        "gan_test": _gan_test(plan, done, set(keys), real),
                    }
                )
    return rows


def _chosen_by_opponent(plan: Plan, done: Done, name: str) -> str | None:
    """The network that both selected a generator's cells and was what it was trained against, if one was."""
    training = training_of(plan, name)
    opponent = training.method.opponent(training.settings)
    choosers = {job.parameters["extractor"] for at, job in done.sets.items() if at[2] == name} - {None}
    return opponent if opponent in {network_of(name) for name in choosers} else None


def _gan_train(plan: Plan, done: Done, name: str, real: int | None) -> dict[str, float]:
    """Classifier -> accuracy on real test cells after synthetic cells only, at the largest ratio."""
    word = "gan" if name == plan.control and name not in plan.generators else "prop"
    found = {
        classifier: [
            done.judged[trial.job.key]["accuracy"]
            for trial in done.finished
            if trial.cell == (classifier, real, word, name, max(plan.ratios))
        ]
        for classifier in plan.classifiers
    }
    return {classifier: float(np.mean(scores)) for classifier, scores in found.items() if scores}


def _gan_test(plan: Plan, done: Done, keys: set[str], real: int | None) -> dict[str, float]:
    """Classifier -> accuracy on synthetic cells of one that saw real cells only."""
    found: dict[str, list[float]] = {}
    for trial in done.finished:
        if trial.regime == judge_of(plan.regimes) and trial.real == real:
            shares = done.judged[trial.job.key]["gan_test"]
            found.setdefault(trial.classifier, []).extend(shares[key] for key in shares.keys() & keys)
    return {classifier: float(np.mean(scores)) for classifier, scores in found.items() if scores}
