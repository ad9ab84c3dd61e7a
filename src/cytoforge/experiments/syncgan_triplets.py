"""SynCGAN's triplets: masks per class from noise, cells from masks (source 002, the generation part).

Source 002 (Dey et al., 2020) draws binary masks with a GAN for each class, paints cells onto them with a
U-Net and shows the pictures; whether image and mask agree, and whether drawn masks are like real ones, it
does not measure. Here both are: Dice of a segmenter that learned from real cells, beside the same figure
for real pairs; and for each class the distance between real and drawn cells in every measurement of nucleus
and cytoplasm and in the N:C ratio, beside that of real cells among themselves (`evaluation.morphometry`).

What differs from the source, and why:

* Its 156 fine-needle images are not public. The protocol runs on any labelled cells with masks, or on
  simulated ones. Its masks mark nuclei only; ours have cytoplasm too, so that N:C ratios can be compared.
* A mask generator of its kind, a U-Net, needs an image to start from; the source says "a seed from a
  Gaussian distribution". Here: noise in blocks of 8 px.
* The source exchanges real and fake "at some random iterations", all images of a step at once, and does not
  say how often. Here 5 % of the images are exchanged, each by its own chance, so that an image's label does
  not depend on the others of its batch: in every second step of 16 images at least one is.
* 200 and 1,600 epochs at an unknown resolution become equal numbers of images for painter and mask GAN, at
  32 px (smoke) or 64 px (full); the checkpoint is the last, not that of the least validation loss, which
  for the source is dominated by 100 times the squared difference.
* A second contestant has one mask GAN that is told the class, a decoder of a noise vector with R1, because
  small classes starve: with 75 cells a class each of the source's GANs sees 45. Its painter is told the
  class and gets a channel of noise, with group norm and without dropout; the first contestant's sees
  the mask alone, as there. The weight of the squared difference is 100 for both.
* As many cells of each class are drawn as the budget says, not two for each real one.
* The effect on classifiers (the source's tables 2 and 3) is the experiment syncgan-2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.record import Record
from cytoforge.evaluation.metrics import Morphometry
from cytoforge.evaluation.morphometry import FEWEST, RULES, TOLD, missing_parts
from cytoforge.experiments.contest import Numbers, cells_for, kept, table
from cytoforge.experiments.scale import Scale
from cytoforge.stages.agreement import agreement
from cytoforge.stages.compared import open_with_real
from cytoforge.stages.generate import generate
from cytoforge.stages.morphometry import morphometry
from cytoforge.stages.train import train


@dataclass(frozen=True)
class Source:
    """What source 002 states of the generation."""

    images_per_class: int = 75
    classes: int = 2
    epochs_painter: int = 200
    epochs_mask_gan: int = 1_600
    reconstruction_weight: float = 100.0
    label_smoothing: float = 0.1
    synthetic_per_real: float = 2.0


SOURCE = Source()


class Budget(Record):
    """What one training may cost; see `paired_pathology.Budget`."""

    resolution: int = Field(ge=16)
    images: int = Field(ge=1)
    width: int = Field(ge=4)
    per_class: int = Field(ge=1)
    drawn: int = Field(ge=1)
    segmenter_images: int = Field(ge=1)


BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(resolution=32, images=128, width=8, per_class=40, drawn=12, segmenter_images=320),
    "full": Budget(resolution=64, images=60_000, width=32, per_class=200, drawn=100, segmenter_images=12_000),
}


def contestants(budget: Budget) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> preset and settings."""
    narrow = {
        **{"width": budget.width, "most_width": 8 * budget.width, "discriminator_width": budget.width},
        **{"mask_discriminator_width": budget.width, "batch": 16, "precision": "32-true"},
    }
    ours = {**narrow, "reconstruction_weight": SOURCE.reconstruction_weight}
    return {
        "source": ("source", {**narrow, "mask_width": budget.width, "mask_most_width": 8 * budget.width}),
        "one conditional mask GAN": ("cpu", ours),
    }


