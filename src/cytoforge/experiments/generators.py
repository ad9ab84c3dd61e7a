"""Every generative system: the same minutes, cells and seeds, two networks as judges; losers are shown too.

What is equal, and what is not:

* Minutes of wall clock on this machine, not images: a small lab has time, not a number of images. A method
  that draws slowly or trains slowly pays for it here.
* Each method has its settings for short trainings on a CPU (preset `cpu`, or `source` where the method is a
  source's to the letter). None was tuned on the held-back cells.
* EfficientNet-Lite0 judges beside MobileNetV2, since `auto`, `cvae` and `cvae-source` train against the
  first. Where the two disagree, believe the second. Copies are searched by the one that the
  method does not train against, at 64 px, and in coarse 8 x 8 pictures, whoever judges.
* Each training is a process of its own, so that its peak of memory is its own. All have one number format,
  bfloat16 where the machine has instructions for it: none measures what is faster while others are at work.
* Source 000's system is `wgan-gp`. It states 256 px and no measurement, so there is nothing to match; penalty
  10, five critic steps and Adam at 1e-4 with betas 0 and 0.9 are from the paper that it follows (Gulrajani
  et al., 2017). Here the method has 64 px and its preset `cpu`.
* Methods that paint onto masks paint onto those of validation cells, which are neither trained on nor
  measured against; `syncgan` draws its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt

from cytoforge.core.device import native_precision
from cytoforge.core.errors import ConfigError, TrainingError
from cytoforge.core.files import read_json, write_atomic, write_json
from cytoforge.core.png import decode_png, encode_png
from cytoforge.core.progress import progress
from cytoforge.core.record import Record
from cytoforge.core.run import Run
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split
from cytoforge.evaluation.features import open_extractor
from cytoforge.experiments.apart import train_apart
from cytoforge.experiments.contest import PHANTOM, Numbers, cells_for, mean_of
from cytoforge.experiments.scale import Ascending, Scale
from cytoforge.methods.catalogue import METHODS
from cytoforge.sampling.conditions import needs_masks, write_masks
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.sampling.provenance import read_manifest
from cytoforge.stages.evaluate import evaluate
from cytoforge.stages.generate import generate

JUDGES = ("efficientnet-lite0", "mobilenet-v2")


class Budget(Record):
    """What every method gets."""

    resolution: int = Field(64, description="side of the images, in pixels")
    minutes: float = Field(5.0, gt=0, description="of training")
    drawn: int = Field(200, ge=1, description="images of each class that are measured")
    seeds: Ascending[NonNegativeInt] = Field((0,), description="of a training and its division into parts")
    settings: dict[str, Any] = Field({"measure_every": 10**9}, description="of the loop, the same for all")


BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(resolution=32, minutes=0.05, drawn=20),
    "full": Budget(seeds=(0, 1)),
}

UNCONDITIONED = (
    "auto", "wgan-gp", "gan", "ebgan", "infogan", "cgan-dense", "cgan", "cvae-source", "cvae", "diffusion",
)  # fmt: skip
PAINTERS = ("auto", "pix2pix", "syncgan", "cyclegan", "diffusion-masks")
"""Methods that paint onto masks, and `auto`, which does not, for comparison."""

VARIANTS: dict[str, tuple[str, dict[str, str]]] = {"diffusion-masks": ("diffusion", {"condition": "masks"})}
"""Contestants that are a method with other settings."""

COLUMNS = (
    "KID", "KID 2", "precision", "recall", "coverage", "class", "copies", "images/s", "GiB",
)  # fmt: skip

_STOPPED_ITSELF = 3
"""Exit code of `cytoforge train` after a TrainingError."""


def run(data: Path | None, out: Path, scale: Scale, budget: Budget | None = None) -> dict[str, Any]:
    """Train, generate and evaluate each class-conditional method; what is there already is kept.

    A training that stops itself (divergence, NaN) is a result; one that fails otherwise ends the experiment.

    Args:
        data: folder of labelled cells, or None for simulated ones.
        out: folder for result.json, table.md, cells.png (of the first seed that came to an end) and a folder
            for each method in one for each seed.
        scale: "smoke" or "full".
        budget: instead of the scale's.

    Returns:
        What result.json holds.

    Raises:
        ConfigError: a judge is not installed, or a training failed; the message names its log.
    """
    return _compare("generators", UNCONDITIONED, data, out, scale, budget or BUDGETS[scale])


def run_painters(data: Path | None, out: Path, scale: Scale, budget: Budget | None = None) -> dict[str, Any]:
    """The same for methods that paint onto masks.

    Raises:
        ConfigError: a judge is not installed, the cells have no masks, or a training failed.
    """
    return _compare("mask-generators", PAINTERS, data, out, scale, budget or BUDGETS[scale])


def _compare(
    title: str, names: tuple[str, ...], data: Path | None, out: Path, scale: Scale, budget: Budget
) -> dict[str, Any]:
    for judge in JUDGES:
        open_extractor(judge)
    folder = cells_for(data, out, *PHANTOM[scale])
    if title == "mask-generators" and not any(cell.mask for cell in open_cells(folder).cells):
        raise ConfigError(f"{folder} has no masks; make some with `cytoforge mask {folder} --out FOLDER`.")
    numbers: dict[str, list[Numbers]] = {}
    floors: dict[int, Numbers] = {}
    stopped: dict[str, str] = {}
    shown: dict[str, Path] = {}
    with progress(title, len(budget.seeds) * len(names)) as advance:
        for seed, name in product(budget.seeds, names):
            place = out / f"seed-{seed}" / name
            try:
                found = _numbers(name, folder, place, budget, seed)
                numbers.setdefault(name, []).append(found)
                floors.setdefault(seed, _floors(place))
                shown.setdefault(name, place)
            except TrainingError as error:
                stopped[f"{name}, seed {seed}"] = str(error)
            advance(1)
    real = list(floors.values())
    write_atomic(out / "table.md", page(numbers, stopped, real) + "\n")
    if shown:
        write_atomic(out / "cells.png", encode_png(_cells(shown), {"Synthetic": "true"}))
    result = {
        "experiment": title,
        "scale": scale,
        "budget": budget.model_dump(),
        "judges": list(JUDGES),
        "numbers": numbers,
        "floors": real,
        "stopped": stopped,
    }
    write_json(out / "result.json", result)
    return result


def _numbers(name: str, data: Path, place: Path, budget: Budget, seed: int) -> Numbers:
    """Train, draw and measure one contestant, each stage unless it is done."""
    cost = _train(name, data, place, budget, seed)
    run = Run.open(place / "run")
    masks = None
    if needs_masks(run):
        masks = place / "masks"
        write_masks(open_cells(data), Split.load(run.split_path).names("val"), masks)
    generate(run.path, place / "set", per_class=budget.drawn, checkpoint="newest", masks=masks)
    found = {}
    for judge in JUDGES:
        measured = place / judge / "metrics.json"
        if not measured.is_file():
            evaluate(place / "set", data, place / judge, extractor=judge, real_images=False)
        found[judge] = read_json(measured)
    return {**_scores(*(found[judge] for judge in JUDGES)), **cost}


def _train(name: str, data: Path, place: Path, budget: Budget, seed: int) -> dict[str, float]:
    """Train in a process of its own, or go on; images a second and peak memory."""
    measured = place / "cost.json"
    if measured.is_file():
        return dict(read_json(measured))
    method, changed = VARIANTS.get(name, (name, {}))
    settings = {"precision": native_precision(), **budget.settings, **changed}
    kind = METHODS[method]
    preset = next((word for word in ("cpu", "source") if word in kind.presets), "default")
    words = [
        method, str(data), "--run", str(place / "run"), "--resolution", str(budget.resolution),
        "--minutes", str(budget.minutes), "--preset", preset, "--seed", str(seed), "--resume",
        *(f"--set={key}={value}" for key, value in settings.items()),
    ]  # fmt: skip
    ended = train_apart(words, place / "train.log")
    if ended.code == _STOPPED_ITSELF:
        raise TrainingError(f"{name} stopped; see {place / 'train.log'}.")
    if ended.code:
        raise ConfigError(
            f"{name} could not be trained (exit code {ended.code}): see {place / 'train.log'}, then "
            "repeat the call; what is finished is kept."
        )
    last = Run.open(place / "run").last("losses")
    assert last is not None
    cost = {"images/s": last["seen"] / last["seconds"], "GiB": ended.gib}
    write_json(measured, cost)
    return cost


def _scores(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, float]:
    """The columns of one method from both judges' metrics, without those that too few cells leave empty.

    All but the first distance are from the second judge's; copies are searched in one way for both.
    """
    classes, copies = second["class_correctness"], second["copies"]
    found = _compared(first, second, "value")
    if classes is not None:
        found["class"] = classes["accuracy"]
    if copies is not None:
        found["copies"] = copies["flagged"] / copies["checked"]
    return found


def _floors(place: Path) -> dict[str, float]:
    """The same columns for real cells against real cells, from any method's metrics."""
    first, second = (read_json(place / judge / "metrics.json") for judge in JUDGES)
    classes, copies = second["class_correctness"], second["copies"]
    found = _compared(first, second, "floor")
    if classes is not None and classes["holdout_accuracy"] is not None:
        found["class"] = classes["holdout_accuracy"]
    if copies is not None:
        found["copies"] = copies["false_alarm_rate"]
    return found


