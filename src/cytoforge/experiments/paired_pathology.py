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
  and once at 10 with a mode-seeking term.
* Sizes by option: 32 px (smoke) and 64 px (full) instead of 256, so that a CPU is enough. All networks have
  half the width at 64 px. A score of the PatchGAN sees 16 px there (34 at 128 px), a quarter of the side as
  in the source, where it sees 70 of 256; with three halvings it would see the whole image. The vanilla
  discriminator then has more parameters than it, as in the source, but by more.
* Three trainings of each contestant (full), one (smoke), where the source has one: seeds differ in all
  weights and noises, and two contestants of a seed begin with the same generator and see the same batches.
  `claim` in result.json compares PatchGAN and vanilla seed by seed, by a rule that was fixed before the run:
  a contestant has collapsed where images of one mask differ by less than `COLLAPSED` of what two real cells
  differ by; the source's claim holds in a seed where the PatchGAN has collapsed and vanilla has not.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from cytoforge.core.batch import DataShape, to_uint8
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.png import decode_png, encode_png
from cytoforge.core.randomness import derive
from cytoforge.core.record import Record
from cytoforge.core.run import SPLIT, Run
from cytoforge.data.cache import CachedCells, mask_channels, open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.diversity import pairwise_distance
from cytoforge.evaluation.features import Extractor, extract, open_extractor
from cytoforge.evaluation.fidelity import frechet_distance, kernel_distance
from cytoforge.experiments.contest import Numbers, cells_for, mean_of, table
from cytoforge.experiments.scale import Scale
from cytoforge.methods.pix2pix import Pix2Pix, Pix2PixConfig
from cytoforge.sampling.pictures import labelled_rows, painted_masks
from cytoforge.stages.split import split_once
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


class Budget(Record):
    """What one training may cost, and how many there are."""

    resolution: int = Field(description="side of the images, in pixels")
    images: int = Field(ge=1, description="shown in training")
    measure_every: int = Field(ge=1, description="images between points of the curve")
    width: int = Field(ge=4, description="of all networks; the source's is 64")
    per_class: int = Field(ge=1, description="simulated cells of each class, where no data are given")
    masks: int = Field(ge=1, description="masks that diversity is measured on")
    noises: int = Field(ge=2, description="noises for each of them")
    seeds: int = Field(ge=1, description="trainings of each contestant")


BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(
        resolution=32, images=256, measure_every=128, width=8, per_class=20, masks=4, noises=4, seeds=1
    ),
    "full": Budget(
        resolution=64,
        images=60_000,
        measure_every=6_000,
        width=32,
        per_class=200,
        masks=40,
        noises=8,
        seeds=3,
    ),
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


COLLAPSED = 0.1
"""Images of one mask that differ by less than this share of what two real cells differ by are one image.

Even a real cell that is moved by one pixel differs from itself by more: by a share of 0.21 on SIPaKMeD and
0.14 on simulated cells (200 cells at 64 px, default extractor).
"""

CLAIM = ("PatchGAN", "vanilla")
"""The contestants that the source's claim is about: the first collapses, the second does not."""

_DISTANCES = ("kid", "kid_train", "fid", "fid_train")
_SHARE = "one_mask_share"
_RANGE = (f"{_SHARE}_least", f"{_SHARE}_most")
_COLUMNS = (*_DISTANCES, "one_mask", _SHARE, *_RANGE, "collapsed", "one_mask_levels")

Curve = list[dict[str, float]]
"""Images seen and distances, at each point of a training."""


def run(data: Path | None, out: Path, scale: Scale, budget: Budget | None = None) -> dict[str, Any]:
    """Train pix2pix under each discriminator, follow the distances, measure diversity for one mask.

    Called again after an interruption, it keeps what is trained.

    Args:
        data: folder of cells with masks, or None for simulated ones.
        out: folder for result.json, table.md, curves.png (distances over training), of the first seed
            sequence.png (one mask over training) and diversity.png (one mask, many noises), and the runs.
        scale: "smoke" or "full".
        budget: instead of the scale's.

    Returns:
        What result.json holds.
    """
    budget = budget or BUDGETS[scale]
    place = _place(cells_for(data, out, budget.per_class, 96), out / SPLIT, budget)
    repeats: dict[str, list[Numbers]] = {name: [] for name in CONTESTANTS}
    curves: dict[str, list[Curve]] = {name: [] for name in CONTESTANTS}
    sequences, many = {}, {}
    shown, noises = _chosen(place, budget)
    for name, settings in CONTESTANTS.items():
        for seed in range(budget.seeds):
            path = out / "runs" / f"{_slug(name)}-{seed}"
            loop, frames, curve = _trained(settings, seed, place, budget, path)
            images = _each_with_each(loop, shown, noises)
            last = {key: curve[-1][key] for key in _DISTANCES if key in curve[-1]}
            repeats[name].append({**last, **one_mask_diversity(images, place)})
            curves[name].append(curve)
            if seed == 0:
                sequences[name], many[name] = np.stack(frames), images[0]
    numbers = {name: over_seeds(found) for name, found in repeats.items()}
    floor = numbers["real test cells (floor)"] = _floor(place)
    found = claim(*([each[_SHARE] for each in repeats[name]] for name in CLAIM))
    write_atomic(out / "table.md", f"{table(numbers, _COLUMNS)}\n\n{_told(found)}\n")
    draw_curves(curves, floor).savefig(out / "curves.png", dpi=110)
    marks = {"Synthetic": "true", "Generator": "pix2pix"}
    write_atomic(out / "sequence.png", encode_png(labelled_rows(sequences), marks))
    rows = {"mask": painted_masks(shown[:1]), **many}
    write_atomic(out / "diversity.png", encode_png(labelled_rows(rows), marks))
    result = {
        "experiment": "paired-pathology",
        "scale": scale,
        "budget": budget.model_dump(),
        "source": asdict(SOURCE),
        "parameters_at_source_size": parameters(SOURCE_SHAPE, SOURCE.width),
        "parameters": parameters(place.cells.shape, budget.width),
        "extractor": place.extractor.name,
        "cells": {"trained": len(place.cells), "measured": len(place.masks["test"])},
        "claim": found,
        "numbers": numbers,
        "repeats": repeats,
        "curves": curves,
    }
    write_json(out / "result.json", result)
    return result


