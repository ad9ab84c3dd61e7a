"""Cells painted onto masks under two discriminators (source 003): does one mask give many images?

Source 003 trains a U-Net with a channel of noise on 1,000 pairs of 256 px for 3,000 steps of 64, once
against a PatchGAN and once against a vanilla discriminator. It says that the PatchGAN collapses (one mask,
one image, whatever the noise) and the vanilla discriminator does not, from a look at four figures, and
reports a Frechet distance of about 150 where real test images are at about 140, both on 64 images. This
experiment repeats the comparison and measures the claim.

What differs from the source, and why:

* Its pairs (podocyte nuclei) are not public any more: any cells with masks will do, or simulated ones.
* Its mask has 4 channels; a mask of ours has 2 (cytoplasm, nucleus). The networks with 5 and 7 channels
  have exactly its numbers of parameters (`parameters` in result.json counts them anew). Its table of the
  vanilla discriminator stops at 8 x 8, its count is met only with one more halving.
* The class is not shown to the networks, as there. Losses are those of the tutorial it follows: cross-
  entropy and 100 times the mean absolute difference. It names neither, so the weight is also tried at 0,
  and once with a mode-seeking term.
* Sizes by option: 32 px (smoke) and 64 px (full) instead of 256, so that a CPU is enough. The generator has
  half the width at 64 px.
* Distances are measured on all held-back cells and as many training cells, not on 64, with a kernel
  distance (unbiased for small samples) beside the Frechet distance, and with the floor of real against
  real.
* Noise is drawn anew for each image, in training and after; dropout is off after training, where the
  tutorial leaves it on. So what diversity there is comes from the channel of noise alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from cytoforge.core.batch import to_uint8
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.core.randomness import derive
from cytoforge.core.run import Run
from cytoforge.data.cache import CachedCells, mask_channels, open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.diversity import pairwise_distance
from cytoforge.evaluation.features import Extractor, extract, open_extractor
from cytoforge.evaluation.fidelity import frechet_distance, kernel_distance
from cytoforge.experiments.contest import cells_for, table
from cytoforge.experiments.scale import Scale
from cytoforge.methods.pix2pix import Pix2Pix, Pix2PixConfig
from cytoforge.networks.patchgan import PatchGAN, VanillaDiscriminator
from cytoforge.networks.unet_pix2pix import PaintingUNet
from cytoforge.sampling.pictures import labelled_rows, painted_masks
from cytoforge.stages.split import split as split_folder
from cytoforge.training.loop import Loop, LoopConfig, Until


@dataclass(frozen=True)
class Source:
    """What source 003 prints."""

    generator_parameters: int = 54_427_907
    patch_parameters: int = 2_771_457
    vanilla_parameters: int = 3_816_961
    frechet_distance: float = 150.0
    frechet_distance_real: float = 140.0
    images: int = 1_000
    steps: int = 3_000
    batch: int = 64
    resolution: int = 256


SOURCE = Source()


@dataclass(frozen=True)
class Budget:
    """What one training may cost.

    Attributes:
        resolution: in pixels.
        images: shown in training.
        measure_every: images between points of the curve.
        width: of both networks.
        per_class: simulated cells of each class, where no data are given.
        masks: masks that diversity is measured on.
        noises: noises for each of them.
    """

    resolution: int
    images: int
    measure_every: int
    width: int
    per_class: int
    masks: int
    noises: int


BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(32, 256, 128, 8, 20, 4, 4),
    "full": Budget(64, 60_000, 6_000, 32, 200, 40, 8),
}

_SOURCE = {"class_planes": False}
CONTESTANTS: dict[str, dict[str, Any]] = {
    "PatchGAN": {**_SOURCE, "discriminator": "patch"},
    "vanilla": {**_SOURCE, "discriminator": "vanilla"},
    "PatchGAN, no distance": {**_SOURCE, "discriminator": "patch", "reconstruction_weight": 0.0},
    "vanilla, no distance": {**_SOURCE, "discriminator": "vanilla", "reconstruction_weight": 0.0},
    "PatchGAN, mode seeking": {
        **_SOURCE,
        **{"discriminator": "patch", "reconstruction_weight": 10.0, "mode_seeking": 1.0},
    },
}
"""Settings of `pix2pix` by name."""


@dataclass(frozen=True)
class Place:
    """The cells of a comparison, seen by the extractor."""

    train: CachedCells
    test: CachedCells
    train_features: NDArray[np.float64]
    test_features: NDArray[np.float64]
    extractor: Extractor


def run(data: Path | None, out: Path, scale: Scale) -> dict[str, Any]:
    """Train pix2pix under each discriminator, follow the distances, measure diversity for one mask.

    Args:
        data: folder of cells with masks, or None for simulated ones.
        out: folder for result.json, table.md, sequence.png (one mask over training), diversity.png (one mask,
            many noises) and the runs.
        scale: "smoke" or "full".

    Returns:
        What result.json holds.
    """
    budget = BUDGETS[scale]
    place = _place(cells_for(data, out, budget.per_class, 96), budget)
    numbers, curves = {}, {}
    sequences, many = {}, {}
    shown, noises = _chosen(place, budget)
    for name, settings in CONTESTANTS.items():
        torch.manual_seed(derive(0, "weights", name))
        method = Pix2Pix(
            Pix2PixConfig(**settings, width=budget.width, discriminator_width=budget.width), place.train.shape
        )
        loop, frames, curve = _trained(method, place, budget, out / "runs" / _slug(name))
        images = _images(loop, shown, noises)
        numbers[name] = {**curve[-1], **diversity(images, place)}
        curves[name], sequences[name], many[name] = curve, np.stack(frames), images[0]
    numbers["real test cells (floor)"] = _floor(place)
    write_atomic(out / "table.md", table(numbers, _COLUMNS) + "\n")
    marks = {"Synthetic": "true", "Generator": "pix2pix"}
    write_atomic(out / "sequence.png", encode_png(labelled_rows(sequences), marks))
    rows = {"mask": painted_masks(shown[:1]), **many}
    write_atomic(out / "diversity.png", encode_png(labelled_rows(rows), marks))
    result = {
        "experiment": "paired-pathology",
        "scale": scale,
        "budget": asdict(budget),
        "source": asdict(SOURCE),
        "parameters": parameters(),
        "extractor": place.extractor.name,
        "cells": {"train": len(place.train), "test": len(place.test)},
        "numbers": numbers,
        "curves": curves,
    }
    write_json(out / "result.json", result)
    return result


_COLUMNS = (
    *("kid", "kid_train", "fid", "fid_train"),
    *("one_mask", "one_mask_share", "one_mask_levels"),
)


def parameters() -> dict[str, int]:
    """Parameters of the source's three networks, batch-norm statistics counted as its framework does."""
    with torch.device("meta"):
        networks = {
            "generator": PaintingUNet(5, innermost_norm=True),
            "patch": PatchGAN(7, first_bias=False),
            "vanilla": VanillaDiscriminator(7),
        }
    return {
        name: sum(tensor.numel() for key, tensor in network.state_dict().items() if "num_batches" not in key)
        for name, network in networks.items()
    }