def run(data: Path | None, out: Path, scale: Scale, budget: Budget | None = None) -> dict[str, Any]:
    """Train both contestants, draw triplets, measure agreement and cells; what is done is kept.

    Args:
        data: folder of cells with masks, or None for simulated ones.
        out: folder for result.json, table.md and a folder for each contestant (run, set, agreement).
        scale: "smoke" or "full".
        budget: instead of the scale's.

    Returns:
        What result.json holds.
    """
    budget = budget or BUDGETS[scale]
    folder = cells_for(data, out, budget.per_class, 96)
    numbers: dict[str, Numbers] = {}
    distances: dict[str, Numbers] = {}
    details = {}
    missing: list[str] = []
    for name, (preset, settings) in contestants(budget).items():
        place = out / name.replace(" ", "-")
        trained = train(
            "syncgan", folder, place / "run", resolution=budget.resolution, images=budget.images,
            preset=preset, settings=settings, resume=True,
        )  # fmt: skip
        generate(trained.path, place / "set", per_class=budget.drawn, checkpoint="newest")
        measure = partial(
            agreement, place / "set", folder, place / "agreement", images=budget.segmenter_images
        )
        found = kept(place / "agreement" / "agreement.json", measure)
        measured = measurements(place / "set", folder)
        details[name] = {
            "agreement": found,
            "measurements": None if measured is None else measured.model_dump(mode="json"),
        }
        for row, side in ((name, "synthetic"), ("real pairs", "real")):
            numbers[row] = agreements(found[side])
        if measured is not None:
            distances |= {f"{name}, {feature}": over_classes(measured, feature) for feature in TOLD}
            missing += [f"- {name}, {line}" for line in missing_parts(measured)]
    tables = [
        table(numbers, ("Dice nucleus", "Dice cell", "with nucleus")),
        table(distances, ("Wasserstein", "floor", "least KS p", "differs")),
        "Wasserstein and floor are means over classes, `differs` is a share of them; empty where fewer than "
        f"{FEWEST} drawn or unseen real cells of every class have it. {RULES['morphometry']}",
        *(["\n".join(missing)] if missing else []),
    ]
    write_atomic(out / "table.md", "\n\n".join(tables) + "\n")
    result = {
        "experiment": "syncgan-triplets",
        "scale": scale,
        "budget": budget.model_dump(),
        "source": asdict(SOURCE),
        "numbers": numbers,
        "distances": distances,
        "details": details,
    }
    write_json(out / "result.json", result)
    return result


def agreements(side: Mapping[str, Mapping[str, Any]]) -> Numbers:
    """Of one side of agreement.json: Dice of both parts, where there is any, and the share "with nucleus"."""
    dices = {f"Dice {part}": side[part]["value"] for part in ("nucleus", "cell")}
    known = {name: value for name, value in dices.items() if value is not None}
    return {**known, "with nucleus": side["nucleus"]["present"]}


def measurements(synthetic: Path, real: Path) -> Morphometry | None:
    """Every measurement of drawn cells against those of real cells that were not trained on.

    The validation cells of the training chose nothing here and count as unseen too.

    Args:
        synthetic: set with masks.
        real: folder of real cells with masks.

    Returns:
        None where no class has enough cells on both sides.
    """
    opened = open_with_real(synthetic, real, None, None)
    return morphometry(synthetic, opened, "given", seed=0, unseen=("val", "test"))


def over_classes(measured: Morphometry, feature: str) -> Numbers:
    """One measurement in all classes that have it: mean "Wasserstein" and "floor", "least KS p", "differs".

    The floor is the mean over classes that have one, `differs` the share of classes that differ.
    """
    rows = [found[feature] for found in measured.classes.values() if feature in found]
    floors = [row.floor for row in rows if row.floor is not None]
    if not rows:
        return {}
    return {
        "Wasserstein": float(np.mean([row.wasserstein for row in rows])),
        **({"floor": float(np.mean(floors))} if floors else {}),
        "least KS p": min(row.p_value for row in rows),
        "differs": float(np.mean([row.differs for row in rows])),
    }
