"""A pretrained text-to-image model on labelled cells: does it fit into memory, and does teaching it help?

Source 001 says that such models draw cells with decent resolution that are "often 'cartoonish'", probably
since they never saw cells, and that to fine-tune them "the memory requirement is beyond our current compute
capacity". It names no model and no number, so there are none to match; both statements are measured here.

* **Memory.** One step of training and two pictures by each means of saving, on top of those before and in a
  process of its own; the first is training without any. On a graphics card the peak is of its memory, else of
  main memory (which holds Python and its libraries too, about half a GiB).
* **Teaching.** The model draws every class from its prompt alone, as it comes; then after low-rank additions
  (LoRA) have learned the training cells, from the same noise; then, with a control network (ControlNet), onto
  the outlines of training cells. Forms are borrowed from these, so `nearer_to_train` of the last says what
  that costs.

What differs from the source, and why:

* The model is whatever `--set checkpoint=` names, a folder in diffusers' layout or a name on the hub, Stable
  Diffusion 1, 2, XL or Flux: weights do not come with this package. So there is no page of results either.
* Prompts name the class and say what it looks like (`methods.text_to_image.DESCRIPTIONS`).
* Numbers are by EfficientNet-Lite0, against which nothing here trains, and against cells of other photos.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from cytoforge.core.batch import DataShape, to_float
from cytoforge.core.errors import ConfigError
from cytoforge.core.files import write_atomic
from cytoforge.core.run import Run
from cytoforge.evaluation.features import Extractor, open_extractor
from cytoforge.experiments import contest
from cytoforge.experiments.apart import train_apart
from cytoforge.experiments.contest import (
    PHANTOM,
    Cells,
    Contestant,
    Outcome,
    cells_for,
    compete,
    conclude,
    images_of,
    kept,
    measure,
    open_cells_of,
    table,
)
from cytoforge.experiments.scale import Scale
from cytoforge.methods.text_to_image import TextToImage
from cytoforge.networks.unet import edges
from cytoforge.sampling.generator import Generator, open_generator
from cytoforge.stages.train import plan

METHOD = "text-to-image"
UNTAUGHT, TAUGHT, STEERED = "as it comes", "taught (LoRA)", "onto outlines (ControlNet)"

_KILLED = -9
"""How a process ends that the system takes for too large."""

_COLUMNS = ("kid", "precision", "recall", "coverage", "class", "diversity", "nearer_to_train", "seconds")


class Budget(contest.Budget):
    """What each contestant gets.

    Attributes:
        checkpoint: folder or hub name of the pretrained model.
        settings: of the method, the same for all.
    """

    checkpoint: str = ""
    settings: dict[str, Any] = Field({})


BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(resolution=32, images=16, batch=4, drawn=2, settings={"size": 64, "steps": 4}),
    "full": Budget(resolution=128, images=8_000, batch=4, drawn=50, settings={"size": 512}),
}


def run(data: Path | None, out: Path, scale: Scale, budget: Budget | None = None) -> dict[str, Any]:
    """Measure memory, draw untaught, teach and draw, teach outlines and draw; what is finished is kept.

    Args:
        data: folder of labelled cells, or None for simulated ones.
        out: folder for result.json, table.md, cells.png, curves.png, memory.json and both trainings.
        scale: "smoke" or "full".
        budget: instead of the scale's; its `checkpoint` must be set.

    Returns:
        What result.json holds.

    Raises:
        ConfigError: no checkpoint was named, it cannot be loaded, or a step failed for another reason than
            its memory.
    """
    budget = budget or BUDGETS[scale]
    if not budget.checkpoint:
        raise ConfigError(
            "this experiment starts from a pretrained model: --set checkpoint=FOLDER (or a hub name such as "
            "owner/model)."
        )
    folder, extractor = cells_for(data, out, *PHANTOM[scale]), open_extractor()
    memory = kept(out / "memory.json", lambda: _memory(folder, out / "memory", budget))
    cells = open_cells_of(folder, out, budget, extractor)
    outcomes = {UNTAUGHT: _untaught(cells, out, budget, extractor)}
    for name, place, condition in ((TAUGHT, "lora", "none"), (STEERED, "controlnet", "edges")):
        entry = Contestant(METHOD, _settings(budget, condition=condition), "cpu")
        draw = partial(_drawn, cells=cells, condition=condition)
        outcomes[name] = compete(entry, cells, out / place / "run", budget, extractor, draw)
    result = conclude(
        METHOD, scale, out, budget, cells, outcomes, _COLUMNS, each=2, judge=extractor.name, memory=memory
    )
    needs = {name: {} if gib is None else {"GiB": gib} for name, gib in memory.items()}
    pages = [(out / "table.md").read_text(encoding="utf-8"), table(needs, ["GiB"])]
    write_atomic(out / "table.md", "\n".join(pages) + "\n\nWithout a number: it did not fit.\n")
    return result


def _settings(budget: Budget, **changed: Any) -> dict[str, Any]:
    return {"checkpoint": budget.checkpoint, "weights": "bf16", **budget.settings, **changed}


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def savings(batch: int, card: bool) -> dict[str, dict[str, Any]]:
    """Settings of each means of saving memory, to be put on top of those before.

    Args:
        batch: images of a step.
        card: there is a graphics card; the last does something there only.
    """
    every: dict[str, dict[str, Any]] = {
        "float32, all activations kept": {"weights": "32-true", "checkpointing": False},
        "frozen weights in bfloat16": {"weights": "bf16"},
        "activations computed again": {"checkpointing": True},
        "images of a step one by one": {"accumulate": batch},
        "frozen weights lent layer by layer": {"offload": True},
    }
    return every if card else dict(list(every.items())[:-1])


def _memory(folder: Path, place: Path, budget: Budget) -> dict[str, float | None]:
    """Peak of each way to take a step, in GiB; None where it did not fit."""
    found, settings = dict[str, float | None](), _settings(budget, batch=budget.batch, measure_images=2)
    for number, (name, saving) in enumerate(savings(budget.batch, torch.cuda.is_available()).items()):
        settings |= saving
        step = partial(_step, folder, place / str(number), budget, dict(settings))
        found[name] = kept(place / f"{number}.json", step)
    return found


def _step(folder: Path, run: Path, budget: Budget, settings: Mapping[str, Any]) -> float | None:
    """Peak of one step and two pictures in GiB, or None where they did not fit."""
    words = [METHOD, str(folder), "--run", str(run), "--images", str(budget.batch), "--preset", "cpu"]
    words += ["--resolution", str(budget.resolution), "--resume"]
    log = run.with_suffix(".log")
    ended = train_apart([*words, *(f"--set={key}={value}" for key, value in settings.items())], log)
    if ended.code == _KILLED or (ended.code and "out of memory" in log.read_text(encoding="utf-8").lower()):
        return None
    if ended.code:
        raise ConfigError(f"a step of training failed (exit code {ended.code}): see {log}.")
    last = Run.open(run).last("losses")
    assert last is not None
    return float(last.get("device_gib", ended.gib))


def _untaught(cells: Cells, out: Path, budget: Budget, extractor: Extractor) -> Outcome:
    """What the model draws before any training."""
    chosen = plan(METHOD, "cpu", _settings(budget))
    shape = DataShape(budget.resolution, cells.classes)
    method = chosen.method(chosen.settings, shape)
    assert isinstance(method, TextToImage)
    images = images_of(Generator(method.on(_device()), shape, _device()), budget)
    numbers = kept(out / "untaught.json", lambda: measure(images, cells, budget, extractor))
    return Outcome(numbers, {}, images, None)


def _drawn(run: Run, budget: contest.Budget, cells: Cells, condition: str) -> NDArray[np.uint8]:
    """Images of a training, onto outlines of training cells of their class where these are its condition."""
    generator = open_generator(run, "newest", _device().type)
    if condition == "none":
        return images_of(generator, budget)
    own = [np.flatnonzero(cells.train_labels == label) for label in range(len(cells.classes))]
    rows = np.concatenate([np.resize(members, budget.drawn) for members in own])
    return images_of(generator, budget, edges(to_float(cells.train[rows])))
