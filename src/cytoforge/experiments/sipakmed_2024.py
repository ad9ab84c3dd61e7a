"""The classification study of source 001: a basic CNN, VGG-16, VGG-19, ResNet-50, SVM and MLP on SIPaKMeD.

The source reports one accuracy for each of three networks, and a table of classes. `NUMBERS` holds them; here
they stand beside ours, each of ours twice: cells divided at random, as in the source, and photos kept apart.

What differs from the source, and why:

* Three folds instead of one division: a third of the cells is tested by each training, near the source's
  1,227 of 4,049, but every cell is tested once, and the interval over photos says how sure the number is.
* The source says 392,741 parameters for its basic CNN, which its layers cannot give: ours has 286,117 at
  64 px. Its "92.77 %" stands beside a table of classes that says 88 %; both are printed.
* Nothing is chosen by the tested cells: recipes have a fixed number of steps. The source gives accuracy and
  loss of the cells that its training was watched on.
* VGG-16, VGG-19 and ResNet-50 start from ImageNet where their weights are on this machine (timm's cache), as
  in the source. Elsewhere they start from random weights, which costs much; `weights` in result.json and the
  table say which it was. `cytoforge classify train DATA --run RUN --recipe vgg16` fetches them once.
* Head (flatten, dense 1,024), image size (64 px, the source's for its CNN, unsaid for the others) and
  optimiser (AdamW for its Adam) are in each classify.json. The source's rates and batches are unknown.
* SVM and MLP are named in the source but have no numbers. Its 26 measurements come from drawn contours
  (`.dat`); where a folder has none, cells are measured by masks that were found without supervision, and
  `from_given_masks` says so. Settings are searched in grouped folds inside the training cells.
* VGG-19 is named there ("adapted VGG-19") without a number, too.
* "linear" and the measurements of one region only are ours, for scale: a linear layer on the features of
  EfficientNet-Lite0, which needs no download.
* Its table's 813 superficial-intermediate cells should be 831; only that adds up to 4,049.
* Networks train in bfloat16 where the processor has instructions for it, about twice as fast.
* Steps: 4,000 of 64 images for the basic CNN, 400 of 32 for the three large networks (about 6 times each
  cell), so that two cores can afford it in two hours. From random weights that is short.

Cost at full scale: six folds for each classifier. Upper bounds for one fold on one core, scaled up from a few
steps on a busy machine: basic CNN 6 minutes, ResNet-50 6, VGG-16 11, VGG-19 23;
SVM, MLP and "linear", a few minutes; measuring 3,252 cells without masks once, about 5.
`minutes_per_fold` in result.json is what it took. The same call goes on where it was interrupted;
`--executor loky --workers 2` computes two folds at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from matplotlib.figure import Figure
from pydantic import AfterValidator, Field

from cytoforge.core.device import native_precision
from cytoforge.core.executors import Executor
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.core.record import Record
from cytoforge.core.run import SPLIT
from cytoforge.data.cache import open_cache
from cytoforge.data.cells import CellSet
from cytoforge.data.folder import open_cells
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.classification import Estimate
from cytoforge.evaluation.classifier_report import ClassifierReport
from cytoforge.evaluation.measurements import MEASUREMENTS, Measured
from cytoforge.evaluation.recipes import RECIPES
from cytoforge.experiments.contest import PHANTOM, cells_for
from cytoforge.experiments.scale import OneOrMore, Scale, begun_with
from cytoforge.networks.local_weights import weights_here
from cytoforge.report.classify import interval
from cytoforge.report.plots import plain
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.stages.classify import report
from cytoforge.stages.measured_folds import measurements_beside
from cytoforge.stages.split import split_once


@dataclass(frozen=True)
class SourceNumbers:
    """What source 001 reports of classification."""

    cells: int = 4049
    photos: int = 966
    tested: int = 1227
    accuracy: Mapping[str, float] = field(
        default_factory=lambda: {"basic-cnn": 0.9277, "resnet50": 0.9343, "vgg16": 0.9583}
    )
    loss: Mapping[str, float] = field(
        default_factory=lambda: {"basic-cnn": 0.2717, "resnet50": 6.0849, "vgg16": 0.14}
    )
    parameters: Mapping[str, int] = field(default_factory=lambda: {"basic-cnn": 392_741})
    classes: Mapping[str, tuple[float, float, float, int]] = field(
        default_factory=lambda: {
            "Dyskeratotic": (0.89, 0.90, 0.89, 315),
            "Koilocytotic": (0.88, 0.87, 0.87, 237),
            "Metaplastic": (0.86, 0.89, 0.88, 218),
            "Parabasal": (0.87, 0.85, 0.86, 217),
            "Superficial-Intermediate": (0.91, 0.89, 0.90, 240),
        }
    )
    """Precision, recall, F1 and tested cells of each class; of which network is not said (accuracy 0.88)."""
    counts: Mapping[str, int] = field(
        default_factory=lambda: {
            "Dyskeratotic": 813, "Koilocytotic": 825, "Metaplastic": 793, "Parabasal": 787,
            "Superficial-Intermediate": 831,
        }
    )  # fmt: skip


NUMBERS = SourceNumbers()


@dataclass(frozen=True)
class Entry:
    """One classifier.

    Attributes:
        recipe: name of its recipe.
        settings: what differs from it.
        of_source: whether source 001 has it.
    """

    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    of_source: bool = True


ENTRIES: dict[str, Entry] = {
    "basic-cnn": Entry("basic-cnn"),
    "resnet50": Entry("resnet50", {"steps": 400}),
    "vgg16": Entry("vgg16", {"steps": 400}),
    "vgg19": Entry("vgg19", {"steps": 400}),
    "svm": Entry("svm"),
    "mlp": Entry("mlp"),
    "svm nucleus": Entry("svm", {"regions": "nucleus"}, of_source=False),
    "svm cytoplasm": Entry("svm", {"regions": "cytoplasm"}, of_source=False),
    "linear": Entry("linear", of_source=False),
}
"""Classifiers by the name under which they are shown."""


def _known(name: str) -> str:
    if name not in ENTRIES:
        raise ValueError(f"there is no classifier {name!r}; choose of {', '.join(ENTRIES)}")
    return name


class Budget(Record):
    """How much is computed.

    Attributes:
        folds: of either protocol.
        classifiers: which of `ENTRIES`.
    """

    folds: int = Field(ge=2)
    classifiers: OneOrMore[Annotated[str, AfterValidator(_known)]] = Field(tuple(ENTRIES), min_length=1)


BUDGETS: dict[Scale, Budget] = {"smoke": Budget(folds=2), "full": Budget(folds=3)}

_SMOKE_NETWORK = {"steps": 6, "batch": 16, "resolution": 32, "views": 1}
_SMOKE: dict[str, dict[str, Any]] = {
    "svm": {"scales": ("standard",), "C": (1.0, 10.0), "gamma": (0.01,), "inner_folds": 2},
    "mlp": {"scales": ("standard",), "hidden": ((16,),), "alpha": (0.1,), "epochs": 10, "inner_folds": 2},
}
_SHOWN = ("nc_ratio", "nucleus_area", "nucleus_eccentricity", "cytoplasm_solidity", "nucleus_red_mean",
          "cytoplasm_blue_mean")  # fmt: skip


def run(
    data: Path | None,
    out: Path,
    scale: Scale,
    executor: Executor = "serial",
    workers: int | None = None,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Train and judge every classifier under both protocols; the same call goes on with what is there.

    Args:
        data: folder of SIPaKMeD or other labelled cells, or None for simulated ones.
        out: folder for result.json, table.md, accuracy.png, classes.png, measurements.png, and one folder for
            each classifier with its page.
        scale: "smoke" takes minutes, "full" hours.
        executor: where folds are computed, see `core.jobs`.
        workers: how many at once.
        budget: instead of the scale's.

    Returns:
        What result.json holds.
    """
    budget = budget or BUDGETS[scale]
    folder = cells_for(data, out, *PHANTOM[scale])
    cells = open_cells(folder)
    split_once(cells, out / SPLIT)
    measured = measurements_beside(cells, out, "auto")
    explore(out, cells, measured)
    judge = partial(report, folder, folds=budget.folds, executor=executor, workers=workers)
    offered = begun_with(out, machine())
    found = {
        name: _judge(name, judge, out, settings_of(ENTRIES[name], scale, offered))
        for name in budget.classifiers
    }
    result = {
        "experiment": "sipakmed-2024",
        "scale": scale,
        "budget": budget.model_dump(),
        "cells": len(cells),
        "groups": next(iter(found.values())).groups,
        "counts": {name: sum(cell.label == name for cell in cells.cells) for name in cells.classes},
        "from_given_masks": measured.from_given_masks,
        "source": asdict(NUMBERS),
        "entries": {name: _numbers(judged) for name, judged in found.items()},
    }
    write_json(out / "result.json", result)
    write_atomic(out / "table.md", table(found))
    draw_accuracies(out / "accuracy.png", found)
    return result


