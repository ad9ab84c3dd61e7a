"""Does a start from simulated cells save time on real ones? `auto` with and without it, the same images.

`auto` is trained on simulated cells alone. Its weights, in half precision, are written as a run folder of 10
MB or less with a card: no patient's cell went into them, so they may be passed on. Then `auto` is trained on
the given cells, once from scratch and once from those weights, and measured after the same numbers of
images. An image costs both the same time, so that other work on the machine changes nothing.

* The training on simulated cells is not counted: a user would get the weights.
* All networks start from the weights, critics too, and none is frozen; the optimisers start anew. A known
  class keeps its weights (the simulated classes have SIPaKMeD's names), new ones start around the mean of
  all, as far apart as the known ones.
* Measured at several moments, since an early lead may be gone later. Each seed gives one pair; the table has
  the mean, `result.json` every pair.
* MobileNetV2 judges (KID 2, precision, recall, coverage, class): `auto` trains against EfficientNet-Lite0
  (KID).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from cytoforge.core.device import native_precision
from cytoforge.core.files import read_json, write_atomic, write_json
from cytoforge.core.grid import PAPER
from cytoforge.core.png import decode_png, encode_png
from cytoforge.core.progress import progress
from cytoforge.core.record import Record
from cytoforge.core.run import Run
from cytoforge.data.folder import open_cells
from cytoforge.evaluation.features import DEFAULT_EXTRACTOR, SECOND_EXTRACTOR, Extractor, open_extractor
from cytoforge.experiments import contest
from cytoforge.experiments.contest import Cells, Numbers, drawn, mean_of, measure, open_cells_of, table
from cytoforge.experiments.scale import Ascending, Scale
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.stages.phantom import phantom
from cytoforge.stages.starting_weights import require_small, write_starting_weights
from cytoforge.stages.train import plan, shape_of, train

METHOD = "auto"
STARTS = ("scratch", "warm")
EACH = 3
"""Cells of each class in the picture."""

COLUMNS = ("KID", "KID 2", "precision", "recall", "coverage", "class", "images/s")
SIMULATED = "simulated cells only (`cytoforge phantom`, {} of each class, {} px, seed 0)"


class Budget(Record):
    """What the comparison costs.

    Attributes:
        resolution: side of the images, in pixels.
        simulated: simulated cells of each class, and their side in pixels.
        simulated_images: shown in the training on them.
        images: moments of measurement, in images shown in the training on the given cells.
        seeds: a pair of trainings each.
        drawn: images of each class that are measured.
        settings: of the method and the loop, the same for all.
    """

    resolution: int = Field(ge=16)
    simulated: tuple[int, int]
    simulated_images: int = Field(ge=1)
    images: Ascending[PositiveInt]
    seeds: Ascending[NonNegativeInt]
    drawn: int = Field(ge=1)
    settings: dict[str, Any] = Field({})


@dataclass(frozen=True)
class Judge:
    """A judging network and the given cells as it sees them."""

    network: Extractor
    cells: Cells


BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(
        resolution=32, simulated=(40, 48), simulated_images=320, images=(160, 320), seeds=(0,), drawn=20
    ),
    "full": Budget(
        resolution=64,
        simulated=(600, 96),
        simulated_images=16_000,
        images=(2_000, 4_000, 8_000),
        seeds=(0,),
        drawn=200,
    ),
}
"""`full` trains on 16,000 + 2 x 8,000 images, with which `auto` is busy for about 45 minutes of one core."""


def run(data: Path | None, out: Path, scale: Scale, budget: Budget | None = None) -> dict[str, Any]:
    """Train on simulated cells, then on the given ones with and without that start; what is done is kept.

    Args:
        data: folder of labelled cells, or None for other simulated ones (which shows that all works, no
            more).
        out: folder for weights/, result.json, table.md, cells.png and curves.png.
        scale: "smoke" takes minutes, "full" three quarters of an hour.
        budget: instead of the scale's.

    Returns:
        What result.json holds.

    Raises:
        ConfigError: MobileNetV2, which judges, is not installed.
    """
    budget = budget or BUDGETS[scale]
    networks = [open_extractor(name) for name in (DEFAULT_EXTRACTOR, SECOND_EXTRACTOR)]
    folder = data if data is not None else _simulated(out / "cells", budget, seed=1)
    weights = _weights(out, budget)
    judged = [Judge(network, open_cells_of(folder, out, _shared(budget), network)) for network in networks]
    measured: dict[str, list[Numbers]] = {}
    with progress("warm start", len(budget.seeds) * len(STARTS) * len(budget.images)) as advance:
        for seed, start, seen in product(budget.seeds, STARTS, budget.images):
            begin = weights if start == "warm" else None
            numbers = _measured(out / f"{start}-{seed}", judged, budget, seen, seed, begin)
            measured.setdefault(_row(start, seen), []).append(numbers)
            advance(1)
    means = {name: mean_of(each) for name, each in measured.items()}
    write_atomic(out / "table.md", table(means, COLUMNS) + "\n")
    write_atomic(out / "cells.png", encode_png(_rows(out, budget), {"Synthetic": "true"}))
    _curves(out / "curves.png", means, budget)
    result = {
        "experiment": "warm-start",
        "scale": scale,
        "budget": budget.model_dump(),
        "judges": [each.network.name for each in judged],
        "weights_bytes": next((weights / "checkpoints").glob("*/tensors.safetensors")).stat().st_size,
        "numbers": means,
        "pairs": measured,
    }
    write_json(out / "result.json", result)
    return result


def _row(start: str, seen: int) -> str:
    return f"{start}, {seen:,} images"


def _shared(budget: Budget) -> contest.Budget:
    """The part of the budget that drawing and measuring need."""
    return contest.Budget(resolution=budget.resolution, images=1, batch=1, drawn=budget.drawn)


def _simulated(folder: Path, budget: Budget, seed: int) -> Path:
    if not (folder / "truth.json").is_file():
        phantom(folder, *budget.simulated, seed=seed)
    return folder


def _weights(out: Path, budget: Budget) -> Path:
    """The run folder to start from, trained on simulated cells unless it is there."""
    place = out / "weights"
    if not (place / "CARD.md").is_file():
        folder = _simulated(out / "simulated", budget, seed=0)
        chosen = plan(METHOD, "cpu", {"resolution": budget.resolution, **budget.settings})
        method = chosen.method(chosen.settings, shape_of(chosen, open_cells(folder)))
        tensors = (each for network in method.networks.values() for each in network.state_dict().values())
        require_small(tensors, f"weights for {budget.resolution} px")
        _train(folder, out / "simulated-run", budget, budget.simulated_images)
        if place.exists():
            shutil.rmtree(place)
        write_starting_weights(
            out / "simulated-run",
            place,
            SIMULATED.format(*budget.simulated),
            "No patient's cell was used at any step, so they may be passed on.",
        )
    return place


def _train(
    folder: Path,
    run: Path,
    budget: Budget,
    images: int,
    seed: int = 0,
    split: Path | None = None,
    start: Path | None = None,
) -> None:
    """Train, or go on, to so many images."""
    train(
        METHOD,
        folder,
        run,
        resolution=budget.resolution,
        images=images,
        seed=seed,
        preset="cpu",
        settings={
            "precision": native_precision(),
            "measure_every": 10**9,
            "save_every": 2_000,
            **budget.settings,
        },
        split=split,
        extractor="",
        resume=True,
        start=start,
        freeze=() if start else None,
    )


def _measured(
    place: Path, judged: Sequence[Judge], budget: Budget, seen: int, seed: int, start: Path | None
) -> Numbers:
    """Train on to so many images, draw and measure, unless it is done."""
    note = place / f"{seen}.json"
    if note.is_file():
        return dict(read_json(note))
    cells = judged[0].cells
    _train(cells.folder, place / "run", budget, seen, seed, cells.split_path, start)
    run = Run.open(place / "run")
    images = drawn(run, _shared(budget))
    first, second = (measure(images, each.cells, _shared(budget), each.network) for each in judged)
    last = run.last("losses")
    assert last is not None
    numbers = {
        **second,
        "KID": first["kid"],
        "KID 2": second["kid"],
        "images/s": last["seen"] / last["seconds"],
    }
    shown = images.reshape(-1, budget.drawn, *images.shape[1:])[:, :EACH]
    picture = labelled_rows({_row(place.name, seen): shown.reshape(-1, *images.shape[1:])})
    write_atomic(place / f"{seen}.png", encode_png(picture, {"Synthetic": "true"}))
    write_json(note, numbers)
    return numbers


def _rows(out: Path, budget: Budget) -> NDArray[np.uint8]:
    """The pictures of the first seed below each other, moment by moment."""
    pictures = [
        decode_png((out / f"{start}-{budget.seeds[0]}" / f"{seen}.png").read_bytes())[0]
        for seen in budget.images
        for start in STARTS
    ]
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate(
        [
            np.pad(
                picture,
                ((0, 0), (width - picture.shape[1], 0), (0, 0)),
                mode="constant",
                constant_values=PAPER,
            )
            for picture in pictures
        ]
    )


def _curves(path: Path, means: Mapping[str, Numbers], budget: Budget) -> None:
    """Kernel distance and recall by MobileNetV2 against the images seen, a line a start."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for panel, name in zip(figure.subplots(1, 2), ("KID 2", "recall"), strict=True):
        for start in STARTS:
            values = [means[_row(start, seen)][name] for seen in budget.images]
            panel.plot(budget.images, values, marker="o", label=start)
        panel.set(xlabel="images seen", ylabel=name, ylim=(0, None), xlim=(0, None))
        panel.legend(frameon=False)
    figure.savefig(path, dpi=110)
