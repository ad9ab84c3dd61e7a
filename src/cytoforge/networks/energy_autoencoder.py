"""Autoencoder whose error is the energy of an image: the discriminator of an energy-based GAN."""

from __future__ import annotations

from torch import Tensor, nn

from cytoforge.networks.convolutional import COARSEST, ModulatedBlock, narrowing, widths


class EnergyAutoencoder(nn.Module):
    """An image of a class becomes its energy, the error with which it is coded and drawn again, and its code.

    The decoder knows the class, which sets scale and shift of its channels, and the code is narrow, so that
    an image of another class costs more.

    Args:
        resolution: side of the image, 32, 64, 128 or 256.
        classes: number of classes.
        channels: width at full resolution of the decoder, at half resolution of the encoder.
        most_channels: upper bound of the width.
        code: length of the code.

    Reference:
        Zhao, Mathieu and LeCun, Energy-based GAN, 2017, section 2. https://arxiv.org/abs/1609.03126
    """

    def __init__(
        self, resolution: int, classes: int, channels: int = 32, most_channels: int = 256, code: int = 128
    ) -> None:
        super().__init__()
        layers = narrowing(resolution, channels, most_channels)
        features = widths(resolution // 2, channels, most_channels)[0] * COARSEST**2
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, code))
        sizes = widths(resolution, channels, most_channels)
        self.embedding = nn.Embedding(classes, code)
        self.start = nn.Linear(code, sizes[0] * COARSEST**2)
        self.blocks = nn.ModuleList(
            ModulatedBlock(inputs, outputs, code, upsample=level > 0)
            for level, (inputs, outputs) in enumerate(zip([sizes[0], *sizes], sizes, strict=False))
        )
        self.output = nn.Conv2d(sizes[-1], 3, 3, padding=1, padding_mode="replicate")

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) in [-1, 1] and labels (N,) become energies (N,), from 0, and codes (N, K)."""
        codes: Tensor = self.encoder(images)
        drawn = self.reconstruct(codes, labels)
        return (drawn.float() - images.float()).square().flatten(1).mean(dim=1), codes.float()

    def reconstruct(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] from codes (N, K) and labels (N,)."""
        features = self.start(codes).unflatten(1, (-1, COARSEST, COARSEST))
        style = self.embedding(labels)
        for block in self.blocks:
            features = block(features, style)
        images: Tensor = self.output(features).tanh()
        return images
