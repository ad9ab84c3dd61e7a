"""Several methods trained alike on the same cells, measured alike and drawn side by side.

Who is finished is kept: a contest that was interrupted goes on in the same folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline
from torch import Tensor

from cytoforge.core.device import native_precision
from cytoforge.core.errors import CheckpointError, TrainingError
from cytoforge.core.files import read_json, write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.core.record import Record
from cytoforge.core.run import SPLIT, Run
from cytoforge.data.cache import open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.classes import train_classifier
from cytoforge.evaluation.diversity import class_distances, diversity, precision_recall_density_coverage
from cytoforge.evaluation.features import Extractor, extract
from cytoforge.evaluation.fidelity import kernel_distance
from cytoforge.evaluation.memorisation import Photos, nearer_to_train
from cytoforge.evaluation.regimes import draw_cells as draw_real
from cytoforge.experiments.scale import Scale
from cytoforge.sampling.generator import Generator, open_generator
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.sampling.seeds import default_seeds
from cytoforge.stages.phantom import phantom
from cytoforge.stages.split import split_once
from cytoforge.stages.train import train

Numbers = dict[str, float]

PHANTOM: dict[Scale, tuple[int, int]] = {"smoke": (40, 48), "full": (400, 96)}
"""Simulated cells where no folder is given: of each class, and their side in pixels."""


class Budget(Record):
    """What every contestant gets.

    Attributes:
        resolution: side of the images, in pixels.
        images: training images seen.
        batch: images in one step.
        drawn: images of each class that are generated and measured.
        seed: of everything.
    """

    resolution: int = Field(ge=16)
    images: int = Field(ge=1)
    batch: int = Field(ge=1)
    drawn: int = Field(ge=1)
    seed: int = 0


@dataclass(frozen=True)
class Contestant:
    """One training.

    Attributes:
        method: word such as "gan".
        settings: what differs from the defaults.
        preset: settings by name.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "default"


@dataclass(frozen=True)
class Cells:
    """The cells that all contestants train on and are measured against.

    Attributes:
        folder: of the cells.
        split_path: split.json; training uses its part "train" alone.
        classes: names.
        train: (T, R, R, 3).
        train_labels: (T,).
        train_features: (T, D).
        held: (H, R, R, 3) cells that no training sees.
        held_labels: (H,).
        held_features: (H, D).
        photos: of each training and each held cell.
    """

    folder: Path
    split_path: Path
    classes: tuple[str, ...]
    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    train_features: NDArray[np.float64]
    held: NDArray[np.uint8]
    held_labels: NDArray[np.int64]
    held_features: NDArray[np.float64]
    photos: Photos

    @cached_property
    def classifier(self) -> Pipeline | None:
        """Learned from the features of the training cells; None where there is one class alone."""
        return train_classifier(self.train_features, self.train_labels) if len(self.classes) > 1 else None

    def recognised(self, features: NDArray[np.float64], labels: NDArray[np.int64]) -> Numbers:
        """Share of images whose class `classifier` recognises, of all classes alike: {"class": share}."""
        if self.classifier is None:
            return {}
        return {"class": float(balanced_accuracy_score(labels, self.classifier.predict(features)))}


@dataclass(frozen=True)
class Outcome:
    """What a training gave.

    Attributes:
        numbers: "kid", "precision", "recall", "coverage", "class" (share recognised by a classifier of
            training cells), "diversity" (a share of real cells'), "nearer_to_train" (0.5 without copying),
            "seconds" of training.
        losses: name -> (images seen, values).
        images: (classes * drawn, R, R, 3), one class after the other; None where nothing could be drawn.
        stopped: the alarm that ended the training early, or None.
    """

    numbers: Numbers
    losses: dict[str, tuple[list[float], list[float]]]
    images: NDArray[np.uint8] | None
    stopped: str | None


def cells_for(data: Path | None, out: Path, per_class: int, size: int) -> Path:
    """The folder of cells: the one that was given, or simulated ones written to `out`/phantom."""
    if data is not None:
        return data
    folder = out / "phantom"
    if not (folder / "truth.json").is_file():
        phantom(folder, per_class=per_class, size=size)
    return folder


def open_cells_of(
    folder: Path, out: Path, budget: Budget, extractor: Extractor, few: int | None = None
) -> Cells:
    """Divide the cells and look at both sides once.

    Args:
        folder: of the cells.
        out: where split.json goes, which later calls go by.
        budget: gives resolution and seed.
        extractor: what the numbers are measured with.
        few: cells of each class to train on, the others of the training part are left out; None takes all.

    Raises:
        DataError: the cells are not those of the split.json that is there.
    """
    opened, path = open_cells(folder), out / SPLIT
    division = split_once(opened, path, budget.seed)
    if few is not None:
        division = _fewer(division, few, {cell.name: cell.label for cell in opened.cells})
        path = out / f"split-{few}.json"
        division.save(path)
    cached = open_cache(opened, Preparation(resolution=budget.resolution))
    train_cells = cached.select(division.names("train"))
    held = cached.select((*division.names("val"), *division.names("test")))
    seen, unseen, groups = np.asarray(train_cells.images), np.asarray(held.images), division.groups
    return Cells(
        folder,
        path,
        cached.shape.classes,
        seen,
        train_cells.labels,
        extract(seen, extractor),
        unseen,
        held.labels,
        extract(unseen, extractor),
        ([groups[name] for name in train_cells.names], [groups[name] for name in held.names]),
    )


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """The content of a JSON file, made and written first where there is none."""
    if not path.is_file():
        write_json(path, make())
    return read_json(path)