def explore(out: Path, cells: CellSet, measured: Measured, each: int = 8) -> None:
    """Write classes.png, cells of every class, and measurements.png, six measurements by class."""
    cached = open_cache(cells, Preparation(resolution=64))
    rows = {
        name: cached.read(np.flatnonzero(cached.labels == label)[:each])
        for label, name in enumerate(cells.classes)
    }
    note = ", ".join(f"{name}: {int((cached.labels == k).sum())}" for k, name in enumerate(cells.classes))
    write_atomic(out / "classes.png", encode_png(labelled_rows(rows, note), {"Content": "training cells"}))
    label_of = {cell.name: cell.label for cell in cells.cells}
    labels = np.array([label_of[name] for name in measured.names])
    figure = Figure(figsize=(11, 6), layout="constrained")
    for panel, name in zip(figure.subplots(2, 3).ravel(), _SHOWN, strict=True):
        values = measured.values[:, MEASUREMENTS.index(name)]
        parts = [values[(labels == label) & np.isfinite(values)] for label in cells.classes]
        panel.boxplot(
            parts,
            orientation="horizontal",
            showfliers=False,
            tick_labels=[plain(name) for name in cells.classes],
        )
        panel.set_title(name.replace("_", " "), fontsize=9, loc="left")
        panel.tick_params(labelsize=7)
    figure.savefig(out / "measurements.png", dpi=110)


