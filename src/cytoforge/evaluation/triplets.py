"""Do image and mask of a synthetic triplet agree? A segmenter that learned from real cells is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from cytoforge.core.batch import to_float
from cytoforge.core.mask import CYTOPLASM, NUCLEUS, UNKNOWN
from cytoforge.core.progress import progress
from cytoforge.core.randomness import derive
from cytoforge.core.run import Run
from cytoforge.evaluation.statistics import bootstrap_mean
from cytoforge.masks.agreement import dice
from cytoforge.tasks.segment import Segmenter, SegmenterConfig
from cytoforge.training.loop import Loop, LoopConfig, TrainingData

Segment = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Images (N, R, R, 3) -> masks (N, R, R): 0 background, 1 cytoplasm, 2 nucleus."""

_KINDS = {"nucleus": (NUCLEUS,), "cell": (CYTOPLASM, NUCLEUS)}
PARTS = tuple(_KINDS)


@dataclass(frozen=True)
class Overlap:
    """Mean Dice over images.

    Attributes:
        value: the mean; None, as its interval, where no image counts.
        low: lower end of its 95 % interval over groups.
        high: upper end.
        count: images that count.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int


def train_segmenter(
    data: TrainingData, images: int, seed: int = 0, config: SegmenterConfig | None = None
) -> Segment:
    """What finds masks in images, trained on real pairs.

    Args:
        data: real cells with masks.
        images: how many are shown, each counted every time.
        seed: of weights, order and augmentation.
        config: settings of the network.

    Returns:
        A function of images; it uses the averaged weights.
    """
    torch.manual_seed(derive(seed, "segmenter"))
    method = Segmenter(config or SegmenterConfig(), data.shape)
    loop_config = LoopConfig(batch=16, average_half_life=1000, precision="32-true")
    with tempfile.TemporaryDirectory() as folder, progress("segmenter", images) as advance:
        run = Run.create(Path(folder) / "run", {})
        loop = Loop(method, data, loop_config, run, seed, Fabric(accelerator="cpu", devices=1))
        while loop.seen < images:
            loop.step()
            advance(loop_config.batch)
    trained = method.replaced({**loop.modules, **loop.average.networks})

    def segment(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        parts = np.array_split(pictures, max(1, len(pictures) // 32))
        with torch.inference_mode():
            found = [trained.segment(to_float(part)).to(torch.uint8).numpy() for part in parts]
        return np.concatenate(found)

    return segment


def overlaps(found: NDArray[np.uint8], masks: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Dice of nucleus and of the whole cell in each image; pixels of unknown kind do not count.

    Args:
        found: (N, R, R).
        masks: (N, R, R): 0 background, 1 cytoplasm, 2 nucleus, 3 unknown.

    Returns:
        part -> (N,) in 0 to 1; NaN where neither has the part, which says nothing about their agreement.

    Example:
        >>> found, true = (np.array([[values]], np.uint8) for values in ([0, 1, 2], [0, 2, 2]))
        >>> {part: values.round(3).tolist() for part, values in overlaps(found, true).items()}
        {'nucleus': [0.667], 'cell': [1.0]}
    """
    known = masks != UNKNOWN
    result = {}
    for part, values in _KINDS.items():
        ours, theirs = np.isin(found, values) & known, np.isin(masks, values)
        result[part] = np.array(
            [dice(*pair) if np.any(pair) else np.nan for pair in zip(ours, theirs, strict=True)]
        )
    return result


def present(masks: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    """Which masks (N, R, R) have the part: part -> (N,)."""
    return {
        part: np.array([np.isin(mask, values).any() for mask in masks], bool)
        for part, values in _KINDS.items()
    }


def summary(values: NDArray[np.float64], groups: list[str] | None = None) -> Overlap:
    """The mean with its interval.

    Args:
        values: (N,) Dice of each image; NaN does not count.
        groups: (N,) photo or slide of each, None where each stands for itself.
    """
    counts = np.isfinite(values)
    if not counts.any():
        return Overlap(None, None, None, 0)
    if groups is not None:
        groups = [group for group, counted in zip(groups, counts, strict=True) if counted]
    low, high = bootstrap_mean(values[counts], groups)
    return Overlap(float(values[counts].mean()), low, high, int(counts.sum()))