def drawn(run: Run, budget: Budget) -> NDArray[np.uint8]:
    """`budget.drawn` images of each class from the newest checkpoint, one class after the other."""
    return images_of(open_generator(run, "newest"), budget)


def images_of(generator: Generator, budget: Budget, condition: Tensor | None = None) -> NDArray[np.uint8]:
    """The same from any generator, drawn from a condition where one is given, see `Generator.images`."""
    wanted = default_seeds(generator.classes, budget.drawn)
    labels = [generator.classes.index(name) for name, _ in wanted]
    return generator.images(labels, [seed for _, seed in wanted], condition=condition)


def compete(
    entry: Contestant,
    cells: Cells,
    run: Path,
    budget: Budget,
    extractor: Extractor,
    draw: Callable[[Run, Budget], NDArray[np.uint8]] = drawn,
) -> Outcome:
    """Train one contestant and measure it, or go on where the same call was interrupted.

    Args:
        entry: what to train.
        cells: the cells.
        run: folder for the run; what stopped.json and numbers.json there hold is not done again.
        budget: how long, how large.
        extractor: what the numbers are measured with.
        draw: gives the images that are measured.
    """
    stopped = kept(run / "stopped.json", lambda: _trained(entry, cells, run, budget))
    folder = Run.open(run)
    seconds = {"seconds": float(folder.read_log()[-1]["seconds"])}
    try:
        images = draw(folder, budget)
    except CheckpointError:
        return Outcome(seconds, curves_of(folder), None, stopped or "nothing was saved")
    numbers = kept(run / "numbers.json", lambda: measure(images, cells, budget, extractor))
    return Outcome({**numbers, **seconds}, curves_of(folder), images, stopped)


def measure(images: NDArray[np.uint8], cells: Cells, budget: Budget, extractor: Extractor) -> Numbers:
    """Numbers of generated images against cells that no training saw; see `Outcome`."""
    features = extract(images, extractor)
    k = min(5, len(cells.held_features) - 1, len(features) - 1)
    cloud = precision_recall_density_coverage(cells.held_features, features, k)
    labels = np.repeat(np.arange(len(cells.classes)), budget.drawn)
    share = diversity(
        class_distances(features, labels), class_distances(cells.held_features, cells.held_labels)
    )
    return {
        "kid": kernel_distance(cells.held_features, features),
        **{name: cloud[name] for name in ("precision", "recall", "coverage")},
        **cells.recognised(features, labels),
        **({} if share is None else {"diversity": share}),
        "nearer_to_train": float(
            nearer_to_train(features, cells.train_features, cells.held_features, cells.photos).mean()
        ),
    }


def floor(cells: Cells, budget: Budget) -> Numbers:
    """The same numbers of real training cells against the cells that are held back: as good as it gets.

    Recall and coverage grow with the number of images, so there are `budget.drawn` of each class here too,
    or all where a class has fewer.
    """
    rows, photos = np.arange(len(cells.train_labels)), [str(photo) for photo in cells.photos[0]]
    real = cells.train_features[draw_real(rows, cells.train_labels, photos, budget.drawn, budget.seed)]
    k = min(5, len(cells.held_features) - 1, len(real) - 1)
    cloud = precision_recall_density_coverage(cells.held_features, real, k)
    return {
        "kid": kernel_distance(cells.held_features, real),
        **{name: cloud[name] for name in ("precision", "recall", "coverage")},
        **cells.recognised(cells.held_features, cells.held_labels),
    }