def diversity(images: NDArray[np.uint8], place: Place) -> dict[str, float]:
    """How much images of one mask differ when only the noise does.

    Args:
        images: (M, K, R, R, 3), K noises for each of M masks.
        place: real cells to compare with.

    Returns:
        "one_mask": mean distance of features between two noises; "one_mask_share": that as a share of what
        two real cells differ by; "one_mask_levels": mean absolute difference in grey levels.
    """
    features = [extract(own, place.extractor) for own in images]
    apart = float(np.mean([pairwise_distance(own) for own in features]))
    levels = images.astype(np.float64)
    first, second = np.triu_indices(images.shape[1], 1)
    return {
        "one_mask": apart,
        "one_mask_share": apart / pairwise_distance(place.test_features),
        "one_mask_levels": float(np.abs(levels[:, first] - levels[:, second]).mean()),
    }


def _place(folder: Path, budget: Budget) -> Place:
    opened = open_cells(folder)
    division = split_folder(opened, seed=0)
    cached = open_cache(opened, Preparation(resolution=budget.resolution))
    train = cached.select(division.names("train")).with_masks()
    test = cached.select((*division.names("val"), *division.names("test"))).with_masks()
    extractor = open_extractor()
    return Place(train, test, extract(train.images, extractor), extract(test.images, extractor), extractor)


def _trained(
    method: Pix2Pix, place: Place, budget: Budget, path: Path
) -> tuple[Loop, list[NDArray[np.uint8]], list[dict[str, float]]]:
    """A trained loop, the picture of one mask and the distances at each point of the curve."""
    frames: list[NDArray[np.uint8]] = []
    curve: list[dict[str, float]] = []

    def measure(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> dict[str, float]:
        frames.append(images[0])
        fake = extract(images, place.extractor)
        point = {
            "kid": kernel_distance(place.test_features, fake),
            "kid_train": kernel_distance(place.train_features, fake),
            "fid": frechet_distance(place.test_features, fake),
            "fid_train": frechet_distance(place.train_features, fake),
        }
        curve.append(point)
        return point

    config = LoopConfig(
        batch=16,
        measure_every=budget.measure_every,
        measure_images=max(16, min(len(place.test), 500)),
        save_every=budget.images,
        precision="32-true",
    )
    fabric = Fabric(accelerator="cpu", devices=1)
    run = Run.create(path, {"method": "pix2pix", "settings": method.config.model_dump(mode="json")})
    loop = Loop(method, place.train, config, run, 0, fabric, measure)
    loop.train(Until(images=budget.images))
    return loop, frames, curve


def _chosen(place: Place, budget: Budget) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Masks (M, R, R) of test cells, and seeds (K,) of the noises."""
    assert place.test.masks is not None
    step = max(1, len(place.test) // budget.masks)
    return place.test.masks[::step][: budget.masks], np.arange(budget.noises)


def _images(loop: Loop, masks: NDArray[np.uint8], seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(M, K, R, R, 3): each mask with each noise."""
    method = loop.method.replaced({**loop.modules, **loop.average.networks})
    noise, labels = method.noise(seeds), torch.zeros(len(seeds), dtype=torch.long)
    with torch.inference_mode():
        conditions = (mask_channels(np.repeat(mask[None], len(seeds), axis=0)) for mask in masks)
        return np.stack([to_uint8(method.sample(noise, labels, condition)) for condition in conditions])


def _floor(place: Place) -> dict[str, float]:
    """Real against real: training against test cells."""
    return {
        "kid": kernel_distance(place.test_features, place.train_features),
        "fid": frechet_distance(place.test_features, place.train_features),
    }


def _slug(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "-")
