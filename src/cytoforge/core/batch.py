"""What flows from a data set to a method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class DataShape:
    """What a method must know of a data set before it sees an image.

    Attributes:
        resolution: side of the square images, in pixels.
        classes: names; a label is an index into them.
        mask_channels: channels of the masks, 0 where there are none.
    """

    resolution: int
    classes: tuple[str, ...]
    mask_channels: int = 0


@dataclass(frozen=True)
class Batch:
    """Images with their labels.

    Attributes:
        images: (N, 3, H, W) float32 in [-1, 1].
        labels: (N,) int64.
        seeds: (N,) int64, one for each image; all randomness about an image derives from its seed.
        masks: (N, C, H, W) float32 in {0, 1}, or None.
    """

    images: Tensor
    labels: Tensor
    seeds: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Batch:
        """Images `start` to `stop` (excluded)."""
        masks = None if self.masks is None else self.masks[start:stop]
        return Batch(self.images[start:stop], self.labels[start:stop], self.seeds[start:stop], masks)

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`; seeds stay on the CPU, where random numbers are drawn."""
        masks = None if self.masks is None else self.masks.to(device)
        return Batch(self.images.to(device), self.labels.to(device), self.seeds, masks)


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Pictures to store or show: (N, 3, H, W) in [-1, 1] becomes (N, H, W, 3) in 0..255, rounded.

    Example:
        >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)).ravel().tolist()
        [0, 128, 255]
    """
    levels = images.detach().float().mul(127.5).add(127.5).round().clamp(0, 255)
    array: NDArray[np.uint8] = levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return array


def to_float(images: NDArray[np.uint8]) -> Tensor:
    """Network input: (N, H, W, 3) in 0..255 becomes (N, 3, H, W) float32 in [-1, 1], channels last in memory.

    Example:
        >>> to_float(np.array([0, 255, 255], np.uint8).reshape(1, 1, 1, 3)).ravel().tolist()
        [-1.0, 1.0, 1.0]
    """
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
