"""GAN whose latent codes must be readable from its images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.method import MethodConfig
from cytoforge.losses.information import categorical_information, continuous_information
from cytoforge.methods.adversarial import check_side
from cytoforge.methods.two_players import TwoPlayers, TwoPlayersConfig
from cytoforge.networks.convolutional import ConvolutionalGenerator
from cytoforge.networks.recogniser import Recognised, RecognisingDiscriminator


class InfoGANConfig(TwoPlayersConfig):
    """Settings of `infogan`."""

    labelled: bool = Field(True, description="whether generator and discriminator are told the class")
    latent: int = Field(64, ge=1, description="length of the noise without meaning")
    categories: int = Field(5, ge=2, description="values of the categorical code")
    continuous: int = Field(2, ge=1, description="number of continuous codes, uniform in -1..1")
    information: float = Field(1.0, ge=0, description="weight of the information about the category")
    continuous_information: float = Field(0.1, ge=0, description="weight of that about continuous codes")
    generator_channels: int = Field(64, ge=4, description="generator width at full resolution")
    discriminator_channels: int = Field(64, ge=4, description="discriminator width at half resolution")
    most_channels: int = Field(512, ge=4, description="upper bound of the width")
    r1: float = Field(
        1.0, ge=0, description="weight of half the discriminator's squared gradient at real images"
    )


class InfoGAN(TwoPlayers):
    """A GAN that finds, without being told, what cells differ in: one categorical and some continuous codes.

    A recogniser Q, which shares the discriminator's convolutions, reads the codes back from the image. Both
    players gain from the lower bound of the information between code and image, H(c) + E[log Q(c | image)],
    which is logged with its weight and a minus:

        discriminator: E[softplus(-D(real))] + E[softplus(D(fake))] + R1 - information
        generator:     E[softplus(-D(fake))] - information

    (with the default loss; it can be any other).

    The noise is standard normal throughout. The category is the largest of `categories` of its numbers, a
    continuous code is its number's place in the normal distribution, so that truncation leaves categories
    alone and moves the other codes to their middle. With `labelled=false` classes are neither seen nor asked
    for, as in the paper; with the class given, codes describe what cells of one class differ in.

    Reference:
        Chen et al., InfoGAN, 2016, equations 5 and 6. https://arxiv.org/abs/1606.03657
    """

    name = "infogan"
    config_type = InfoGANConfig
    config: InfoGANConfig
    # see `WGANGP`
    frozen_in_refinement = ("discriminator/critic.body.0.*", "discriminator/critic.body.2.*")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {"generator_channels": 32, "discriminator_channels": 32, "most_channels": 256, "batch": 32},
        "paper": {"labelled": False, "r1": 0.0, "betas": (0.5, 0.999)},
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        super().__init__(config, shape)
        self.noise_length += self.config.categories + self.config.continuous

    def _build(self, config: MethodConfig, shape: DataShape) -> dict[str, nn.Module]:
        assert isinstance(config, InfoGANConfig)
        check_side("infogan", shape)
        side, most = shape.resolution, config.most_channels
        codes = config.categories, config.continuous
        classes = len(shape.classes) if config.labelled else 1
        return {
            "generator": ConvolutionalGenerator(
                side, classes, config.latent + sum(codes), config.generator_channels, most
            ),
            "discriminator": RecognisingDiscriminator(
                side, classes, *codes, config.discriminator_channels, most
            ),
        }

    def codes(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What the noise says: categories (N,) and continuous codes (N, D) in [-1, 1]."""
        _, categories, continuous = self._parts(noise)
        return categories.argmax(dim=1), torch.erf(continuous / math.sqrt(2))

    def with_code(self, noise: Tensor, category: int | None = None, **continuous: float) -> Tensor:
        """The noise with some codes set, for pictures that walk along one of them.

        Args:
            noise: (N, ...) as `noise` gives it.
            category: of all images; None leaves each its own.
            continuous: c0=0.5 sets the first continuous code, and so on; inside (-1, 1).
        """
        latent, categories, codes = (part.clone() for part in self._parts(noise))
        if category is not None:
            categories = (
                F.one_hot(torch.tensor(category), self.config.categories).to(noise).expand_as(categories)
            )
        for name, value in continuous.items():
            codes[:, int(name.removeprefix("c"))] = math.sqrt(2) * torch.erfinv(torch.tensor(value))
        return torch.cat([latent, categories, codes], dim=1)

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) from noise and labels (N,), which count only with `labelled`."""
        latent = self._parts(noise)[0]
        categories, continuous = self.codes(noise)
        chosen = F.one_hot(categories, self.config.categories).to(latent)
        # variance 1 for each input, whatever it means
        count = self.config.categories
        chosen = (chosen - 1 / count) * count / math.sqrt(count - 1)
        images: Tensor = self.networks["generator"](
            torch.cat([latent, chosen, continuous * math.sqrt(3)], dim=1), self._classes(labels)
        )
        return images

    def recognise(self, images: Tensor, labels: Tensor) -> Recognised:
        """Scores of images (N, 3, H, W) of classes (N,), and which codes Q reads from them."""
        found: Recognised = self.networks["discriminator"](images, self._classes(labels))
        return found

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The family's loss, penalties, and minus the information that is found in generated cells."""
        noise = self._noise(batch, "discriminator")
        with torch.no_grad():
            fake = self.sample(noise, batch.labels)
        real, fake = self._augment(batch.images, batch, "real"), self._augment(fake, batch, "fake")
        found = self.recognise(torch.cat([real, fake]), batch.labels.repeat(2))
        half = Recognised(*(part[len(batch) :] for part in found))
        return {
            "discriminator": self._told_apart(found.scores, batch),
            **self._penalties(real, fake, batch),
            **self._information(half, noise, "recogniser"),
        }

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The family's loss, and minus the information."""
        noise = self._noise(batch, "generator")
        fake = self._augment(self.sample(noise, batch.labels), batch, "generator")
        found = self.recognise(fake, batch.labels)
        losses = {"generator": self._deceived(found.scores, batch)}
        return {**losses, **self._information(found, noise, "generator")}

    def _score(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.recognise(images, labels).scores

    def _information(self, found: Recognised, noise: Tensor, who: str) -> dict[str, Tensor]:
        categories, continuous = self.codes(noise)
        category = categorical_information(found.category, categories)
        codes = continuous_information(found.means, found.log_deviations, continuous)
        return {
            f"{who} category": -self.config.information * category,
            f"{who} codes": -self.config.continuous_information * codes,
        }

    def _parts(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        latent, categories, codes = torch.split(
            noise, [config.latent, config.categories, config.continuous], dim=1
        )
        return latent, categories, codes

    def _classes(self, labels: Tensor) -> Tensor:
        return labels if self.config.labelled else torch.zeros_like(labels)
