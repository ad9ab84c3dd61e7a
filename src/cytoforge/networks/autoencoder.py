"""Conditional variational autoencoders: that of source 001, and a convolutional one without batch norm."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, one_hot

from cytoforge.networks.convolutional import COARSEST, ConvolutionalGenerator, widths
from cytoforge.networks.dense_cgan import keras_initial_weights

MOST_LOG_VARIANCE = 8.0
"""Log variances are cut at plus and minus this: a code of deviation 0.02 to 55."""


class Autoencoder(nn.Module):
    """Images become distributions of codes, codes become images, both knowing the class.

    Attributes:
        encoder: images (N, 3, H, W) and labels (N,) -> (N, 2 * latent), means and then log variances.
        decoder: codes (N, latent) and labels (N,) -> images (N, 3, H, W) in [-1, 1].

    Reference:
        Sohn, Lee and Yan, Learning structured output representation using deep conditional generative models,
        2015, equation 4 with the class as the condition.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images: Tensor, labels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, draw a code, decode.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            labels: (N,).
            noise: (N, latent) standard normal; zeros decode the most likely code.

        Returns:
            Reconstructions (N, 3, H, W), means (N, latent) and log variances (N, latent), float32.
        """
        mean, log_variance = self.encoder(images, labels).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)
        code = mean + noise * (log_variance / 2).exp()
        return self.decoder(code, labels), mean, log_variance


class ConditionalEncoder(nn.Module):
    """Strided convolutions without normalisation; the class is a linear shift of the first features.

    Args:
        resolution: side of the images, a power of two from 32.
        classes: number of classes.
        latent: length of the code.
        channels: width at half resolution; see `convolutional.widths`.
        most_channels: upper bound of the width.
    """

    def __init__(self, resolution: int, classes: int, latent: int, channels: int, most_channels: int) -> None:
        super().__init__()
        sizes = list(reversed(widths(resolution // 2, channels, most_channels)))
        self.first = nn.Conv2d(3, sizes[0], 4, stride=2, padding=1)
        self.embedding = nn.Embedding(classes, sizes[0])
        nn.init.normal_(self.embedding.weight, std=0.1)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.LeakyReLU(0.2), nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)]
        self.body = nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Flatten())
        self.code = nn.Linear(sizes[-1] * COARSEST**2, 2 * latent)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] and labels (N,) become means and log variances (N, 2 * latent)."""
        code: Tensor = self.code(self.body(self.first(images) + self.embedding(labels)[:, :, None, None]))
        return code


class SourceEncoder(nn.Module):
    """Four strided 3x3 convolutions with 64, 128, 256, 512 filters, batch norm and dropout; dense 256.

    The one-hot class joins the flattened features before the dense layer. The source names no activation
    behind that; with ReLU all 256 units are dead after ten steps of Adam at 0.001, since their 8,192 inputs
    are positive and the divergence pulls them all down, and every cell of a class gets the same code. So
    they are leaky.

    Args:
        resolution: side of the images, a multiple of 16; the source has 64.
        classes: number of classes.
        latent: length of the code.
        dropout: rate after each convolution.
        channels: filters of the first convolution, the others in proportion; the source has 64.
    """

    def __init__(
        self, resolution: int, classes: int, latent: int = 64, dropout: float = 0.3, channels: int = 64
    ) -> None:
        super().__init__()
        self.classes = classes
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((3, channels, 2 * channels, 4 * channels, 8 * channels)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.dense = nn.Linear(8 * channels * (resolution // 16) ** 2 + classes, 256)
        self.code = nn.Linear(256, 2 * latent)
        keras_initial_weights(self)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] and labels (N,) become means and log variances (N, 2 * latent)."""
        features = self.body(images)
        known = one_hot(labels, self.classes).to(features.dtype)
        code: Tensor = self.code(leaky_relu(self.dense(torch.cat([features, known], dim=1)), 0.2))
        return code


class SourceDecoder(nn.Module):
    """Dense to (H/4, W/4, 512), transposed 3x3 convolutions with 512, 256, 128, 64 filters, then the image.

    Four layers and only two doublings: the text does not say which layers stride; the last two do here, so
    that the wide ones are cheap.

    Args:
        resolution: side of the images, a multiple of 4; the source has 64, that is 16 x 16 x 512.
        classes: number of classes.
        latent: length of the code.
        channels: filters of the last transposed convolution, the others in proportion; the source has 64.
    """

    def __init__(self, resolution: int, classes: int, latent: int = 64, channels: int = 64) -> None:
        super().__init__()
        self.side, self.classes = resolution // 4, classes
        wide = 8 * channels
        self.dense = nn.Linear(latent + classes, wide * self.side**2)
        layers: list[nn.Module] = []
        sizes = (wide, wide, 4 * channels, 2 * channels, channels)
        for (inputs, outputs), stride in zip(pairwise(sizes), (1, 1, 2, 2), strict=True):
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=1, output_padding=stride - 1),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.output = nn.Conv2d(channels, 3, 3, padding=1)
        keras_initial_weights(self)

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Codes (N, latent) and labels (N,) become images (N, 3, H, W) in [-1, 1]."""
        known = one_hot(labels, self.classes).to(codes.dtype)
        features = torch.relu(self.dense(torch.cat([codes, known], dim=1)))
        features = features.reshape(codes.shape[0], -1, self.side, self.side)
        return torch.tanh(self.output(self.body(features)))


def convolutional_autoencoder(
    resolution: int, classes: int, latent: int = 64, channels: int = 32, most_channels: int = 256
) -> Autoencoder:
    """Neither half mixes the images of a batch; the decoder is the generator of `wgan-gp`."""
    return Autoencoder(
        ConditionalEncoder(resolution, classes, latent, channels, most_channels),
        ConvolutionalGenerator(resolution, classes, latent, channels, most_channels),
    )


def source_autoencoder(
    resolution: int, classes: int, latent: int = 64, dropout: float = 0.3, channels: int = 64
) -> Autoencoder:
    """The autoencoder of source 001."""
    return Autoencoder(
        SourceEncoder(resolution, classes, latent, dropout, channels),
        SourceDecoder(resolution, classes, latent, channels),
    )
