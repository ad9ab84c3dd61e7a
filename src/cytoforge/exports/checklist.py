"""Reporting checklists with what run, set, evaluation and study know already filled in.

What a machine cannot know says "to be filled in". Nothing here judges a study: a filled row says where the
answer comes from, and a person reads it before it is handed in.

Reference:
    Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update.
    https://doi.org/10.1148/ryai.240300
    Miao et al., MI-CLAIM-GEN, 2024. https://arxiv.org/abs/2403.02558
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json, write_atomic, write_json
from cytoforge.core.run import Run
from cytoforge.evaluation.classifiers import METHOD
from cytoforge.evaluation.metrics import Metrics
from cytoforge.evaluation.recipes import effective
from cytoforge.evaluation.regimes import QUESTIONS, REGIMES
from cytoforge.evaluation.selection import selection_of
from cytoforge.evaluation.verdicts import copying
from cytoforge.exports import classifier_scores
from cytoforge.exports.cards import LIMITS, NOT_FOR, TO_FILL, safe
from cytoforge.exports.classifier_scores import ClassifierScores
from cytoforge.exports.synthetic_set import SyntheticSet
from cytoforge.report.pages import render
from cytoforge.report.study import all_of, points, visible
from cytoforge.sampling.card import plain


@dataclass(frozen=True)
class Item:
    """One question of a checklist.

    Attributes:
        number: of the item in its checklist, or ours where the source does not number them.
        section: heading.
        asks: the question, in our words.
        answer: what is known, or "to be filled in".
        source: the file that the answer comes from, None where there is none.
    """

    number: str
    section: str
    asks: str
    answer: str = TO_FILL
    source: str | None = None


@dataclass(frozen=True)
class Known:
    """What there is to fill a checklist from; None where there is none."""

    opened: SyntheticSet | None = None
    run: Run | None = None
    metrics: Metrics | None = None
    study: Mapping[str, Any] | None = None
    scores: ClassifierScores | None = None


@dataclass(frozen=True)
class Checklist:
    """A published checklist.

    Attributes:
        name: short word, also the file's name.
        title: as published.
        note: how our wording relates to it.
        items: in order.
    """

    name: str
    title: str
    note: str
    items: tuple[Item, ...] = field(default_factory=tuple)

    @property
    def filled(self) -> int:
        """Number of items with an answer."""
        return sum(item.source is not None for item in self.items)


def write_checklists(known: Known, out: Path) -> list[Path]:
    """Write each checklist as Markdown, HTML and JSON."""
    written = []
    for checklist in fill(known):
        path = out / f"{checklist.name}.md"
        write_atomic(path, _markdown(checklist))
        page = render("checklist.html", checklist=checklist, status=_status(checklist))
        write_atomic(path.with_suffix(".html"), page)
        write_json(path.with_suffix(".json"), _record(checklist))
        written.append(path)
    return written


def fill(known: Known) -> list[Checklist]:
    """All checklists, answered as far as can be.

    Args:
        known: what to answer from.
    """
    answers = known_answers(known)
    text = files("cytoforge.exports").joinpath("checklists.yaml").read_text(encoding="utf-8")
    filled = []
    for name, content in yaml.safe_load(text).items():
        items = tuple(
            Item(
                str(item["number"]),
                section["section"],
                item["asks"],
                *answers.get(item.get("fact"), (TO_FILL, None)),
            )
            for section in content["sections"]
            for item in section["items"]
        )
        filled.append(Checklist(name, content["title"], content["note"], items))
    return filled


def read_study(path: Path) -> Mapping[str, Any]:
    """The content of a study.json; the first ones carry no format.

    Raises:
        DataError: it is none, or was made by a newer cytoforge.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != "study":
        raise DataError(f"{path} is not a study.json; give the one that `cytoforge study` wrote.")
    if content.get("format", 1) != 1:
        raise DataError(f"{path} has a format that this version cannot read; update cytoforge.")
    return content


def known_answers(known: Known) -> dict[str, tuple[str, str]]:
    """Fact -> answer and the file that it comes from."""
    answers: dict[str, tuple[str, str]] = {}
    if known.run is not None:
        newest = known.opened is not None and known.opened.header.checkpoint == "newest"
        answers |= {name: (text, "config.json") for name, text in _run_answers(known.run, newest).items()}
        answers |= {name: (text, "split.json") for name, text in _split_answers(known.run).items()}
    if known.opened is not None:
        answers |= {name: (text, "manifest.jsonl") for name, text in _set_answers(known.opened).items()}
    if known.metrics is not None:
        answers |= {name: (text, "metrics.json") for name, text in _metric_answers(known.metrics).items()}
        if known.metrics.warnings:
            warned = (" ".join(known.metrics.warnings), "metrics.json")
            before = [answers["limitations"]] if "limitations" in answers else []
            answers["limitations"] = classifier_scores.together([*before, warned])
    if known.scores is not None:
        answers |= classifier_scores.answers(known.scores)
    if known.study is not None:
        answers |= {name: (text, "study.json") for name, text in _study_answers(known.study).items()}
    return answers


