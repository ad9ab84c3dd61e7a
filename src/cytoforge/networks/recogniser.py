"""Discriminator that also recognises the codes that an image was made from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cytoforge.networks.convolutional import COARSEST, ConvolutionalCritic, widths


class Recognised(NamedTuple):
    """What the discriminator says of N images.

    Attributes:
        scores: (N,) real or fake.
        category: (N, K) logits of the categorical code.
        means: (N, D) of the continuous codes.
        log_deviations: (N, D) logarithm of the standard deviation that it gives them.
    """

    scores: Tensor
    category: Tensor
    means: Tensor
    log_deviations: Tensor


class RecognisingDiscriminator(nn.Module):
    """An image and its class become a score and a guess at its codes; both share the convolutions.

    Args:
        resolution: side of the image, 32, 64, 128 or 256.
        classes: number of classes.
        categories: values of the categorical code.
        continuous: number of continuous codes.
        channels: width at half resolution.
        most_channels: upper bound of the width.

    Reference:
        Chen et al., InfoGAN, 2016, section 6 and appendix C (one hidden layer of 128). https://arxiv.org/abs/1606.03657
    """

    def __init__(
        self,
        resolution: int,
        classes: int,
        categories: int,
        continuous: int,
        channels: int = 32,
        most_channels: int = 256,
    ) -> None:
        super().__init__()
        self.sizes = [categories, continuous, continuous]
        self.critic = ConvolutionalCritic(resolution, classes, channels, most_channels)
        features = widths(resolution // 2, channels, most_channels)[0] * COARSEST**2
        self.recogniser = nn.Sequential(
            nn.Linear(features, 128), nn.LeakyReLU(0.2), nn.Linear(128, sum(self.sizes))
        )

    def forward(self, images: Tensor, labels: Tensor) -> Recognised:
        """Images (N, 3, H, W) in [-1, 1] and labels (N,) become scores and guesses."""
        features = self.critic.features(images)
        category, means, log_deviations = torch.split(self.recogniser(features).float(), self.sizes, dim=1)
        # a deviation below e^-3 would let a single code outweigh the picture
        return Recognised(self.critic.scores(features, labels), category, means, log_deviations.clamp(-3, 3))
