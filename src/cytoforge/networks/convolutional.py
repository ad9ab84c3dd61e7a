"""Class-conditional convolutional generator and critic for square images of 32 to 256 pixels.

Neither mixes the images of a batch (no batch norm), so an image is the same in any batch and two processes
compute what one does. The generator upsamples bilinearly and convolves, and pads by repeating the edge:
transposed convolutions leave checkerboards, nearest neighbours a fine grid, zeros a frame of a pixel or two.
A person hardly sees grid and frame, but a feature network does: not one cell in a hundred of a generator that
had them counted as resembling a real one.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COARSEST = 4
"""Side of the smallest feature map, in pixels."""


def widths(resolution: int, channels: int, most: int) -> list[int]:
    """Channels of the feature maps of side 4, 8, ... `resolution`: doubled each time the side is halved.

    Args:
        resolution: side of the images, a power of two.
        channels: at full resolution.
        most: upper bound.

    Example:
        >>> widths(64, 32, 256)
        [256, 256, 128, 64, 32]
    """
    levels = round(math.log2(resolution // COARSEST))
    return [min(most, channels << (levels - level)) for level in range(levels + 1)]


def narrowing(resolution: int, channels: int, most_channels: int) -> nn.Sequential:
    """Strided convolutions from images (N, 3, R, R) down to `COARSEST` pixels; arguments as of the critic."""
    sizes = [3, *reversed(widths(resolution // 2, channels, most_channels))]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


class ModulatedBlock(nn.Module):
    """3x3 convolution, pixel norm, then a scale and shift of each channel that the latent code sets.

    With `pixel_noise`, each channel has a learned strength of noise that is added before scale and shift:
    grain, chromatin and debris need not be computed from the code.

    Reference:
        Karras et al., Progressive growing of GANs, 2018, section 4.2 (pixel norm).
        https://arxiv.org/abs/1710.10196
        Perez et al., FiLM, 2018 (scale and shift). https://arxiv.org/abs/1709.07871
        Karras et al., A style-based generator architecture, 2019, section 2 (noise). https://arxiv.org/abs/1812.04948
    """

    def __init__(
        self, inputs: int, outputs: int, code: int, upsample: bool, pixel_noise: bool = False
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate", bias=False)
        self.modulation = nn.Linear(code, 2 * outputs)
        nn.init.kaiming_normal_(self.convolution.weight, a=0.2)
        nn.init.normal_(self.modulation.weight, std=0.5 * code**-0.5)
        nn.init.zeros_(self.modulation.bias)
        self.strength = nn.Parameter(torch.full((outputs, 1, 1), 0.1)) if pixel_noise else None

    def forward(self, features: Tensor, code: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Features (N, C, H, W), code (N, K), noise (N, 1, R, R) become (N, C', H or 2H, W or 2W)."""
        if self.upsample:
            features = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
        features = self.convolution(features)
        scale, shift = self.modulation(code).to(features.dtype)[:, :, None, None].chunk(2, dim=1)
        length = features.square().mean(dim=1, keepdim=True).add(1e-4).rsqrt()
        features = features * length
        if self.strength is not None and pixels is not None:
            features = features + (self.strength * _at_side(pixels, features.shape[-1])).to(features.dtype)
        return F.leaky_relu(features * (1 + scale) + shift, 0.2)


