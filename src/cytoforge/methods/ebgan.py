"""Energy-based GAN, class-conditional: the discriminator is an autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig, Turn
from cytoforge.core.randomness import normal
from cytoforge.data.augment import Policy, augment
from cytoforge.losses.energy import margin_discriminator, repelling
from cytoforge.networks.convolutional import ConvolutionalGenerator
from cytoforge.networks.energy_autoencoder import EnergyAutoencoder


class EBGANConfig(MethodConfig):
    """Settings of `ebgan`."""

    latent: int = Field(128, ge=1, description="length of the noise vector")
    generator_channels: int = Field(64, ge=4, description="generator width at full resolution")
    discriminator_channels: int = Field(64, ge=4, description="autoencoder width at full resolution")
    most_channels: int = Field(512, ge=4, description="upper bound of the width")
    code: int = Field(128, ge=1, description="length of the autoencoder's code")
    margin: float = Field(0.2, gt=0, description="energy beyond which generated images are not pushed up")
    repelling: float = Field(0.1, ge=0, description="weight of the squared cosine between codes of a batch")
    learning_rate: float = Field(2e-4, gt=0, description="Adam's learning rate of both networks")
    betas: tuple[float, float] = Field((0.5, 0.999), description="Adam's decay rates")
    augment: Policy = Field("", description="differentiable augmentation, for example translation,cutout")


class EBGAN(Method):
    """An autoencoder learns to code real cells and to fail at generated ones; a generator makes it succeed.

    With the energy D(x) = mean squared error of coding x and drawing it again:

        discriminator: E[D(real)] + E[max(0, margin - D(fake))]
        generator:     E[D(fake)] + repelling * mean squared cosine between the codes of different fakes

    The repelling term spreads the images of a batch and is this family's own means against mode collapse. It
    sees the images of one process only.

    Reference:
        Zhao, Mathieu and LeCun, Energy-based GAN, 2017, equations 1, 2 and 4. https://arxiv.org/abs/1609.03126
    """

    name = "ebgan"
    config_type = EBGANConfig
    averaged = ("generator",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"generator_channels": 32, "discriminator_channels": 32, "most_channels": 256, "batch": 32},
        "without-repelling": {"repelling": 0.0},
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, EBGANConfig)
        if shape.resolution not in (32, 64, 128, 256):
            raise ConfigError(
                f"ebgan works at a resolution of 32, 64, 128 or 256 px, not {shape.resolution}; "
                "choose one of them with --resolution."
            )
        self.config = config
        side, classes, most = shape.resolution, len(shape.classes), config.most_channels
        self.networks = {
            "generator": ConvolutionalGenerator(
                side, classes, config.latent, config.generator_channels, most
            ),
            "discriminator": EnergyAutoencoder(
                side, classes, config.discriminator_channels, most, config.code
            ),
        }

    def turns(self) -> tuple[Turn, ...]:
        """Alternating: the autoencoder, then the generator."""
        return (
            Turn("discriminator", self.discriminator_losses),
            Turn("generator", self.generator_losses),
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for both."""
        return {
            name: Adam(network.parameters(), self.config.learning_rate, self.config.betas, fused=True)
            for name, network in self.networks.items()
        }

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Standard normal (N, latent)."""
        return normal(seeds, (self.config.latent,), "latent")

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) from noise (N, latent) and labels (N,); there is no condition."""
        images: Tensor = self.networks["generator"](noise, labels)
        return images

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Energy of real cells, and what generated ones lack to the margin."""
        with torch.no_grad():
            fake = self._generate(batch, "discriminator")
        real, fake = self._augment(batch.images, batch, "real"), self._augment(fake, batch, "fake")
        energies, _ = self._energies(torch.cat([real, fake]), batch.labels.repeat(2))
        real_energies, fake_energies = energies.chunk(2)
        return {"discriminator": margin_discriminator(real_energies, fake_energies, self.config.margin)}

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Energy of generated cells, and how alike their codes are."""
        fake = self._augment(self._generate(batch, "generator"), batch, "generator")
        energies, codes = self._energies(fake, batch.labels)
        losses = {"generator": energies.mean()}
        if self.config.repelling and len(codes) > 1:
            losses["repelling"] = self.config.repelling * repelling(codes)
        return losses

    def _generate(self, batch: Batch, stream: str) -> Tensor:
        noise = normal(batch.seeds, (self.config.latent,), stream).to(batch.images.device)
        return self.sample(noise, batch.labels)

    def _energies(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.networks["discriminator"](images, labels)
        return found

    def _augment(self, images: Tensor, batch: Batch, stream: str) -> Tensor:
        if not self.config.augment:
            return images
        return augment(images, self.config.augment, batch.seeds, stream)