def table(found: Mapping[str, ClassifierReport]) -> str:
    """Every classifier's numbers beside the source's, then the classes of the basic CNN, as Markdown."""
    one = next(iter(found.values()))
    lines = [
        f"{one.cells:,} cells in {one.groups} groups of photos, {one.folds} folds by each division; in "
        "brackets 95 % intervals over groups, the trained classifiers held fixed.",
        "",
        "| classifier | starts from | source 001 | cells at random | photos kept together "
        "| leak inflation, points | loss on unseen (source) | parameters | minutes a fold |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, judged in found.items():
        theirs = NUMBERS.accuracy.get(name)
        leak, loss, old = judged.leak, _loss(judged), NUMBERS.loss.get(name)
        lines.append(
            f"| {name} | {_weights(judged)} | {'' if theirs is None else f'{100 * theirs:.2f} %'} "
            f"| {interval(judged.random.scores.accuracy)} | {interval(judged.grouped.scores.accuracy)} "
            f"| {100 * leak.value:.1f} ({100 * leak.low:.1f} to {100 * leak.high:.1f}) "
            f"| {'' if loss is None else f'{loss:.2f}'}{'' if old is None else f' ({old:.2f})'} "
            f"| {judged.parameters:,} | {_minutes(judged):.1f} |"
        )
    if "basic-cnn" in found:
        lines += ["", *_class_table(found["basic-cnn"])]
    return "\n".join(lines) + "\n"


def draw_accuracies(path: Path, found: Mapping[str, ClassifierReport]) -> None:
    """Accuracy with interval by both protocols, and the source's as a cross."""
    figure = Figure(figsize=(8, 1.4 + 0.5 * len(found)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(found))[::-1]
    for protocol, colour, shift in (("random", "#b64d72", 0.14), ("grouped", "#51457f", -0.14)):
        numbers: list[Estimate] = [getattr(judged, protocol).scores.accuracy for judged in found.values()]
        values = np.array([number.value for number in numbers])
        ends = np.array([(number.low, number.high) for number in numbers]).reshape(-1, 2).T
        away = np.abs(ends - values)
        label = "cells at random" if protocol == "random" else "photos kept together"
        axes.errorbar(values, places + shift, xerr=away, fmt="o", color=colour, capsize=3, label=label)
    told = [
        (NUMBERS.accuracy[name], place)
        for name, place in zip(found, places, strict=True)
        if name in NUMBERS.accuracy
    ]
    if told:
        axes.plot(*np.array(told).T, "x", color="#22232a", markersize=8, label="source 001 (no interval)")
    axes.set_yticks(places, list(found))
    axes.set_xlabel("accuracy, 95 % interval over groups of photos")
    axes.grid(axis="x", color="#eeedf2")
    axes.legend(fontsize=8, loc="best")
    figure.savefig(path, dpi=110)


def machine() -> dict[str, Any]:
    """What a machine offers: its number format, and which recipes' pretrained weights it has."""
    here = [name for name, recipe in RECIPES.items() if weights_here(recipe.architecture)]
    return {"precision": native_precision(), "weights": here}


def settings_of(entry: Entry, scale: Scale, offered: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's settings that differ from its defaults at a scale, and where weights are missing.

    Args:
        entry: the classifier.
        scale: "smoke" or "full".
        offered: as `machine` gives it.
    """
    settings = dict(entry.settings)
    if entry.recipe not in RECIPES:
        return {**settings, **(_SMOKE[entry.recipe] if scale == "smoke" else {})}
    recipe = RECIPES[entry.recipe]
    if recipe.mode != "scratch" and entry.recipe not in offered["weights"]:
        settings |= {"weights": "none", "mode": "scratch", "body_rate": 1.0}
    if recipe.mode != "linear":
        settings["precision"] = offered["precision"]
    return {**settings, **(_SMOKE_NETWORK if scale == "smoke" else {})}


def _judge(
    name: str, judge: Callable[..., ClassifierReport], out: Path, settings: Mapping[str, Any]
) -> ClassifierReport:
    """One classifier by both protocols; all share split and measurements."""
    place = out / name.replace(" ", "-")
    place.mkdir(parents=True, exist_ok=True)
    for shared in ("split.json", "measurements-auto.csv"):
        if not (place / shared).is_file():
            shutil.copyfile(out / shared, place / shared)
    return judge(place, recipe=ENTRIES[name].recipe, settings=settings)


def _numbers(judged: ClassifierReport) -> dict[str, Any]:
    return {
        "recipe": judged.recipe,
        "weights": _weights(judged),
        "parameters": judged.parameters,
        "minutes_per_fold": round(_minutes(judged), 3),
        "loss_on_unseen": _loss(judged),
        "leak_inflation": judged.leak.model_dump(mode="json"),
        "random": judged.random.scores.model_dump(mode="json"),
        "grouped": judged.grouped.scores.model_dump(mode="json"),
    }


def _weights(judged: ClassifierReport) -> str:
    if "kind" in judged.settings:
        return "measurements"
    return "random weights" if judged.settings["mode"] == "scratch" else "ImageNet"


def _minutes(judged: ClassifierReport) -> float:
    return float(np.mean([*judged.random.seconds, *judged.grouped.seconds])) / 60


def _loss(judged: ClassifierReport) -> float | None:
    """Mean cross-entropy on unseen cells at the end of the random folds, as the source's validation loss."""
    ends = [curve.unseen_loss[-1] for curve in judged.random.curves if curve.unseen_loss]
    return float(np.mean(ends)) if ends else None


def _class_table(judged: ClassifierReport) -> list[str]:
    """Precision, recall and F1 of each class by random folds beside the source's table."""
    lines = [
        "| class (basic CNN, cells at random) | precision (source) | recall (source) | F1 (source) "
        "| cells (source) |",
        "|---|---|---|---|---|",
    ]
    for name, ours in judged.random.scores.classes.items():
        theirs = NUMBERS.classes.get(name)
        old = (
            ["", "", "", ""]
            if theirs is None
            else [*(f" ({100 * share:.0f} %)" for share in theirs[:3]), f" ({theirs[3]})"]
        )
        numbers = [interval(part) for part in (ours.precision, ours.recall, ours.f1)]
        cells = [f"{mine}{other}" for mine, other in zip([*numbers, str(ours.support)], old, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
