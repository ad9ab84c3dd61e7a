"""Random crops that images and masks share."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.core.randomness import uniform

SHARE = 256 / 286
"""Of the side; the reference enlarges 256 px to 286 and crops 256."""


def random_crop(
    images: Tensor,
    masks: Tensor,
    seeds: NDArray[np.int64] | Tensor,
    stream: str = "crop",
    share: float = SHARE,
) -> tuple[Tensor, Tensor]:
    """A random square of each image and the same square of its mask, both enlarged to full size.

    Args:
        images: (N, 3, H, W), interpolated bilinearly.
        masks: (N, C, H, W) in {0, 1}, by nearest neighbour.
        seeds: (N,) image seeds.
        stream: other names give independent squares.
        share: side of the square in relation to the image; 1 changes nothing.

    Returns:
        Images and masks of the same shapes.

    Reference:
        Isola et al., Image-to-image translation with conditional adversarial networks, 2017, section 6.2.
        https://arxiv.org/abs/1611.07004
    """
    if share == 1:
        return images, masks
    centres = (2 * uniform(seeds, (2,), stream) - 1) * (1 - share)
    transform = torch.zeros(len(images), 2, 3)
    transform[:, 0, 0] = transform[:, 1, 1] = share
    transform[:, :, 2] = centres
    grid = F.affine_grid(transform.to(images.device), list(images.shape), align_corners=False)
    cropped = F.grid_sample(images.float(), grid, "bilinear", "border", align_corners=False)
    moved = F.grid_sample(masks.float(), grid, "nearest", "border", align_corners=False)
    return cropped, moved
