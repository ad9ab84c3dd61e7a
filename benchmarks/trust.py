"""A calibrated classifier becomes docs/results/trust.md (PAGE): are its promises kept on cells it never saw?

    python benchmarks/trust.py PAGE RUN [--strangers NAME=FOLDER ...] --machine "..." [--notes NOTES]

RUN is a run of `cytoforge classify train` after `cytoforge classify calibrate`. Strangers are folders of
other cells; how many of them are called unknown is measured on `MOST` of each, drawn at random. No picture of
a cell goes into the page.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from cytoforge.core.files import read_json, write_atomic
from cytoforge.data.cache import open_cache
from cytoforge.data.cells import CellSet
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split
from cytoforge.evaluation.calibration import Reliability
from cytoforge.evaluation.classification import Estimate
from cytoforge.evaluation.metrics import Share
from cytoforge.evaluation.recipes import RECIPES, Recipe
from cytoforge.evaluation.trust import Answers, Calibration, Coverage, Judged, answer
from cytoforge.report.classify import interval, percent
from cytoforge.stages.trained_cells import cells_of
from cytoforge.stages.trusted import FOLDER, Trusted, open_trusted

MOST = 400
CHUNK = 64
COVERAGE = 0.9

INTRODUCTION = """# Are a classifier's promises kept?

`cytoforge classify train {data} --run RUN --recipe {recipe}`, then `cytoforge classify calibrate RUN`

Limits and temperature were fitted on {fitted} cells of {fitted_groups} photos (validation part) that chose
nothing in training, and are judged here on {cells} cells of {groups} other photos (test part), once. What the
numbers are is in [How far to trust an answer](../trust.md).

