"""Cells painted onto masks under two discriminators (source 003): does one mask give many images?

Source 003 trains a U-Net with a channel of noise on 1,000 pairs of 256 px for 3,000 steps of 64, once
against a PatchGAN and once against a vanilla discriminator. It says that the PatchGAN collapses (one mask,
one image, whatever the noise) and the vanilla discriminator does not, from a look at four figures, and
reports a Frechet distance of about 150 where real test images are at about 140, both on 64 images. This
experiment repeats the comparison and measures the claim.

What differs from the source, and why:

* Its pairs (podocyte nuclei) are not public any more: any cells with masks will do, or simulated ones.
* Its mask has 4 channels; a mask of ours has 2 (cytoplasm, nucleus). With 4 channels, at its size and width,
  the networks that are trained here have exactly its numbers of parameters (in result.json
  `parameters_at_source_size` counts them anew, beside `parameters`). Its table of the vanilla discriminator
  stops at 8 x 8, its count is met only with one more halving.
* The class is not shown to the networks, as there. Losses are those of the tutorial it follows: cross-
  entropy and 100 times the mean absolute difference. It names neither, so the weight is also tried at 0,
  and once with a mode-seeking term.
* Sizes by option: 32 px (smoke) and 64 px (full) instead of 256, so that a CPU is enough. All networks have
  half the width at 64 px. A score of the PatchGAN sees 16 px there, a quarter of the side as in the source,
  where it sees 70 of 256; with three halvings it would see the whole image. The vanilla discriminator then
  has more parameters than it, as in the source, but by more.
* One training of each contestant: a difference between two of them is not told from that of two seeds.
* 60,000 images in batches of 16 (full) instead of 3,000 steps of 64, which are 192,000: a CPU has no time for
  more. That makes 3,750 steps, no fewer than there, each on a quarter of the images: batch norm is noisier,
  and fewer cells are seen. What a longer training would do stays open.
* Distances are measured on equally many held-back and training cells, 500 at most, not on 64: images painted
  onto masks of held-back cells against these cells, and the same with training cells. A kernel distance
  (unbiased for small samples) stands beside the Frechet distance, and the floor is the distance of these
  training cells from these held-back cells.
* Noise is drawn anew for each image, in training and after; dropout is off and batch norm takes its running
  statistics after training, where the tutorial leaves both as in training. So what diversity there is comes
  from the channel of noise alone.
* Images are those of a moving average of the weights, which paints more steadily than the last step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from cytoforge.core.batch import DataShape, to_uint8
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.png import decode_png, encode_png
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
    width: int = 64


SOURCE = Source()
SOURCE_SHAPE = DataShape(SOURCE.resolution, ("nuclei",), 4)


@dataclass(frozen=True)
class Budget:
    """What one training may cost.

    Attributes:
        resolution: in pixels.
        images: shown in training.
        measure_every: images between points of the curve.
        width: of all networks; the source's is 64.
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

MOST = 500
"""Cells of either part that distances are measured on, at most."""

_SOURCE = {"class_planes": False, "tutorial": True}
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
    """The cells of a comparison.

    Attributes:
        cells: all to train on.
        masks: "train" and "test" -> (N, R, R), of the cells that distances are measured on.
        features: the same -> (N, D), what the extractor sees in these cells.
        extractor: the measure.
    """

    cells: CachedCells
    masks: Mapping[str, NDArray[np.uint8]]
    features: Mapping[str, NDArray[np.float64]]
    extractor: Extractor


