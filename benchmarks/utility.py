"""A finished study becomes docs/results/utility.md with its plots.

    python benchmarks/utility.py docs/results/NAME.md STUDY --notes benchmarks/notes/NAME.md --machine "..."

STUDY is the --out folder of `cytoforge study`. Numbers, command and plots come from its study.json, what they
mean is written by hand in the notes. Only synthetic cells go into the page.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytoforge.core.files import read_json, write_atomic
from cytoforge.evaluation.regimes import REGIMES
from cytoforge.report.study import amount, file_name, headline, plots, ratings, table
from cytoforge.stages.study_plan import Plan
from cytoforge.stages.study_remarks import remarks
from cytoforge.stages.study_results import more_real

INTRODUCTION = """# {title}

`{command}`

{machine}

Equal optimiser steps in every regime not named -short ({steps}). Each repeat is one fold by groups, and
generator, selection and classifier see its training groups only: the ledger compared by content what {jobs}
jobs were shown with the test cells and found none of them.

**The rule, fixed before the run.** {rule}
The smallest visible effect is the true difference that this design would have called in four cases of five.
"""


SHOWN = ("generators", "classifiers", "real", "repeats", "minutes", "images", "regimes", "ratios")
"""Options that the command always names; the others only where they are not as usual."""

OTHERS = ("control", "folds", "resolution", "traditional", "score", "level", "seed")


CELL = ("classifier", "real_per_class", "regime", "generator", "ratio")


def command(study: Mapping[str, Any]) -> str:
    """The command that asks for a study's plan; where it is computed is not part of it."""
    plan = study["plan"]
    changed = [name for name in OTHERS if plan[name] != Plan.model_fields[name].default]
    asked = {name: plan[name] for name in (*SHOWN, *changed) if plan[name] is not None}
    options = [f"--{name} {shlex.quote(_text(value))}" for name, value in asked.items()]
    settings = [
        f"--set {shlex.quote(f'{name}.{key}={_text(value)}')}"
        for name, own in plan["settings"].items()
        for key, value in own.items()
    ]
    data = shlex.quote(study["data"]["name"].upper())
    return " ".join([f"cytoforge study {data} --out STUDY", *options, *settings])


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join("all" if part is None else _text(part) for part in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def page(study: Mapping[str, Any], ledger: Mapping[str, Any], given: argparse.Namespace) -> list[str]:
    """The text, but for pictures."""
    steps = ", ".join(f"{name} {count}" for name, count in study["steps"].items())
    jobs = len(ledger["shown"])
    introduction = INTRODUCTION.format(
        title=given.title,
        command=command(study),
        machine=given.machine,
        steps=steps,
        rule=study["rule"],
        jobs=jobs,
    )
    answers = [f"* **{words}** {because}" for _, words, because in map(headline, study["answers"])]
    regimes = [f"* `{name}`: {REGIMES[name].title}" for name in study["plan"]["regimes"]]
    notes = [] if given.notes is None else [given.notes.read_text(encoding="utf-8")]
    parts = ["## Answers", "", *answers, "", *notes, "## Regimes", "", *regimes, ""]
    return [introduction, *parts, *(generators(study) if study["generators"] else [])]


def generators(study: Mapping[str, Any]) -> list[str]:
    """What each generator was like at each fraction."""
    names = study["plan"]["classifiers"]
    kinds = [kind for kind in ("train", "test") if any(row[f"gan_{kind}"] for row in study["generators"])]
    columns = [f"GAN-{kind}, {name}" for kind in kinds for name in names]
    lines = [
        "## Generators",
        "",
        *(f"{line}\n" for line in ratings(study)),
        f"| {' | '.join(['generator', 'real a class', 'minutes', 'training images', *columns])} |",
        "|---|---|---|---|" + "---|" * len(columns),
    ]
    for row in study["generators"]:
        shares = [row[f"gan_{kind}"].get(name) for kind in kinds for name in names]
        shown = ["" if share is None else f"{share:.3f}" for share in shares]
        cells = [
            row["generator"],
            amount(row["real_per_class"]),
            f"{row['minutes']:.1f}",
            f"{row['images']:,.0f}",
        ]
        lines.append(f"| {' | '.join([*cells, *shown])} |")
    return [*lines, ""]


def with_remarks(study: dict[str, Any]) -> dict[str, Any]:
    """A study.json of the first versions with what its scores say of selections that kept too few cells."""
    if "remarks" in study:
        return study
    cells: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in study["scores"]:
        cells.setdefault(tuple(row[name] for name in CELL), []).append(row)
    regimes = []
    for row in study["regimes"]:
        own = cells[tuple(row[name] for name in CELL)]
        wanted = sum(each["real"] * (each["ratio"] or 0) for each in own)
        short = 1 - sum(each["synthetic"] for each in own) / wanted if wanted else 0.0
        regimes.append({**row, "short": short})
    found = {**study, "regimes": regimes, "failed": [], "selection": []}
    return {**found, "remarks": remarks(found)}


def with_scale(study: dict[str, Any]) -> dict[str, Any]:
    """A study.json of the first versions with what more real cells do in it."""
    plan = Plan.model_validate(study["plan"])
    test = round(study["data"]["cells"] / plan.folds)
    found = more_real(plan, study["scores"], study["data"]["cells"] - test, test)
    return {"more_real": found, **study}


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("study", type=Path)
    parser.add_argument("--title", default="Do synthetic cells help?")
    parser.add_argument("--machine", required=True, help="a sentence on where it was computed")
    parser.add_argument("--notes", type=Path, help="Markdown that goes between answers and regimes")
    arguments = parser.parse_args()
    study = with_scale(with_remarks(read_json(arguments.study / "study.json")))
    ledger = read_json(arguments.study / "ledger.json")
    lines = page(study, ledger, arguments)
    cells = arguments.study / "cells.png"
    pictures = {"cells": cells.read_bytes()} if cells.is_file() else {}
    pictures |= {file_name(name): content for name, content in plots(study).items()}
    for name, content in pictures.items():
        target = f"{arguments.page.stem}-{name}.png"
        write_atomic(arguments.page.parent / target, content)
        lines += [f"![{name}]({target})", ""]
    lines += ["## Comparisons", "", table(study)]
    write_atomic(arguments.page, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
