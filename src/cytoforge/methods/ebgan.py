"""Energy-based GAN, class-conditional: the discriminator is an autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.method import MethodConfig, Turn
from cytoforge.losses.energy import margin_discriminator, repelling
from cytoforge.methods.adversarial import Adversarial, AdversarialConfig, check_side
from cytoforge.networks.convolutional import ConvolutionalGenerator
from cytoforge.networks.energy_autoencoder import EnergyAutoencoder


class EBGANConfig(AdversarialConfig):
    """Settings of `ebgan`."""

    generator_channels: int = Field(64, ge=4, description="generator width at full resolution")
    discriminator_channels: int = Field(64, ge=4, description="autoencoder width at full resolution")
    most_channels: int = Field(512, ge=4, description="upper bound of the width")
    code: int = Field(128, ge=1, description="length of the autoencoder's code")
    margin: float = Field(0.2, gt=0, description="energy beyond which generated images are not pushed up")
    repelling: float = Field(0.1, ge=0, description="weight of the squared cosine between codes of a batch")
    betas: tuple[float, float] = Field((0.5, 0.999), description="Adam's decay rates")


class EBGAN(Adversarial):
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
    config: EBGANConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"generator_channels": 32, "discriminator_channels": 32, "most_channels": 256, "batch": 32},
        "without-repelling": {"repelling": 0.0},
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, EBGANConfig)
        check_side("ebgan", shape)
        self.config, self.noise_length = config, config.latent
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

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Energy of real cells, and what generated ones lack to the margin."""
        with torch.no_grad():
            fake = self.generated(batch, "discriminator")
        real, fake = self._augment(batch.images, batch, "real"), self._augment(fake, batch, "fake")
        energies, _ = self._energies(torch.cat([real, fake]), batch.labels.repeat(2))
        real_energies, fake_energies = energies.chunk(2)
        return {"discriminator": margin_discriminator(real_energies, fake_energies, self.config.margin)}

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Energy of generated cells, and how alike their codes are."""
        fake = self._augment(self.generated(batch, "generator"), batch, "generator")
        energies, codes = self._energies(fake, batch.labels)
        losses = {"generator": energies.mean()}
        if self.config.repelling and len(codes) > 1:
            losses["repelling"] = self.config.repelling * repelling(codes)
        return losses

    def _energies(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.networks["discriminator"](images, labels)
        return found
