"""How adversarial training fails, each failure beside its cure (source 004).

Source 004 describes the failures in words and gives no numbers. Each is switched on by a preset of
`gan`, so that a class can repeat it with `cytoforge train gan DATA --preset overpowering-discriminator`
(or `mode-collapse`, `memorising`), and is detected by a number:

* An overpowering discriminator under the minimax loss: the gradient that reaches a generated image
  vanishes. The number is its length as a share of the non-saturating loss's with the same two networks.
* Mode collapse by a generator four times faster than its discriminator: diversity, the pairwise distance
  inside a class as a share of real cells', falls, and recall with it.
* Memorising a handful of cells without augmentation: the share of images nearer to training
  than to held-back cells rises from 0.5 towards 1. The smoke scale is too short for it: four cells of each
  SIPaKMeD class at 32 px gave 0.68 after 8,000 images, 0.77 after 16,000, 0.95 after 32,000.

The cures are settings too: the non-saturating loss with R1 and one discriminator step; the relativistic
pair with R1 and R2 at equal speeds. Memorising has two, one at a time: augmentation of the same handful, and
all training cells without augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytoforge.core.batch import Batch, to_float
from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import CheckpointError
from cytoforge.core.run import Run
from cytoforge.evaluation.features import open_extractor
from cytoforge.experiments.contest import (
    PHANTOM,
    Budget,
    Cells,
    Contestant,
    Outcome,
    cells_for,
    compete,
    conclude,
    open_cells_of,
)
from cytoforge.experiments.scale import Scale
from cytoforge.losses.adversarial import FAMILIES
from cytoforge.methods.catalogue import rebuild
from cytoforge.methods.gan import GAN
from cytoforge.training.state import load_modules

BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(resolution=32, images=2_000, batch=32, drawn=20),
    "full": Budget(resolution=64, images=40_000, batch=32, drawn=100),
}
"""Each training; `full` takes somewhat more than an hour on two cores."""

_NARROW = {"generator_channels": 16, "discriminator_channels": 16, "most_channels": 128}
_COLUMNS = (
    "kid",
    "precision",
    "recall",
    "coverage",
    "diversity",
    "nearer_to_train",
    "gradient_share",
    "seconds",
)


@dataclass(frozen=True)
class Cure:
    """What takes the failure's place.

    Attributes:
        settings: what differs from the preset.
        preset: of `gan`; the failure's where all else stays as it is there.
        few: cells of each class to train on; None for all.
    """

    settings: dict[str, Any]
    preset: str = "default"
    few: int | None = None


@dataclass(frozen=True)
class Lesson:
    """A failure and its cures.

    Attributes:
        failure: preset of `gan`.
        shown_by: the number that tells them apart.
        cures: by name.
        few: cells of each class that the failing half trains on; None for all.
    """

    failure: str
    shown_by: str
    cures: dict[str, Cure]
    few: int | None = None


LESSONS = (
    Lesson(
        "overpowering-discriminator",
        "gradient_share",
        {"cured": Cure({"loss": "non-saturating", "r1": 1.0, "r2": 0.0})},
    ),
    Lesson("mode-collapse", "diversity", {"cured": Cure({"loss": "relativistic"})}),
    Lesson(
        "memorising",
        "nearer_to_train",
        {
            "augmented": Cure({"augment": "translation,cutout"}, "memorising", few=4),
            "all cells": Cure({}, "memorising"),
        },
        few=4,
    ),
)


def run(data: Path | None, out: Path, scale: Scale, budget: Budget | None = None) -> dict[str, Any]:
    """Train each failure and its cures and measure all.

    Args:
        data: folder of labelled cells, or None for simulated ones.
        out: folder for result.json, table.md, cells.png, curves.png and the runs.
        scale: "smoke" takes minutes, "full" hours.
        budget: instead of the scale's.

    Returns:
        What result.json holds.
    """
    budget, extractor = budget or BUDGETS[scale], open_extractor()
    folder = cells_for(data, out, *PHANTOM[scale])
    opened: dict[int | None, Cells] = {None: open_cells_of(folder, out, budget, extractor)}
    size = _NARROW if scale == "smoke" else {}
    outcomes: dict[str, Outcome] = {}
    for lesson in LESSONS:
        failing = Cure({}, lesson.failure, lesson.few)
        for title, half in {"": failing, **lesson.cures}.items():
            name = f"{lesson.failure}, {title}" if title else lesson.failure
            if half.few not in opened:
                opened[half.few] = open_cells_of(folder, out, budget, extractor, few=half.few)
            cells = opened[half.few]
            entry = Contestant("gan", {**(size or _like(lesson)), **half.settings}, half.preset)
            path = out / "runs" / name.replace(", ", "-").replace(" ", "-")
            outcome = compete(entry, cells, path, budget, extractor)
            outcome.numbers.update(gradients(Run.open(path), cells))
            outcomes[name] = outcome
    return conclude(
        "gan-failures",
        scale,
        out,
        budget,
        opened[None],
        outcomes,
        _COLUMNS,
        extractor=extractor.name,
        shown_by={lesson.failure: lesson.shown_by for lesson in LESSONS},
    )


def gradients(run: Run, cells: Cells, count: int = 32) -> dict[str, float]:
    """How strongly the discriminator of a finished `gan` moves a generated image.

    Args:
        run: of a `gan`.
        cells: real cells, which relativistic losses compare with.
        count: images.

    Returns:
        Length of the generator loss's gradient, mean over images: "gradient" with the loss of the run,
        "gradient_non_saturating" with the non-saturating one on the same networks, "gradient_share" their
        ratio. Empty without checkpoint.
    """
    try:
        checkpoint = load_checkpoint(run.checkpoints)
    except CheckpointError:
        return {}
    method = rebuild(run.config)
    assert isinstance(method, GAN)
    load_modules(checkpoint.tensors, "network", method.networks)
    rows = np.linspace(0, len(cells.train) - 1, min(count, len(cells.train))).astype(int)
    labels = torch.from_numpy(cells.train_labels[rows])
    real = Batch(to_float(cells.train[rows]), labels, torch.from_numpy(rows))
    discriminator = method.networks["discriminator"]
    with torch.no_grad():
        images = method.sample(method.noise(torch.arange(len(real))), real.labels)
        real_scores = discriminator(real.images, real.labels)
    images.requires_grad_()
    found = {}
    for name, family in (("gradient", method.config.loss), ("gradient_non_saturating", "non-saturating")):
        loss = FAMILIES[family][1](real_scores, discriminator(images, real.labels))
        (gradient,) = torch.autograd.grad(loss, images)
        found[name] = len(real) * float(gradient.flatten(1).norm(dim=1).mean())
    found["gradient_share"] = found["gradient"] / found["gradient_non_saturating"]
    return found


def _like(lesson: Lesson) -> dict[str, Any]:
    """The failing preset's sizes, for a cure that differs in nothing else."""
    return {name: GAN.presets[lesson.failure][name] for name in _NARROW}
