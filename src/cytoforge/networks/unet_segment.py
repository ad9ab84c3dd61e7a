"""A small U-Net that names each pixel of an image."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SegmentingUNet(nn.Module):
    """An image becomes scores of each part for each pixel; instance norm, so no image depends on its batch.

    Args:
        parts: background, cytoplasm and nucleus: 3.
        width: channels at full resolution; doubled with each halving.
        levels: halvings.

    Reference:
        Ronneberger, Fischer and Brox, U-Net: convolutional networks for biomedical image segmentation, 2015
        (padded here, one convolution less on each level). https://arxiv.org/abs/1505.04597
    """

    def __init__(self, parts: int = 3, width: int = 16, levels: int = 4) -> None:
        super().__init__()
        sizes = [width << level for level in range(levels + 1)]
        self.down = nn.ModuleList(_block(before, after) for before, after in pairwise([3, *sizes]))
        self.up = nn.ModuleList(_block(low + high, high) for high, low in reversed(list(pairwise(sizes))))
        self.output = nn.Conv2d(width, parts, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1], sides multiples of 2 ** levels, become logits (N, parts, H, W)."""
        features, skips = images, []
        for level, block in enumerate(self.down):
            features = block(F.max_pool2d(features, 2) if level else features)
            skips.append(features)
        skips.pop()
        for block in self.up:
            larger = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
            features = block(torch.cat([larger, skips.pop()], dim=1))
        logits: Tensor = self.output(features)
        return logits.float()


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.InstanceNorm2d(outputs, affine=True),
        nn.LeakyReLU(0.1),
    )
