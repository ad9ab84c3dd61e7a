"""The dense conditional GAN of source 001: labels multiply, the discriminator is dense.

The text names the layers in Keras's words; what it leaves open (initial weights, nearest upsampling, slopes,
the dropout rate) is what Keras and the widely copied Keras cGAN do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

START = 8
"""The generator's three upsamplings multiply the side by this."""


class DenseCGANGenerator(nn.Module):
    """Noise times the embedded class becomes an image.

    Dense to (H/8, W/8, 256), then three times upsampling and a 3x3 convolution with 256, 128 and 64 filters.

    Args:
        resolution: side of the image, a multiple of 8; the source has 64.
        classes: number of classes.
        latent: length of the noise.
        channels: filters of the last upsampling, the others in proportion; the source has 64.

    Reference:
        Mirza and Osindero, Conditional generative adversarial nets, 2014. https://arxiv.org/abs/1411.1784
    """

    def __init__(self, resolution: int, classes: int, latent: int = 100, channels: int = 64) -> None:
        super().__init__()
        self.side = resolution // START
        self.embedding = nn.Embedding(classes, latent)
        wide = 4 * channels
        self.start = nn.Linear(latent, wide * self.side**2)
        self.body = nn.Sequential(
            *_widen(wide, wide), *_widen(wide, 2 * channels), *_widen(2 * channels, channels)
        )
        self.output = nn.Conv2d(channels, 3, 3, padding=1)
        keras_initial_weights(self)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Noise (N, latent) standard normal and labels (N,) become images (N, 3, H, W) in [-1, 1]."""
        features = torch.relu(self.start(noise * self.embedding(labels)))
        features = features.reshape(noise.shape[0], -1, self.side, self.side)
        return torch.tanh(self.output(self.body(features)))


class DenseCGANDiscriminator(nn.Module):
    """The flattened image times the embedded class becomes a score through three dense layers of 512.

    Args:
        resolution: side of the image.
        classes: number of classes.
        dropout: rate after each dense layer.
    """

    def __init__(self, resolution: int, classes: int, dropout: float = 0.4) -> None:
        super().__init__()
        values = 3 * resolution**2
        self.embedding = nn.Embedding(classes, values)
        self.body = nn.Sequential(
            *_dense(values, 512, dropout), *_dense(512, 512, dropout), *_dense(512, 512, dropout)
        )
        self.score = nn.Linear(512, 1)
        keras_initial_weights(self)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] and labels (N,) become logits (N,); the sigmoid is in the loss."""
        scores: Tensor = self.score(self.body(images.flatten(1) * self.embedding(labels)))[:, 0]
        return scores.float()


def keras_initial_weights(network: nn.Module) -> None:
    """Keras's defaults, in place: Glorot uniform weights, biases zero.

    Embeddings keep standard normal values: with Keras's -0.05..0.05 a product with one all but wipes out
    noise and image, and the first hundreds of steps go into making it larger.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def _widen(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]


def _dense(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2), nn.Dropout(dropout)]