def run(data: Path | None, out: Path, scale: Scale) -> dict[str, Any]:
    """Train pix2pix under each discriminator, follow the distances, measure diversity for one mask.

    Called again after an interruption, it keeps what is trained.

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
        torch.manual_seed(derive(0, "weights"))  # the generator, built first, begins alike
        method = _method(settings, place.cells.shape, budget.width)
        loop, frames, curve = _trained(method, place, budget, out / "runs" / _slug(name))
        images = _each_with_each(loop, shown, noises)
        numbers[name] = {**curve[-1], **one_mask_diversity(images, place)}
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
        "parameters_at_source_size": parameters(SOURCE_SHAPE, SOURCE.width),
        "parameters": parameters(place.cells.shape, budget.width),
        "extractor": place.extractor.name,
        "cells": {"trained": len(place.cells), "measured": len(place.masks["test"])},
        "numbers": numbers,
        "curves": curves,
    }
    write_json(out / "result.json", result)
    return result


_DISTANCES = ("kid", "kid_train", "fid", "fid_train")
_COLUMNS = (*_DISTANCES, "one_mask", "one_mask_share", "one_mask_levels")


def parameters(shape: DataShape, width: int) -> dict[str, int]:
    """Parameters of the contestants' networks, batch-norm statistics counted as the source's framework does.

    Args:
        shape: of the cells.
        width: of all networks.

    Returns:
        "generator", and each discriminator by the name of its contestant -> count.
    """
    found = {}
    for name in ("PatchGAN", "vanilla"):
        with torch.device("meta"):
            networks = _method(CONTESTANTS[name], shape, width).networks
        found["generator"], found[name] = _count(networks["generator"]), _count(networks["discriminator"])
    return found


def _count(network: nn.Module) -> int:
    return sum(tensor.numel() for key, tensor in network.state_dict().items() if "num_batches" not in key)


def distances(place: Place, paint: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> dict[str, float]:
    """How far images painted onto masks of held-back cells are from these cells; the same for training cells.

    Args:
        place: real cells and their masks.
        paint: masks (N, R, R) -> images (N, R, R, 3).

    Returns:
        "kid" and "fid" of held-back cells, "kid_train" and "fid_train" of training cells.
    """
    found = {}
    for part, ending in (("test", ""), ("train", "_train")):
        real, fake = place.features[part], extract(paint(place.masks[part]), place.extractor)
        found[f"kid{ending}"] = kernel_distance(real, fake)
        found[f"fid{ending}"] = frechet_distance(real, fake)
    return found


def one_mask_diversity(images: NDArray[np.uint8], place: Place) -> dict[str, float]:
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
        "one_mask_share": apart / pairwise_distance(place.features["test"]),
        "one_mask_levels": float(np.abs(levels[:, first] - levels[:, second]).mean()),
    }


def _place(folder: Path, budget: Budget) -> Place:
    opened = open_cells(folder)
    division = split_folder(opened, seed=0)
    cached = open_cache(opened, Preparation(resolution=budget.resolution))
    train = cached.select(division.names("train")).with_masks()
    test = cached.select((*division.names("val"), *division.names("test"))).with_masks()
    count = min(len(train), len(test), MOST)
    measured = {"train": _evenly(train, count), "test": _evenly(test, count)}
    extractor = open_extractor()
    return Place(
        train,
        {part: _masks(cells) for part, cells in measured.items()},
        {part: extract(cells.images, extractor) for part, cells in measured.items()},
        extractor,
    )


def _evenly(cells: CachedCells, count: int) -> CachedCells:
    """So many of the cells; these lie class by class, and each class keeps its share."""
    return cells.select(cells.names[index] for index in np.linspace(0, len(cells) - 1, count).astype(int))


def _masks(cells: CachedCells) -> NDArray[np.uint8]:
    assert cells.masks is not None
    return cells.masks


def _method(settings: Mapping[str, Any], shape: DataShape, width: int) -> Pix2Pix:
    sizes = {
        "width": width,
        "discriminator_width": width,
        "patch_halvings": 3 if shape.resolution > 64 else 1,
    }
    return Pix2Pix(Pix2PixConfig(**settings, **sizes), shape)


def _trained(
    method: Pix2Pix, place: Place, budget: Budget, path: Path
) -> tuple[Loop, list[NDArray[np.uint8]], list[dict[str, float]]]:
    """A trained loop, the picture of one mask and the distances at each point of the curve.

    Pictures are kept in `path`/frames and distances in the log, so that an interrupted training goes on.
    """

    def paint(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return _painted(loop, masks, np.arange(len(masks)))

    def measure(_images: NDArray[np.uint8], _labels: NDArray[np.int64]) -> dict[str, float]:
        """The loop's own images are painted onto training masks, so others are painted here."""
        frame = encode_png(paint(place.masks["test"][:1])[0], {"Synthetic": "true"})
        write_atomic(path / "frames" / f"{loop.seen:012d}.png", frame)
        return distances(place, paint)

    config = LoopConfig(
        batch=16,
        symmetry="flip",
        measure_every=budget.measure_every,
        measure_images=2,
        save_every=budget.measure_every,
        precision="32-true",
    )
    fabric = Fabric(accelerator="cpu", devices=1)
    asked = {"method": "pix2pix", "settings": method.config.model_dump(mode="json")}
    run = Run.open(path) if (path / "config.json").is_file() else Run.create(path, asked)
    loop = Loop(method, place.cells, config, run, 0, fabric, measure)
    if any(run.checkpoints.glob("[0-9]*")):
        loop.resume()
    loop.train(Until(images=budget.images))
    measured = [record for record in run.read_log() if record["kind"] == "measure"]
    curve = [{key: record[key] for key in _DISTANCES if key in record} for record in measured]
    frames = [decode_png(file.read_bytes())[0] for file in sorted((path / "frames").glob("*.png"))]
    return loop, frames, curve


def _chosen(place: Place, budget: Budget) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Masks (M, R, R) of test cells, and seeds (K,) of the noises."""
    masks = place.masks["test"]
    rows = np.linspace(0, len(masks) - 1, min(budget.masks, len(masks))).astype(int)
    return masks[rows], np.arange(budget.noises)


def _painted(loop: Loop, masks: NDArray[np.uint8], seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(N, R, R, 3): each mask (N, R, R) with the noise of its seed (N,)."""
    method = loop.method.replaced({**loop.modules, **loop.average.networks})
    images = []
    with torch.inference_mode():
        for part in np.array_split(np.arange(len(masks)), math.ceil(len(masks) / 32)):
            noise, labels = method.noise(seeds[part]), torch.zeros(len(part), dtype=torch.long)
            images.append(to_uint8(method.sample(noise, labels, mask_channels(masks[part]))))
    return np.concatenate(images)


def _each_with_each(loop: Loop, masks: NDArray[np.uint8], seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(M, K, R, R, 3): each mask with each noise."""
    images = _painted(loop, np.repeat(masks, len(seeds), axis=0), np.tile(seeds, len(masks)))
    return images.reshape(len(masks), len(seeds), *images.shape[1:])


def _floor(place: Place) -> dict[str, float]:
    """Real against real: training against test cells."""
    train, test = place.features["train"], place.features["test"]
    return {"kid": kernel_distance(test, train), "fid": frechet_distance(test, train)}


def _slug(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "-")
