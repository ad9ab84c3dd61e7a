"""Finished reports of classifiers become docs/results/classification.md (PAGE) with their pictures.

    python benchmarks/classification.py PAGE OUT [OUT ...] --machine "one core of ..." [--notes NOTES]

Each OUT is the --out folder of `cytoforge classify report`; its name becomes part of a picture's name. No
picture of a cell goes into the page. How settings were chosen is written by hand in the notes.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from cytoforge.core.files import read_json, write_atomic
from cytoforge.evaluation.classifier_report import ClassifierReport, Protocol
from cytoforge.evaluation.recipes import RECIPES
from cytoforge.report.classify import against_sentence, interval, sentence

PICTURES = {"confusion": "Confusion matrices", "roc": "ROC curves", "curves": "Learning curves"}

INTRODUCTION = """# Classifiers, by random and by grouped folds

Every cell is tested once by folds that divide cells at random and once by folds that keep together what
comes from one photo or slide; only the second says what to expect of a new photo. In brackets: 95 % interval
over groups drawn anew, the trained networks held fixed. Nothing is chosen while training.

For scale: a linear probe on features of EfficientNet-Lite0, not trained further, is in [Audit](audit.md), by
the same two divisions.

{machine}
"""


def chapter(folder: Path, page: Path) -> list[str]:
    """All numbers of one classifier on one data set; its pictures are copied beside the page."""
    judged = ClassifierReport.model_validate(read_json(folder / "classify.json"))
    pictures = {name: f"{page.stem}-{folder.name}-{name}.png" for name in PICTURES}
    for name, picture in pictures.items():
        shutil.copyfile(folder / f"{name}.png", page.parent / picture)
    lines = [
        f"## {judged.data}: {judged.recipe}{_changed(judged)}",
        "",
        f"`cytoforge classify report {judged.data.upper()} --out OUT {_options(judged)}`",
        "",
        sentence(judged),
        "",
        f"{judged.cells} cells in {judged.groups} groups, {judged.folds} folds, seed {judged.seed}; "
        f"{judged.parameters:,} parameters.",
        "",
        "| division | accuracy | balanced accuracy | macro F1 | macro AUC | sibling in training | minutes |",
        "|---|---|---|---|---|---|---|",
        _row("cells at random", judged.random),
        _row("photos kept together", judged.grouped),
        "",
    ]
    if judged.against is not None:
        lines += [against_sentence(judged.against), ""]
    if judged.grouped.coarse is not None and judged.random.coarse is not None:
        names = ", ".join(judged.grouped.coarse.labels)
        lines += [
            f"As {names}, from the same answers: {interval(judged.random.coarse.accuracy)} at random, "
            f"{interval(judged.grouped.coarse.accuracy)} grouped.",
            "",
        ]
    if judged.published:
        lines += ["| who | classifier | accuracy | protocol |", "|---|---|---|---|"]
        lines += [
            f"| {other.source} | {other.classifier} | {100 * other.accuracy:.1f} % | {other.protocol} |"
            for other in judged.published
        ]
        lines += [""]
    lines += [*_classes(judged.grouped), ""]
    own = f"of {judged.recipe} on {judged.data}"
    return [*lines, *(f"![{PICTURES[name]} {own}]({picture})\n" for name, picture in pictures.items())]


def _classes(protocol: Protocol) -> list[str]:
    """Each class where photos are kept together."""
    lines = [
        "| class, photos kept together | precision | recall | F1 | AUC | cells |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in protocol.scores.classes.items():
        shown = map(interval, (found.precision, found.recall, found.f1, found.auc))
        lines.append(f"| {' | '.join([name, *shown, str(found.support)])} |")
    return lines


def _settings(judged: ClassifierReport) -> list[str]:
    """Settings that are not the recipe's own, as name=value."""
    recipe = RECIPES.get(judged.recipe)
    own = {} if recipe is None else recipe.model_dump(mode="json")
    return [f"{name}={value}" for name, value in judged.settings.items() if own.get(name, value) != value]


def _changed(judged: ClassifierReport) -> str:
    changed = _settings(judged)
    return f" with {', '.join(changed)}" if changed else ""


def _options(judged: ClassifierReport) -> str:
    return " --set ".join([f"--recipe {judged.recipe}", *_settings(judged)])


def _row(name: str, protocol: Protocol) -> str:
    scores = protocol.scores
    shown = [
        interval(each)
        for each in (scores.accuracy, scores.balanced_accuracy, scores.macro_f1, scores.macro_auc)
    ]
    sibling, minutes = f"{100 * protocol.sibling:.1f} %", f"{sum(protocol.seconds) / 60:.0f}"
    return f"| {' | '.join([name, *shown, sibling, minutes])} |"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--machine", default="", help="a sentence on where it was computed")
    parser.add_argument("--notes", type=Path, help="Markdown that ends the introduction")
    arguments = parser.parse_args()
    chapters = [line for folder in arguments.folders for line in chapter(folder, arguments.page)]
    notes = [] if arguments.notes is None else [arguments.notes.read_text(encoding="utf-8")]
    parts = [INTRODUCTION.format(machine=arguments.machine), *notes, *chapters]
    write_atomic(arguments.page, "\n".join(parts).rstrip() + "\n")


if __name__ == "__main__":
    main()