def curves_of(run: Run) -> dict[str, tuple[list[float], list[float]]]:
    """Losses of a run by name: (images seen, values)."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for record in run.read_log():
        for name, value in record.get("losses", {}).items() if record["kind"] == "losses" else ():
            seen, values = series.setdefault(name, ([], []))
            seen.append(float(record["seen"]))
            values.append(float(value))
    return series


def draw_cells(
    path: Path, outcomes: Mapping[str, Outcome], cells: Cells, budget: Budget, each: int = 2
) -> None:
    """One row of cells for each contestant, the same seeds and classes in each.

    `path` shows synthetic cells alone, beside-real.png in its folder has a row of real ones on top.
    """
    real = [cells.held[cells.held_labels == label][:each] for label in range(len(cells.classes))]
    rows = {}
    chosen = [label * budget.drawn + index for label in range(len(cells.classes)) for index in range(each)]
    for name, outcome in outcomes.items():
        if outcome.images is not None:
            rows[name] = outcome.images[chosen]
    note = f"{each} cells of each class: {', '.join(cells.classes)}"
    if rows:
        write_atomic(path, encode_png(labelled_rows(rows, f"synthetic, {note}"), {"Synthetic": "true"}))
    told = f"all but the first row are synthetic; {note}"
    beside = labelled_rows({"real cells": np.concatenate(real), **rows}, told)
    write_atomic(path.with_name("beside-real.png"), encode_png(beside, {"Content": told}))


def draw_curves(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """The losses of each contestant over the images seen, one panel each."""
    columns = 4
    rows = -(-len(outcomes) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(outcomes) :]:
        panel.set_visible(False)
    for panel, (name, outcome) in zip(panels, outcomes.items(), strict=False):
        for loss, (seen, values) in outcome.losses.items():
            panel.plot(seen, values, label=loss, linewidth=1.2)
        panel.set_title(name + (" (stopped)" if outcome.stopped else ""), fontsize=9, loc="left")
        panel.tick_params(labelsize=7)
        if outcome.losses:
            panel.legend(fontsize=6, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def mean_of(each: Sequence[Numbers]) -> Numbers:
    """Mean of each number that all repeats have.

    Example:
        >>> mean_of([{"kid": 0.25, "recall": 0.5}, {"kid": 0.75}])
        {'kid': 0.5}
    """
    shared = [name for name in each[0] if all(name in numbers for numbers in each)]
    return {name: float(np.mean([numbers[name] for numbers in each])) for name in shared}


def table(outcomes: Mapping[str, Numbers], columns: Sequence[str]) -> str:
    """Numbers as a Markdown table, one row a name.

    Example:
        >>> print(table({"gan": {"kid": 0.12345}}, ["kid"]))
        | | kid |
        |---|---|
        | gan | 0.123 |
    """
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, numbers in outcomes.items():
        cells = [f"{numbers[column]:.3f}" if column in numbers else "" for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def conclude(
    name: str,
    scale: Scale,
    out: Path,
    budget: Budget,
    cells: Cells,
    outcomes: Mapping[str, Outcome],
    columns: Sequence[str],
    each: int = 2,
    **more: Any,
) -> dict[str, Any]:
    """Write cells.png, beside-real.png, curves.png, table.md and result.json.

    Args:
        name: of the experiment.
        scale: at which it ran.
        out: folder for the results.
        budget: what every contestant got.
        cells: what the outcomes are measured against; their floor heads the table.
        outcomes: by the name under which they are drawn.
        columns: numbers of the table.
        each: cells of each class in the picture.
        more: further content of result.json.

    Returns:
        What result.json holds.
    """
    draw_cells(out / "cells.png", outcomes, cells, budget, each)
    draw_curves(out / "curves.png", outcomes)
    numbers = {"real cells (floor)": floor(cells, budget)}
    numbers |= {key: outcome.numbers for key, outcome in outcomes.items()}
    write_atomic(out / "table.md", table(numbers, columns) + "\n")
    result = {
        "experiment": name,
        "scale": scale,
        "budget": budget.model_dump(),
        "cells": {"train": len(cells.train), "held": len(cells.held), "classes": list(cells.classes)},
        **more,
        "numbers": numbers,
        "stopped": {key: outcome.stopped for key, outcome in outcomes.items() if outcome.stopped},
    }
    write_json(out / "result.json", result)
    return result


def _trained(entry: Contestant, cells: Cells, run: Path, budget: Budget) -> str | None:
    """Train, or go on; the alarm that ended it early, or None."""
    settings = {
        "batch": budget.batch,
        "precision": native_precision(),
        "log_every": max(budget.batch, budget.images // 40),
        "save_every": max(budget.batch, budget.images // 4),
        "measure_every": budget.images,
        "average_half_life": max(1, min(10_000, budget.images // 10)),
        **entry.settings,
    }
    try:
        train(
            entry.method, cells.folder, run, resolution=budget.resolution, images=budget.images,
            seed=budget.seed, preset=entry.preset, settings=settings, split=cells.split_path, extractor="",
            resume=True,
        )  # fmt: skip
    except TrainingError as error:
        return str(error)
    return None


def _fewer(division: Split, few: int, labels: Mapping[str, str]) -> Split:
    """The split with `few` training cells a class, photo by photo; the others are left out.

    They are no test cells: all contestants are measured against the same ones.
    """
    parts, counts = dict(division.parts), dict[str, int]()
    for name in sorted(division.names("train"), key=lambda name: (division.groups[name], name)):
        label = labels[name]
        counts[label] = counts.get(label, 0) + 1
        if counts[label] > few:
            del parts[name]
    spared = division.parts.keys() - parts.keys()
    left_out = (*division.left_out, *sorted(spared))
    return division.model_copy(update={"parts": parts, "left_out": left_out})