{machine}
"""


def probabilities(judged: Judged) -> list[str]:
    """Before and after the temperature."""
    return [
        "## Probabilities",
        "",
        "Accuracy is that of one training by one division that keeps photos together, on the test part; by "
        "random and by grouped folds it is in [Classification](classification.md).",
        "",
        "| | calibration error (ECE) | of exact probabilities, 95 % below | Brier | log loss | accuracy "
        "| mean confidence |",
        "|---|---|---|---|---|---|---|",
        *(_reliability(name, each) for name, each in (("before", judged.before), ("after", judged.after))),
        "",
    ]


def _reliability(name: str, each: Reliability) -> str:
    shown = (f"{each.error:.3f}", f"{each.chance_error:.3f}, {each.chance_high:.3f}", f"{each.brier:.3f}",
             f"{each.log_loss:.3f}", percent(each.accuracy), percent(each.confidence))  # fmt: skip
    return f"| {name} | {' | '.join(shown)} |"


def sets(judged: Judged) -> list[str]:
    """Coverage of the sets, and what is left when a person takes the doubtful cells."""
    return [
        "## Sets of possible classes",
        "",
        "The promise is for the mean over photos; the range is what a right method gives with 95 % chance",
        "for one cell of each of so few photos. The mean over all cells of a photo varies less, so it is a",
        "generous one.",
        "",
        "| stated | seen, mean over photos | range | kept | mean over cells | classes in a set | answered "
        "| of these right |",
        "|---|---|---|---|---|---|---|---|",
        *map(_coverage, judged.coverage),
        "",
        "Coverage of each class, over cells; nothing is promised for it:",
        "",
        f"| stated | {' | '.join(judged.coverage[0].classes)} |",
        "|---" * (1 + len(judged.coverage[0].classes)) + "|",
        *(
            f"| {percent(each.stated)} | {' | '.join(map(percent, each.classes.values()))} |"
            for each in judged.coverage
        ),
        "",
    ]


def _coverage(each: Coverage) -> str:
    kept = "no, too few" if not each.kept else "yes" if each.groups <= each.high else "more than stated"
    shown = (
        percent(each.stated),
        percent(each.groups),
        f"{percent(each.low)} to {percent(each.high)}",
        kept,
        percent(each.cells),
        f"{each.size:.2f}",
        _share(each.answered),
        _share(each.accuracy_answered),
    )
    return f"| {' | '.join(shown)} |"


def unknown(
    trusted: Trusted, calibration: Calibration, judged: Judged, strangers: dict[str, CellSet]
) -> list[str]:
    """How many cells of other sources are noticed, beside false alarms on cells of the same source."""
    split = Split.load(trusted.run.split_path)
    own = cells_of(trusted.run, None)
    tested = answers(trusted, calibration, own.select(split.names("test")), most=None)
    lines = [
        "## Cells of another kind",
        "",
        f"Called unknown: farther from training cells than all but {percent(calibration.false_alarm)} of "
        "cells of known kinds. AUROC: the chance that a stranger is farther away than a test cell.",
        "",
        f"| cells | number | called unknown | AUROC | a sure answer all the same, at {percent(COVERAGE)} |",
        "|---|---|---|---|---|",
        f"| test part | {judged.cells} | {percent(tested.unknown.mean())} | "
        f"| {percent(tested.sure.mean())} |",
    ]
    for name, cells in strangers.items():
        found = answers(trusted, calibration, cells, MOST)
        far = np.concatenate([tested.distances, found.distances])
        truth = np.repeat([0, 1], [len(tested.distances), len(found.distances)])
        area = roc_auc_score(truth, far)
        lines.append(
            f"| {name} | {len(found.distances)} | {percent(found.unknown.mean())} | {area:.3f} "
            f"| {percent(found.sure.mean())} |"
        )
    return [*lines, ""]


def answers(trusted: Trusted, calibration: Calibration, cells: CellSet, most: int | None) -> Answers:
    """What is said about all cells of a folder, or about some drawn at random."""
    cached = open_cache(cells, trusted.preparation).without_masks()
    rows = np.sort(np.random.default_rng(0).permutation(len(cached))[:most])
    parts = [trusted.quick(cached.read(rows[start : start + CHUNK])) for start in range(0, len(rows), CHUNK)]
    logits, features = (np.concatenate(each) for each in zip(*parts, strict=True))
    assert trusted.known is not None
    return answer(calibration, trusted.known, logits, features, COVERAGE)


def _share(share: Share | None) -> str:
    return "" if share is None else interval(Estimate(value=share.value, low=share.low, high=share.high))


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--strangers", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--machine", default="", help="a sentence on where it was computed")
    parser.add_argument("--notes", type=Path, help="Markdown that ends the introduction")
    arguments = parser.parse_args()
    trusted = open_trusted(arguments.run)
    calibration = trusted.calibration
    if calibration is None or calibration.judged is None:
        parser.error(f"{arguments.run} is not calibrated; run cytoforge classify calibrate {arguments.run}.")
    judged = calibration.judged
    folders = dict(each.split("=", 1) for each in arguments.strangers)
    config = read_json(arguments.run / "config.json")
    recipe = Recipe.model_validate(config["recipe"])
    picture = f"{arguments.page.stem}-calibration.png"
    shutil.copyfile(arguments.run / FOLDER / "calibration.png", arguments.page.parent / picture)
    introduction = INTRODUCTION.format(
        data=Path(config["data"]["root"]).name.upper(),
        recipe=next((name for name, own in RECIPES.items() if own == recipe), "RECIPE"),
        fitted=calibration.cells,
        fitted_groups=len(calibration.groups),
        cells=judged.cells,
        groups=judged.groups,
        machine=arguments.machine,
    )
    parts = [
        introduction,
        *([] if arguments.notes is None else [arguments.notes.read_text(encoding="utf-8")]),
        *probabilities(judged),
        *sets(judged),
        *unknown(
            trusted, calibration, judged, {name: open_cells(Path(place)) for name, place in folders.items()}
        ),
        "![Reliability before and after, errors left when the least sure cells are handed to a person, "
        f"distances]({picture})",
    ]
    write_atomic(arguments.page, "\n".join(parts).rstrip() + "\n")


if __name__ == "__main__":
    main()
