"""Promised and seen coverage over many divisions of photos: docs/results/coverage.md (PAGE) and its picture.

    python benchmarks/coverage.py PAGE OUT --machine "..." [--divisions 200] [--notes NOTES]

OUT is the --out folder of `cytoforge classify report`. Of each grouped fold the photos that its network never
saw are divided in halves, again and again: temperature and limits are fitted on one half, as by `cytoforge
classify calibrate`, and judged on the other. Folds that are not finished are left out. No picture of a cell
goes into the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoforge.core.files import read_json, write_atomic
from cytoforge.data.cache import open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split
from cytoforge.evaluation.calibration import Reliability, fit_temperature, reliability, softmax
from cytoforge.evaluation.conformal import (
    class_thresholds,
    coverage_range,
    covered,
    lac_scores,
    prediction_sets,
    threshold,
    true_class_scores,
)
from cytoforge.evaluation.recipes import Recipe
from cytoforge.evaluation.trust import group_mean
from cytoforge.report.classify import percent
from cytoforge.report.plots import EOSIN, HEMATOXYLIN, PLOT_STYLE, SOFT, png

STATED = (0.8, 0.9, 0.95)
RELIABLE = 20
"""Divisions of each fold whose calibration error is compared with that of exact probabilities."""

INTRODUCTION = """# Promised and seen coverage, over many divisions

`cytoforge classify report {data} --out OUT {options}`, then `python benchmarks/coverage.py PAGE OUT`

Of each of {folds} grouped folds the photos that its network never saw ({cells} cells of {groups} photos in
all) are divided in halves {divisions} times; temperature and limits are fitted on one half, as by `cytoforge
classify calibrate`, and judged on the other. What the numbers are is in [How far to trust an
answer](../trust.md); one division, with cells of other sources, is in [Are a classifier's promises
kept?](trust.md).

