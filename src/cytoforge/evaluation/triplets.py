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

PARTS = ("nucleus", "cell")


@dataclass(frozen=True)
class Overlap:
    """Mean Dice over images.

    Attributes:
        value: the mean.
        low: lower end of its 95 % interval over groups.
        high: upper end.
        count: images.
    """

    value: float
    low: float
    high: float
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
        part -> (N,) in 0 to 1; 1 where neither has the part.

    Example:
        >>> found, true = (np.array([[values]], np.uint8) for values in ([0, 1, 2], [0, 2, 2]))
        >>> {part: values.round(3).tolist() for part, values in overlaps(found, true).items()}
        {'nucleus': [0.667], 'cell': [1.0]}
    """
    kinds = {"nucleus": (NUCLEUS,), "cell": (CYTOPLASM, NUCLEUS)}
    return {
        part: np.array(
            [
                dice(np.isin(guess, kinds[part]), np.isin(mask, kinds[part]), mask != UNKNOWN)
                for guess, mask in zip(found, masks, strict=True)
            ]
        )
        for part in PARTS
    }


def summary(values: NDArray[np.float64], groups: list[str] | None = None) -> Overlap:
    """The mean with its interval.

    Args:
        values: (N,) Dice of each image.
        groups: (N,) photo or slide of each, None where each stands for itself.
    """
    low, high = bootstrap_mean(values, groups)
    return Overlap(float(values.mean()), low, high, len(values))
