"""SynCGAN's triplets: masks per class from noise, cells from masks (source 002, the generation part).

Source 002 (Dey et al., 2020) draws binary masks with a GAN for each class, paints cells onto them with a
U-Net and shows the pictures; whether image and mask agree, and whether drawn masks are like real ones, it
does not measure. Here both are: Dice of a segmenter that learned from real cells, beside the same figure
for real pairs, and the Wasserstein distance between real and drawn areas of nucleus and cell, per class.

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
  class too; the first contestant's sees the mask alone, as there.
* The effect on classifiers (the source's tables 2 and 3) is the experiment syncgan-2020.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.mask import BACKGROUND, NUCLEUS
from cytoforge.core.png import decode_png
from cytoforge.data.cache import CachedCells, open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split
from cytoforge.data.transform import Preparation
from cytoforge.experiments.contest import cells_for, kept, table
from cytoforge.experiments.scale import Scale
from cytoforge.sampling.provenance import read_manifest
from cytoforge.stages.agreement import agreement
from cytoforge.stages.generate import generate
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


@dataclass(frozen=True)
class Budget:
    """What one training may cost; see `paired_pathology.Budget`."""

    resolution: int
    images: int
    width: int
    per_class: int
    drawn: int
    segmenter_images: int


BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(32, 128, 8, 20, 4, 320),
    "full": Budget(64, 60_000, 32, 200, 100, 12_000),
}


def contestants(budget: Budget) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> preset and settings."""
    narrow = {
        **{"width": budget.width, "most_width": 8 * budget.width, "discriminator_width": budget.width},
        **{"mask_discriminator_width": budget.width, "batch": 16, "precision": "32-true"},
    }
    return {
        "source": ("source", {**narrow, "mask_width": budget.width, "mask_most_width": 8 * budget.width}),
        "one conditional mask GAN": ("cpu", narrow),
    }


def run(data: Path | None, out: Path, scale: Scale) -> dict[str, Any]:
    """Train both contestants, draw triplets, measure agreement and areas; what is done is kept.

    Args:
        data: folder of cells with masks, or None for simulated ones.
        out: folder for result.json, table.md and a folder for each contestant (run, set, agreement).
        scale: "smoke" or "full".

    Returns:
        What result.json holds.
    """
    budget = BUDGETS[scale]
    folder = cells_for(data, out, budget.per_class, 96)
    numbers: dict[str, dict[str, float]] = {}
    details = {}
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
        apart = areas(place / "set", folder, Split.load(trained.split_path), budget.resolution)
        details[name] = {"agreement": found, "areas": apart}
        numbers[name] = {
            **{f"Dice {part}": found["synthetic"][part]["value"] for part in ("nucleus", "cell")},
            **{key: float(np.mean([each[key] for each in apart.values()])) for key in ("nucleus", "cell")},
        }
        numbers["real pairs"] = {f"Dice {part}": found["real"][part]["value"] for part in ("nucleus", "cell")}
    write_atomic(out / "table.md", table(numbers, ("Dice nucleus", "Dice cell", "nucleus", "cell")) + "\n")
    result = {
        "experiment": "syncgan-triplets",
        "scale": scale,
        "budget": asdict(budget),
        "source": asdict(SOURCE),
        "numbers": numbers,
        "details": details,
    }
    write_json(out / "result.json", result)
    return result


def areas(synthetic: Path, real: Path, split: Split, resolution: int) -> dict[str, dict[str, float]]:
    """Class -> Wasserstein distance between drawn and real areas, as shares of the image.

    Args:
        synthetic: set with masks.
        real: folder of real cells with masks; those not trained on count.
        split: of the training.
        resolution: in pixels.
    """
    cached = open_cache(open_cells(real), Preparation(resolution=resolution))
    held = cached.select((*split.names("val"), *split.names("test"))).with_masks()
    manifest = read_manifest(synthetic)
    distances = {}
    for label, name in enumerate(manifest.header.classes):
        drawn = [
            decode_png((synthetic / str(entry.mask)).read_bytes(), "L")[0]
            for entry in manifest.images
            if entry.label == name
        ]
        own = _masks_of(held, label)
        if drawn and len(own):
            ours, theirs = _shares(np.stack(drawn)), _shares(own)
            distances[name] = {part: float(wasserstein_distance(theirs[part], ours[part])) for part in ours}
    return distances


def _masks_of(cells: CachedCells, label: int) -> NDArray[np.uint8]:
    assert cells.masks is not None
    own: NDArray[np.uint8] = cells.masks[cells.labels == label]
    return own


def _shares(masks: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Areas (N,) of nucleus and whole cell, as shares of the image."""
    return {
        "nucleus": (masks == NUCLEUS).mean(axis=(1, 2)),
        "cell": (masks != BACKGROUND).mean(axis=(1, 2)),
    }