{machine}
"""


@dataclass(frozen=True)
class Unseen:
    """The tested cells of one grouped fold.

    Attributes:
        logits: (N, K) of a network that saw none of their photos.
        labels: (N,).
        groups: (N,) photo of each.
    """

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]

    def part(self, names: NDArray[np.str_]) -> Unseen:
        """The cells of some photos."""
        own = np.isin(self.groups, names)
        return Unseen(self.logits[own], self.labels[own], self.groups[own])


@dataclass(frozen=True)
class Promise:
    """What one division shows of one stated coverage.

    Attributes:
        photos: share of cells whose set holds the class, every photo weighing the same.
        cell: the same of one cell drawn from each photo, whose chances are known.
        cells: the same of all cells.
        size: mean number of classes in a set.
        classes: (K,) share of each class, over cells.
        low: lower end of what a right method gives `cell` with 95 % chance.
        high: upper end.
    """

    photos: float
    cell: float
    cells: float
    size: float
    classes: NDArray[np.float64]
    low: float
    high: float


def finished(out: Path) -> tuple[list[Unseen], tuple[str, ...], dict[str, object]]:
    """Grouped folds of a report, names of the classes, and the parameters that all folds share."""
    places = [place for place in sorted((out / "folds").iterdir()) if (place / "DONE").is_file()]
    parameters = [(read_json(place / "parameters.json"), place) for place in places]
    grouped = [(each, place) for each, place in parameters if each["protocol"] == "grouped"]
    if not grouped:
        raise SystemExit(f"{out} holds no finished grouped fold; run cytoforge classify report first.")
    shared = {**grouped[0][0], "fold": None}
    if any({**each, "fold": None} != shared for each, _ in grouped):
        raise SystemExit(f"{out} holds folds of several classifiers; give each an --out of its own.")
    folds = [read_json(place / "result.json") for _, place in grouped]
    cells = open_cells(Path(str(shared["data"])), str(shared["layout"]), shared["group"])
    recipe = Recipe.model_validate(shared["recipe"])
    cached = open_cache(cells, recipe.preparation).without_masks()
    known = Split.load(out / "split.json").groups
    groups = np.array([known[name] for name in cached.names])
    unseen = [
        Unseen(np.array(fold["logits"]), cached.labels[fold["rows"]], groups[fold["rows"]]) for fold in folds
    ]
    return unseen, cells.classes, shared


def halves(fold: Unseen, divisions: int, rng: np.random.Generator) -> Iterator[tuple[Unseen, Unseen]]:
    """The fold's photos in two halves, again and again."""
    names = np.unique(fold.groups)
    for _ in range(divisions):
        drawn = rng.permutation(names)
        yield fold.part(drawn[: len(names) // 2]), fold.part(drawn[len(names) // 2 :])


def judge(learned: Unseen, other: Unseen, stated: float, by_class: bool, rng: np.random.Generator) -> Promise:
    """Fit temperature and limits on one half, count on the other."""
    temperature = fit_temperature(learned.logits, learned.labels)
    scores = lac_scores(softmax(learned.logits, temperature))
    names = learned.groups.tolist()
    limit = (
        class_thresholds(scores, learned.labels, stated, names)
        if by_class
        else threshold(true_class_scores(scores, learned.labels), stated, names)
    )
    sets = prediction_sets(lac_scores(softmax(other.logits, temperature)), limit)
    inside = covered(sets, other.labels)
    order = rng.permutation(len(inside))
    _, first = np.unique(other.groups[order], return_index=True)
    low, high = coverage_range(len(set(names)), len(first), stated)
    return Promise(
        photos=group_mean(inside, other.groups.tolist()),
        cell=float(inside[order[first]].mean()),
        cells=float(inside.mean()),
        size=float(sets.sum(1).mean()),
        classes=np.array([inside[other.labels == label].mean() for label in range(sets.shape[1])]),
        low=low,
        high=high,
    )


def promises(folds: Sequence[Unseen], divisions: int, by_class: bool) -> dict[float, list[list[Promise]]]:
    """Stated coverage -> what each division of each fold shows."""
    rng = np.random.default_rng(0)
    found: dict[float, list[list[Promise]]] = {stated: [[] for _ in folds] for stated in STATED}
    for number, fold in enumerate(folds):
        for learned, other in halves(fold, divisions, rng):
            for stated in STATED:
                found[stated][number].append(judge(learned, other, stated, by_class, rng))
    return found


def sets(found: dict[float, list[list[Promise]]]) -> list[str]:
    """One limit for all classes."""
    lines = [
        "| stated | seen, mean over photos | by fold | 95 % of single divisions | one cell of each photo "
        "| within its range | mean over cells | classes in a set |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for stated, folds in found.items():
        every = [each for fold in folds for each in fold]
        photos = np.array([each.photos for each in every])
        low, high = np.percentile(photos, [2.5, 97.5])
        within = np.mean([each.low <= each.cell <= each.high for each in every])
        shown = (
            percent(stated),
            percent(float(photos.mean())),
            ", ".join(f"{100 * np.mean([each.photos for each in fold]):.1f}" for fold in folds),
            f"{100 * low:.1f} to {100 * high:.1f} %",
            percent(float(np.mean([each.cell for each in every]))),
            f"{100 * within:.0f} % of divisions",
            percent(float(np.mean([each.cells for each in every]))),
            f"{np.mean([each.size for each in every]):.2f}",
        )
        lines.append(f"| {' | '.join(shown)} |")
    return [*lines, ""]


def classes(
    common: dict[float, list[list[Promise]]],
    alone: dict[float, list[list[Promise]]],
    names: Sequence[str],
) -> list[str]:
    """Coverage of each class, with one limit for all and with one for each."""
    lines = [f"| stated | limits | {' | '.join(names)} | classes in a set |", "|---" * (3 + len(names)) + "|"]
    for stated in common:
        for title, found in (("one for all", common), ("one a class", alone)):
            every = [each for fold in found[stated] for each in fold]
            shares = np.mean([each.classes for each in every], axis=0)
            size = np.mean([each.size for each in every])
            lines.append(f"| {percent(stated)} | {title} | {' | '.join(map(percent, shares))} | {size:.2f} |")
    return [*lines, ""]


def probabilities(folds: Sequence[Unseen]) -> list[str]:
    """Calibration error before and after the temperature, beside that of exact probabilities."""
    rng = np.random.default_rng(0)
    pairs: list[list[Reliability]] = []
    temperatures: list[float] = []
    for fold in folds:
        for learned, other in halves(fold, RELIABLE, rng):
            temperature = fit_temperature(learned.logits, learned.labels)
            temperatures.append(temperature)
            pairs.append(
                [
                    reliability(other.labels, softmax(other.logits, each), seed=len(pairs))
                    for each in (1.0, temperature)
                ]
            )
    lines = [
        f"Temperature {np.mean(temperatures):.2f} on average; {len(pairs)} divisions.",
        "",
        "| | calibration error (ECE) | of exact probabilities | divisions where it is as low as 95 % of "
        "exact ones give | Brier | log loss | accuracy | mean confidence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in zip(("before", "after"), zip(*pairs, strict=True), strict=True):
        within = np.mean([each.error <= each.chance_high for each in found])
        means = {
            key: np.mean([getattr(each, key) for each in found])
            for key in ("error", "chance_error", "brier", "log_loss", "accuracy", "confidence")
        }
        lines.append(
            f"| {name} | {means['error']:.3f} | {means['chance_error']:.3f} | {100 * within:.0f} % "
            f"| {means['brier']:.3f} | {means['log_loss']:.3f} | {percent(means['accuracy'])} "
            f"| {percent(means['confidence'])} |"
        )
    return [*lines, ""]


def draw(found: dict[float, list[list[Promise]]]) -> bytes:
    """How often which coverage is seen, beside the chances of a right method, as a PNG."""
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(9, 3), layout="constrained")
        for axes, (stated, folds) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
            every = [each for fold in folds for each in fold]
            values = 100 * np.array([each.cell for each in every])
            axes.hist(values, bins=24, color=HEMATOXYLIN, alpha=0.75)
            axes.axvspan(100 * every[0].low, 100 * every[0].high, color=SOFT, alpha=0.15, linewidth=0)
            axes.axvline(100 * stated, color=SOFT, linewidth=1, linestyle=":", label="stated")
            axes.axvline(values.mean(), color=EOSIN, linewidth=1.5, label="seen, mean")
            axes.set(xlabel="covered, one cell of each photo (%)", title=f"{percent(stated)} stated")
        figure.axes[0].set(ylabel="divisions")
        figure.axes[0].legend(loc="upper left", fontsize=8)
        return png(figure)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path, help="of cytoforge classify report")
    parser.add_argument("--machine", default="", help="a sentence on where it was computed")
    parser.add_argument("--options", default="", help="options of the report, for the page's first line")
    parser.add_argument("--divisions", type=int, default=200, help="of each fold")
    parser.add_argument("--notes", type=Path, help="Markdown that ends the introduction")
    given = parser.parse_args()
    folds, names, shared = finished(given.out)
    common = promises(folds, given.divisions, by_class=False)
    alone = promises(folds, given.divisions, by_class=True)
    picture = given.page.with_suffix(".png")
    write_atomic(picture, draw(common))
    introduction = INTRODUCTION.format(
        data=Path(str(shared["data"])).name.upper(),
        options=given.options,
        folds=len(folds),
        cells=sum(len(fold.labels) for fold in folds),
        groups=sum(len(np.unique(fold.groups)) for fold in folds),
        divisions=given.divisions,
        machine=given.machine,
    )
    parts = [
        introduction,
        *([] if given.notes is None else [given.notes.read_text(encoding="utf-8")]),
        "## Sets of possible classes",
        "",
        "The promise is for the mean over photos. Its chances are known for one cell drawn from each photo:",
        "the range of one division is that of a right method with 95 % chance. The divisions of a fold share",
        "its photos, so they are not independent of each other.",
        "",
        *sets(common),
        f"![Coverage seen in single divisions]({picture.name})",
        "",
        "## Each class",
        "",
        "One limit for all classes promises nothing for a single one; `--by-class` gives each its own.",
        "",
        *classes(common, alone, names),
        "## Probabilities",
        "",
        *probabilities(folds),
    ]
    write_atomic(given.page, "\n".join(parts).rstrip() + "\n")


if __name__ == "__main__":
    main()
