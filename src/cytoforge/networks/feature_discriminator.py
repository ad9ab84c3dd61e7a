"""Discriminator that judges what a frozen, pretrained network sees in an image, at several scales."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoforge.networks.feature_pyramid import FeaturePyramid, efficientnet_pyramid
from cytoforge.networks.spectral import spectrally_normalised

LITE_SCALES = {1: 24, 2: 40, 4: 112, 6: 320}
"""Stages of EfficientNet-Lite0 that are looked at, and their channels."""

_WIDTH = 128
_CLASS_WEIGHT = 3.0


class ScaleHead(nn.Module):
    """Features of one scale and a class become a score.

    Args:
        channels: of the features.
        classes: number of classes.

    Reference:
        Miyato and Koyama, cGANs with projection discriminator, 2018, equation 3.
        https://arxiv.org/abs/1802.05637
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(_WIDTH, _WIDTH, 1),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Linear(_WIDTH, 1)
        self.classes = nn.Linear(classes, _WIDTH, bias=False)

    def forward(self, features: Tensor, chosen: Tensor) -> Tensor:
        """Features (N, C, H, W) and one-hot classes (N, K) become scores (N,)."""
        pooled = self.body(features).mean(dim=(2, 3)).float()
        projection = (pooled * self.classes(chosen).float()).sum(dim=1)
        scores: Tensor = self.score(pooled)[:, 0].float() + _CLASS_WEIGHT * projection
        return scores


class FeatureDiscriminator(nn.Module):
    """Features of several scales and a class become one score each; only these heads are trained.

    Each layer is spectrally normalised: heads on features as good as these would win at once otherwise.

    Args:
        classes: number of classes.

    Reference:
        Sauer et al., Projected GANs converge faster, 2021, section 3. https://arxiv.org/abs/2111.01007
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.heads = nn.ModuleList(ScaleHead(channels, classes) for channels in LITE_SCALES.values())
        spectrally_normalised(self)

    def forward(self, features: list[Tensor], labels: Tensor) -> Tensor:
        """Features (N, C, H, W) of the `LITE_SCALES` and labels (N,) become scores (N, S)."""
        chosen = F.one_hot(labels, self.classes).float()
        scores = [head(each, chosen) for head, each in zip(self.heads, features, strict=True)]
        return torch.stack(scores, dim=1)


class LiteFeatures(nn.Module):
    """What frozen EfficientNet-Lite0 sees in images: the scales in `LITE_SCALES`.

    Args:
        side: the images are resized to this many pixels first.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.pyramid: FeaturePyramid = efficientnet_pyramid(stages=max(LITE_SCALES) + 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) in [-1, 1] become features (N, C, h, w) of each scale, differentiable."""
        width = images.shape[-1]
        if width != self.side:
            size = (self.side, self.side)
            images = F.interpolate(
                images, size, mode="bilinear", align_corners=False, antialias=width > self.side
            )
        # float32: depthwise convolutions gain nothing from bfloat16, its casts cost a quarter of the time
        with torch.autocast(images.device.type, enabled=False):
            stages = self.pyramid(images.float())
        return [stages[index] for index in LITE_SCALES]