def _compared(
    first: Mapping[str, Any], second: Mapping[str, Any], end: Literal["value", "floor"]
) -> dict[str, float]:
    """The columns that compare features, without those that too few images leave empty."""
    places = {
        "KID": (first, "kernel_distance"),
        "KID 2": (second, "kernel_distance"),
        **{name: (second, name) for name in ("precision", "recall", "coverage")},
    }
    found = {column: metrics["overall"].get(name, {}).get(end) for column, (metrics, name) in places.items()}
    return {column: number for column, number in found.items() if number is not None}


def page(
    numbers: Mapping[str, Sequence[Numbers]], stopped: Mapping[str, str], floors: Sequence[Numbers]
) -> str:
    """The table in Markdown, best by the second judge first, real cells at the top, unknown numbers empty.

    Args:
        numbers: method -> columns of each seed, of which the table has means; in brackets the least and the
            greatest distance of several.
        stopped: what did not come to an end -> why.
        floors: columns of real cells against real cells, of each seed.

    Example:
        >>> found = {"gan": [{"KID 2": 0.3}], "auto": [{"KID 2": 0.1}, {"KID 2": 0.14}]}
        >>> print(page(found, {"cgan, seed 0": "NaN"}, [{"KID 2": 0.01}]))
        | | KID | KID 2 | precision | recall | coverage | class | copies | images/s | GiB |
        |---|---|---|---|---|---|---|---|---|---|
        | *real cells* |  | 0.010 |  |  |  |  |  |  |  |
        | auto |  | 0.120 (0.100 to 0.140) |  |  |  |  |  |  |  |
        | gan |  | 0.300 |  |  |  |  |  |  |  |
        | cgan, seed 0 | stopped: NaN |
    """
    ranked = sorted(numbers.items(), key=lambda entry: mean_of(entry[1]).get("KID 2", np.inf))
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, repeats in [("*real cells*", floors), *ranked]:
        values = [_over_seeds(repeats, column) for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join([*lines, *(f"| {name} | stopped: {why} |" for name, why in stopped.items())])


def _over_seeds(repeats: Sequence[Numbers], column: str) -> str:
    """The mean, with its range where it is the distance of several; empty where a seed lacks it."""
    values = [each[column] for each in repeats if column in each]
    if not values or len(values) < len(repeats):
        return ""
    span = f" ({min(values):.3f} to {max(values):.3f})" if "KID" in column and len(values) > 1 else ""
    return f"{np.mean(values):.3f}{span}"


def _cells(places: Mapping[str, Path], each: int = 2) -> np.ndarray:
    """A row for each method, the first cells of each class."""
    rows = {}
    for name, place in places.items():
        manifest = read_manifest(place / "set")
        chosen = [
            entry.file
            for label in manifest.header.classes
            for entry in sorted(
                (image for image in manifest.images if image.label == label), key=lambda image: image.seed
            )[:each]
        ]
        files = [(place / "set" / file).read_bytes() for file in chosen]
        rows[name] = np.stack([decode_png(content)[0] for content in files])
    return labelled_rows(rows, f"synthetic; the first {each} seeds of each class, nothing chosen")