def _run_answers(run: Run, newest: bool) -> dict[str, str]:
    config = run.config
    loop, preparation = config.get("loop", {}), config.get("preparation", {})
    settings = effective(config.get("recipe", config.get("settings", {})))
    answers = {
        "method": f"Deep learning: {config['method']} for cell images ({len(config['classes'])} classes).",
        "limitations": _limitations(config),
        "preprocessing": (
            f'Cells made square by "{preparation.get("fit")}" and resized with antialiasing to '
            f"{preparation.get('resolution')} px, RGB; denoising strength {preparation.get('denoise')}."
        ),
        "model": f"{config['method']}. Settings: {_listing(settings)}.",
        "software": _listing(config.get("versions", {})),
        "initialisation": _initialisation(config),
        "training": ". ".join(filter(None, [_listing(loop), _course(run)])),
        "final_model": _selection(config, newest),
        "reproduction": (
            f"Settings SHA-256 {run.config_hash}, seed {config.get('seed', 'not recorded')}; the same "
            "command resumes and repeats the run."
        ),
    }
    return {name: text for name, text in answers.items() if text}


def _listing(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {safe(value)}" for name, value in values.items())


def _limitations(config: Mapping[str, Any]) -> str:
    if config["method"] == METHOD:
        return f"{classifier_scores.LIMITS} {classifier_scores.NOT_FOR}"
    return f"{LIMITS} {NOT_FOR}"


def _initialisation(config: Mapping[str, Any]) -> str:
    if "base" in config:
        return "Weights of another run, refined."
    return f"Random, from seed {config.get('seed', 'not recorded')}{_pretrained(config)}."


def _pretrained(config: Mapping[str, Any]) -> str:
    """What a network begins with besides random weights, see `tasks.classify.build_network`."""
    settings = config.get("settings", {})
    if config["method"] != METHOD:
        return f"; pretrained model ({Path(settings['checkpoint']).name})" if "checkpoint" in settings else ""
    weights = effective(settings).get("weights", "none")
    return "" if weights == "none" else f"; pretrained body ({Path(weights).name})"


def _selection(config: Mapping[str, Any], newest: bool) -> str:
    if config["method"] == METHOD:
        return (
            "None: the number of optimiser steps is fixed and the averaged weights after the last are used."
        )
    if newest:
        return "The last checkpoint; weights averaged over images. Nothing was chosen."
    return (
        'Checkpoint with the lowest distance to validation cells, divided by diversity, ("best"; '
        "newest where none was measured), weights averaged over images; test cells are not looked at."
    )


def _course(run: Run) -> str:
    seen = [record.get("seen", 0) for record in run.read_log()]
    return f"Images shown: {max(seen):,}." if seen else ""


def _split_answers(run: Run) -> dict[str, str]:
    """Counts only: names of files stay where they are."""
    if not run.split_path.is_file():
        return {}
    split = read_json(run.split_path)
    parts, groups = split.get("parts", {}), split.get("groups", {})
    if not parts:
        return {}
    shown = []
    for part in ("train", "val", "test"):
        names = [name for name, own in parts.items() if own == part]
        shown.append(f"{part} {len(names)} cells of {len({groups[name] for name in names})} groups")
    counts = "; ".join(shown)
    left_out = len(split.get("left_out", ()))
    return {
        "partitions": (
            f"Groups dealt to {counts}, classes kept in proportion, seed {split.get('seed')}. Split SHA-256 "
            f"{run.config.get('split_sha256')}."
        ),
        "disjoint": _disjoint(split),
        "included": f"{len(parts)} cells used ({counts}), {left_out} left out. Patients: {TO_FILL}.",
    }


def _disjoint(split: Mapping[str, Any]) -> str:
    groups, pairs = split.get("groups", {}), split.get("merged", ())
    merged = len(pairs)
    before = {*groups.values(), *(group for pair in pairs for group in pair)}
    if len(before) == len(groups):
        same = f", but for pairs that show the same cell ({merged})" if merged else ""
        return f"No photo, slide or patient is known: each picture is a group of its own{same}. {TO_FILL}."
    return (
        "By photo or slide: no group lies in two parts. Groups that show the same cell were merged first "
        f"({merged} pairs). That groups are also disjoint by patient: {TO_FILL}."
    )


def _set_answers(opened: SyntheticSet) -> dict[str, str]:
    header, chosen = opened.header, selection_of(opened.folder, opened.sha256)
    given = {"masks": header.masks_sha256, "edges": header.edges_sha256}
    conditions = [f"{name} given, SHA-256 {sha256}" for name, sha256 in given.items() if sha256 is not None]
    kept = (
        "no selection known"
        if chosen is None
        else f"{chosen.kept} of {chosen.images} images kept by the rules {', '.join(chosen.rules)}"
    )
    return {
        "synthetic_set": (
            f"{len(opened.images)} images by {header.method}, truncation {header.truncation:g}, one seed "
            f"each; {'; '.join([*conditions, kept])}; network SHA-256 {header.checkpoint_sha256}, manifest "
            f"SHA-256 {opened.sha256}."
        ),
        "marking": (
            'Every image file carries the text "Synthetic=true", class, seed and generator; '
            "`cytoforge verify` finds missing, changed and added files."
        ),
    }


def _metric_answers(metrics: Metrics) -> dict[str, str]:
    names = ", ".join(metrics.overall)
    scores = "; ".join(
        f"{name} {number.value:.4g}"
        + ("" if number.low is None else f" (95 % {number.low:.4g} to {number.high:.4g})")
        + ("" if number.floor is None else f", real against real {number.floor:.4g}")
        for name, number in metrics.overall.items()
    )
    answers = {
        "metrics": f"{names}; features of {metrics.extractor}, {metrics.resolution} px, k = {metrics.k}.",
        "statistics": "; ".join(f"{name}: {rule}" for name, rule in metrics.rules.items()),
        "internal_test": (
            f"{metrics.counts.synthetic} synthetic images against {metrics.counts.holdout} real cells of "
            "groups that took no part in training or selection."
        ),
        "performance": scores,
        "baseline": "Real cells against other real cells in equal numbers, beside every score.",
        "verdicts": " ".join(f"{verdict.headline} {verdict.because}" for verdict in metrics.verdicts),
    }
    if metrics.copies is not None:
        copies, verdict = metrics.copies, copying(metrics.copies)
        answers["privacy"] = (
            f"Images tested for copying at a false-alarm rate of {copies.false_alarm_rate:g}: "
            f"{copies.flagged} of {copies.checked} flagged ({copies.honest_low} to {copies.honest_high} "
            f"expected of an honest generator). {verdict.headline}. {verdict.because} That is no proof of "
            "anonymity."
        )
    if metrics.class_correctness is not None:
        correct = metrics.class_correctness
        answers["failures"] = (
            f"A classifier of real cells recognises {correct.accuracy:.1%} of the images as the class asked "
            f"for (95 % {correct.low:.1%} to {correct.high:.1%}); by class: "
            + ", ".join(f"{name} {share.value:.0%}" for name, share in correct.classes.items())
        )
    return {name: text for name, text in answers.items() if text}


def _study_answers(study: Mapping[str, Any]) -> dict[str, str]:
    """A sentence for each question about synthetic cells; ordinary augmentation alone is none."""
    asked = {
        question.name
        for question in QUESTIONS
        if REGIMES[question.regime].synthetic or REGIMES[question.baseline].synthetic
    }
    sentences = [_study_answer(answer, study) for answer in study["answers"] if answer["question"] in asked]
    if not sentences:
        return {}
    remarks = study.get("remarks", [])
    rule = f"Rule fixed before the run: {study['rule']}"
    return {"utility": " ".join([*sentences, *remarks, rule])}


def _study_answer(answer: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    data, score = study["data"], study["plan"]["score"].replace("_", " ")
    found = {row["repeats"] for row in study["comparisons"] if row["question"] == answer["question"]}
    repeats = " to ".join(str(end) for end in sorted({min(found), max(found)}))
    pooled = answer.get("pooled")
    together = (
        f"Averaged over {all_of(answer['comparisons'])}: {pooled['verdict']}, {points(pooled['difference'])} "
        f"points of {score} ({points(pooled['low'])} to {points(pooled['high'])}), smallest visible "
        f"{visible(pooled['smallest'])}."
        if pooled
        else f"Mean difference {points(answer['mean_difference'])} points of {score}."
    )
    return (
        f"{answer['words']} {together} Of {answer['comparisons']} comparisons ({answer['question']}): helps "
        f"in {answer['helps']}, hurts in {answer['hurts']}, no evidence in {answer['no evidence']}; half of "
        f"them could have found {visible(answer['median_smallest'])} points or less ({repeats} repeats of "
        f"{data['cells']} real cells in {data['groups']} groups)."
    )


def _markdown(checklist: Checklist) -> str:
    lines = [
        f"# {checklist.title}",
        "",
        checklist.note,
        "",
        _status(checklist),
    ]
    for section in dict.fromkeys(item.section for item in checklist.items):
        lines += ["", f"## {section}", "| item | asks | answer | from |", "|---|---|---|---|"]
        lines += [
            f"| {item.number} | {plain(item.asks)} | {_answer(item)} | {item.source or ''} |"
            for item in checklist.items
            if item.section == section
        ]
    return "\n".join([*lines, ""])


def _status(checklist: Checklist) -> str:
    count = len(checklist.items)
    return f"{checklist.filled} of {count} items are pre-filled; read each before you hand it in."


def _answer(item: Item) -> str:
    return f"**{TO_FILL}**" if item.source is None else plain(item.answer)


def _record(checklist: Checklist) -> dict[str, Any]:
    return {
        "format": 1,
        "kind": "checklist",
        "checklist": checklist.name,
        "title": checklist.title,
        "filled": checklist.filled,
        "items": [
            {
                "item": item.number,
                "section": item.section,
                "asks": item.asks,
                "answer": item.answer,
                "from": item.source,
            }
            for item in checklist.items
        ],
    }