class ConvolutionalGenerator(nn.Module):
    """Noise and a class become an image.

    Args:
        resolution: side of the image, 32, 64, 128 or 256.
        classes: number of classes.
        latent: length of the noise.
        channels: width at full resolution; see `widths`.
        most_channels: upper bound of the width.
        pixel_noise: take noise for each pixel besides the latent code.

    Attributes:
        noise_length: numbers that `forward` takes for each image.
    """

    def __init__(
        self,
        resolution: int,
        classes: int,
        latent: int = 128,
        channels: int = 32,
        most_channels: int = 256,
        pixel_noise: bool = False,
    ) -> None:
        super().__init__()
        self.latent, self.resolution = latent, resolution
        self.noise_length = latent + pixel_noise * resolution**2
        code = 128
        sizes = widths(resolution, channels, most_channels)
        self.embedding = nn.Embedding(classes, latent)
        first, second = nn.Linear(2 * latent, code), nn.Linear(code, code)
        for layer in (first, second):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
        self.mapping = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2))
        self.start = nn.Linear(2 * latent, sizes[0] * COARSEST**2)
        self.blocks = nn.ModuleList(
            ModulatedBlock(inputs, outputs, code, upsample=level > 0, pixel_noise=pixel_noise)
            for level, (inputs, outputs) in enumerate(zip([sizes[0], *sizes], sizes, strict=False))
        )
        self.output = nn.Conv2d(sizes[-1], 3, 3, padding=1, padding_mode="replicate")

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Noise (N, noise_length) standard normal and labels (N,) become images (N, 3, H, W) in [-1, 1].

        Shorter noise (truncation) moves an image towards its class: the latent part is not normalised here.
        The part for pixels is, since less grain would not be more typical.
        """
        noise, pixels = noise[:, : self.latent], noise[:, self.latent :]
        square = (pixels.shape[0], 1, self.resolution, self.resolution)
        field = _unit(pixels).reshape(square) if pixels.shape[1] else None
        latent = torch.cat([noise, _unit(self.embedding(labels))], dim=1)
        code = self.mapping(latent)
        features = self.start(latent).unflatten(1, (-1, COARSEST, COARSEST))
        for block in self.blocks:
            features = block(features, code, field)
        return torch.tanh(self.output(features))


class ConvolutionalCritic(nn.Module):
    """An image and its class become a score; strided convolutions, no normalisation.

    Args:
        resolution: side of the image, 32, 64, 128 or 256.
        classes: number of classes.
        channels: width at half resolution; see `widths`.
        most_channels: upper bound of the width.

    Reference:
        Radford, Metz and Chintala, DCGAN, 2016 (strided convolutions). https://arxiv.org/abs/1511.06434
        Miyato and Koyama, cGANs with projection discriminator, 2018, equation 3.
        https://arxiv.org/abs/1802.05637
    """

    def __init__(self, resolution: int, classes: int, channels: int = 32, most_channels: int = 256) -> None:
        super().__init__()
        self.body = narrowing(resolution, channels, most_channels)
        features = widths(resolution // 2, channels, most_channels)[0] * COARSEST**2
        self.score = nn.Linear(features, 1)
        self.embedding = nn.Embedding(classes, features)
        nn.init.normal_(self.embedding.weight, std=features**-0.5)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] and labels (N,) become scores (N,)."""
        return self.scores(self.features(images), labels)

    def features(self, images: Tensor) -> Tensor:
        """What the convolutions see in the images: (N, F)."""
        features: Tensor = self.body(images).flatten(1)
        return features

    def scores(self, features: Tensor, labels: Tensor) -> Tensor:
        """Scores (N,) of features (N, F) and labels (N,)."""
        projection = (features * self.embedding(labels)).sum(dim=1)
        scores: Tensor = self.score(features)[:, 0] + projection
        return scores.float()


class ConvolutionalEncoder(nn.Module):
    """An image becomes a normal distribution over latent codes; the convolutions of the critic.

    Args:
        resolution: side of the image, 32, 64, 128 or 256.
        latent: length of the code.
        channels: width at half resolution; see `widths`.
        most_channels: upper bound of the width.

    Reference:
        Kingma and Welling, Auto-encoding variational Bayes, 2014. https://arxiv.org/abs/1312.6114
    """

    def __init__(self, resolution: int, latent: int, channels: int = 32, most_channels: int = 256) -> None:
        super().__init__()
        self.body = narrowing(resolution, channels, most_channels)
        features = widths(resolution // 2, channels, most_channels)[0] * COARSEST**2
        self.distribution = nn.Linear(features, 2 * latent)
        nn.init.normal_(self.distribution.weight, std=0.3 * features**-0.5)
        nn.init.zeros_(self.distribution.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) in [-1, 1] become mean and log variance, (N, latent) each, float32."""
        mean, log_variance = self.distribution(self.body(images).flatten(1)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 2)


class EncodedGenerator(nn.Module):
    """A generator that also rebuilds given images from their codes, so that it leaves no kind of cell out.

    Attributes:
        generator: draws.
        encoder: gives a given image its code; drawing does without it.

    Reference:
        Larsen et al., Autoencoding beyond pixels using a learned similarity metric, 2016.
        https://arxiv.org/abs/1512.09300
    """

    def __init__(self, generator: ConvolutionalGenerator, encoder: ConvolutionalEncoder) -> None:
        super().__init__()
        self.generator = generator
        self.encoder = encoder

    def forward(
        self, noise: Tensor, labels: Tensor, given: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Noise (N, noise_length) and labels (N,) become images (N, 3, H, W) in [-1, 1].

        With images `given` (M, 3, H, W), M = ceil(N / 2), every other image, from the first on, is drawn from
        the code of one of these, which takes the place of the latent part of its noise; the mean and log
        variance of the codes, (M, latent) each, are returned as well.
        """
        if given is None:
            images: Tensor = self.generator(noise, labels)
            return images
        mean, log_variance = self.encoder(given)
        coded, latent = noise.clone(), slice(self.generator.latent)
        coded[::2, latent] = mean + (log_variance / 2).exp() * noise[::2, latent]
        return self.generator(coded, labels), mean, log_variance


def _at_side(pixels: Tensor, side: int) -> Tensor:
    """White noise (N, 1, R, R) at a coarser side, its variance kept."""
    factor = pixels.shape[-1] // side
    return F.avg_pool2d(pixels, factor) * factor if factor > 1 else pixels


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (N, D) scaled to root mean square 1."""
    return vectors * vectors.square().mean(dim=1, keepdim=True).add(1e-8).rsqrt()