def over_seeds(repeats: Sequence[Numbers]) -> Numbers:
    """Means over the trainings of a contestant.

    Args:
        repeats: numbers of each training.

    Returns:
        The mean of each that all trainings have; "one_mask_share_least" and "one_mask_share_most", its range;
        "collapsed", the share of trainings that have collapsed.

    Example:
        >>> found = over_seeds([{"one_mask_share": 0.05}, {"one_mask_share": 0.25}])
        >>> {name: round(value, 6) for name, value in found.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'one_mask_share': 0.15, 'one_mask_share_least': 0.05, 'one_mask_share_most': 0.25,
         'collapsed': 0.5}
    """
    shares = [each[_SHARE] for each in repeats]
    return {
        **mean_of(repeats),
        **dict(zip(_RANGE, (min(shares), max(shares)), strict=True)),
        "collapsed": float(np.mean([share < COLLAPSED for share in shares])),
    }


def claim(patch: Sequence[float], vanilla: Sequence[float]) -> dict[str, Any]:
    """In how many seeds the source's claim holds, and by how much the two differ.

    Args:
        patch: "one_mask_share" of the PatchGAN in each seed.
        vanilla: of the vanilla discriminator in the same seeds.

    Returns:
        "holds" (a number of "seeds"), "differences" (vanilla minus PatchGAN, seed by seed), their "mean",
        "least" and "most".
    """
    differences = [after - before for before, after in zip(patch, vanilla, strict=True)]
    return {
        "seeds": len(differences),
        "holds": sum(before < COLLAPSED <= after for before, after in zip(patch, vanilla, strict=True)),
        "differences": differences,
        "mean": float(np.mean(differences)),
        "least": min(differences),
        "most": max(differences),
    }


def _told(found: Mapping[str, Any]) -> str:
    patch, vanilla = CLAIM
    return (
        f"Numbers are means over seeds. A training has collapsed where `{_SHARE}`, how much images of one "
        f"mask differ as a share of what two real cells differ by, is below {COLLAPSED:g}; `collapsed` is "
        f"the share of such seeds. That the {patch} has collapsed and the {vanilla} discriminator has not, "
        f"as the source says, holds in {found['holds']} of {found['seeds']} seeds. {vanilla} minus {patch}, "
        f"seed by seed: mean {found['mean']:.3f}, least {found['least']:.3f}, most {found['most']:.3f}."
    )


def draw_curves(curves: Mapping[str, Sequence[Curve]], floor: Numbers) -> Figure:
    """Distances over training, FID above KID, a column for each contestant and two lines for each seed.

    Args:
        curves: contestant -> curve of each seed.
        floor: "fid" and "kid" of real cells.
    """
    figure = Figure(figsize=(2.8 * len(curves), 4.8), layout="constrained")
    panels = figure.subplots(2, len(curves), squeeze=False, sharex=True, sharey="row")
    lines = {"": ("C0-", "held-back cells"), "_train": ("C1--", "training cells")}
    for row, score in zip(panels, ("fid", "kid"), strict=True):
        row[0].set_ylabel(score.upper())
        for panel, (name, repeats) in zip(row, curves.items(), strict=True):
            for seed, curve in enumerate(repeats):
                seen = [point["seen"] for point in curve]
                for ending, (style, label) in lines.items():
                    values = [point.get(score + ending, np.nan) for point in curve]
                    panel.plot(seen, values, style, label=label if seed == 0 else None, linewidth=1.2)
            panel.axhline(floor[score], color="0.5", linestyle=":", label="real cells (floor)")
            if score == "fid":
                panel.set_title(name, fontsize=9, loc="left")
            else:
                panel.set_xlabel("images seen", fontsize=8)
            panel.tick_params(labelsize=7)
    panels[0, 0].legend(fontsize=6, frameon=False)
    return figure


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


def _place(folder: Path, split: Path, budget: Budget) -> Place:
    opened = open_cells(folder)
    division = split_once(opened, split)
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
        "patch_halvings": max(1, shape.resolution.bit_length() - 6),
    }
    return Pix2Pix(Pix2PixConfig(**settings, **sizes), shape)


def _trained(
    settings: Mapping[str, Any], seed: int, place: Place, budget: Budget, path: Path
) -> tuple[Loop, list[NDArray[np.uint8]], Curve]:
    """A trained loop, the picture of one mask and the distances at each point of the curve.

    Pictures are kept in `path`/frames and distances in the log, so that an interrupted training goes on.
    """
    torch.manual_seed(derive(seed, "weights"))  # the generator, built first, begins alike
    method = _method(settings, place.cells.shape, budget.width)

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
    loop = Loop(method, place.cells, config, run, seed, fabric, measure)
    if any(run.checkpoints.glob("[0-9]*")):
        loop.resume()
    loop.train(Until(images=budget.images))
    measured = [record for record in run.read_log() if record["kind"] == "measure"]
    curve = [{key: record[key] for key in ("seen", *_DISTANCES) if key in record} for record in measured]
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
