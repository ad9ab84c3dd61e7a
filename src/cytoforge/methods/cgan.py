"""Conditional GANs: the dense one of source 001, and one with convolutions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import MethodConfig, Turn
from cytoforge.data.augment import Policy
from cytoforge.losses.adversarial import minimax_discriminator, non_saturating_generator
from cytoforge.losses.penalty import zero_centred_penalty
from cytoforge.methods.adversarial import Adversarial, AdversarialConfig, check_side
from cytoforge.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator
from cytoforge.networks.dense_cgan import START, DenseCGANDiscriminator, DenseCGANGenerator


class ConditionalGANConfig(AdversarialConfig):
    """What both conditional GANs can be set to."""

    latent: int = Field(100, ge=1, description="length of the noise vector")
    betas: tuple[float, float] = Field((0.5, 0.999), description="Adam's decay rates")
    r1: float = Field(0.0, ge=0, description="weight of the discriminator's squared gradient at real images")


class ConditionalGAN(Adversarial):
    """What both conditional GANs share: two turns and binary cross-entropy.

        discriminator: E[softplus(-D(real))] + E[softplus(D(fake))] + r1 / 2 E[||grad D(real)||^2]
        generator:     E[softplus(-D(fake))]

    Reference:
        Mirza and Osindero, Conditional generative adversarial nets, 2014, equation 2.
        https://arxiv.org/abs/1411.1784
    """

    config: ConditionalGANConfig

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, ConditionalGANConfig)
        self.config, self.noise_length = config, config.latent
        self.networks = self._build(config, shape)

    @abstractmethod
    def _build(self, config: MethodConfig, shape: DataShape) -> dict[str, nn.Module]:
        """The networks "generator" and "discriminator"."""

    def turns(self) -> tuple[Turn, ...]:
        """Alternating: the discriminator, then the generator."""
        return (
            Turn("discriminator", self.discriminator_losses),
            Turn("generator", self.generator_losses),
        )

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of telling real cells from generated ones of the same classes, and R1."""
        with torch.no_grad():
            fake = self.generated(batch, "discriminator")
        real, fake = self._augment(batch.images, batch, "real"), self._augment(fake, batch, "fake")
        scores = self._score(torch.cat([real, fake]), batch.labels.repeat(2))
        losses = {"discriminator": minimax_discriminator(*scores.chunk(2))}
        if self.config.r1:
            steepness = zero_centred_penalty(lambda images: self._score(images, batch.labels), real)
            losses["r1"] = self.config.r1 / 2 * steepness
        return losses

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of generated cells with the answer "real"."""
        fake = self._augment(self.generated(batch, "generator"), batch, "generator")
        scores = self._score(fake, batch.labels)
        return {"generator": non_saturating_generator(scores, scores)}

    def _score(self, images: Tensor, labels: Tensor) -> Tensor:
        scores: Tensor = self.networks["discriminator"](images, labels)
        return scores


class DenseCGANConfig(ConditionalGANConfig):
    """Settings of `cgan-dense`; the defaults are the source's, and Keras's where it is silent."""

    dropout: float = Field(0.4, ge=0, lt=1, description="rate after each dense layer of the discriminator")
    channels: int = Field(64, ge=1, description="filters of the generator's last upsampling")


class DenseCGAN(ConditionalGAN):
    """The dense conditional GAN of source 001, to the letter; a lesson in what the other methods mend.

    Both networks multiply their input by an embedding of the class. A discriminator without convolutions
    compares pixel with pixel: it learns the training cells by heart, and the generator a few mean cells with
    grain on them. The preset `source` also leaves out what the source does not mention, moving averages and
    augmentation.
    """

    name = "cgan-dense"
    config_type = DenseCGANConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "source": {"batch": 64, "average_half_life": 1, "symmetry": "", "balanced": False}
    }

    def _build(self, config: MethodConfig, shape: DataShape) -> dict[str, nn.Module]:
        assert isinstance(config, DenseCGANConfig)
        if shape.resolution % START:
            raise ConfigError(
                f"cgan-dense works at a resolution that is a multiple of {START}, not {shape.resolution}; "
                "the source's is 64."
            )
        classes = len(shape.classes)
        return {
            "generator": DenseCGANGenerator(shape.resolution, classes, config.latent, config.channels),
            "discriminator": DenseCGANDiscriminator(shape.resolution, classes, config.dropout),
        }


class CGANConfig(ConditionalGANConfig):
    """Settings of `cgan`."""

    generator_channels: int = Field(32, ge=4, description="generator width at full resolution")
    discriminator_channels: int = Field(32, ge=4, description="discriminator width at half resolution")
    most_channels: int = Field(256, ge=4, description="upper bound of the width")
    discriminator_learning_rate: float | None = Field(1e-3, gt=0, description="of the discriminator")
    betas: tuple[float, float] = Field((0.0, 0.99), description="Adam's decay rates")
    r1: float = Field(1.0, ge=0, description="weight of the discriminator's squared gradient at real images")
    augment: Policy = Field("translation,cutout", description="differentiable augmentation")


class CGAN(ConditionalGAN):
    """Conditional GAN of source 001 with convolutions, R1 penalty and differentiable augmentation.

    The discriminator still multiplies by an embedding of the class, but features, not pixels: a projection.
    It learns five times faster than the generator: at equal rates the generator moves on before it has seen a
    difference, and its loss stays at that of a coin, 2 ln 2.

    Reference:
        Miyato and Koyama, cGANs with projection discriminator, 2018. https://arxiv.org/abs/1802.05637
        Mescheder, Geiger and Nowozin, 2018, equation 9 (R1). https://arxiv.org/abs/1801.04406
        Zhao et al., Differentiable augmentation, 2020. https://arxiv.org/abs/2006.10738
        Heusel et al., GANs trained by a two time-scale update rule, 2017. https://arxiv.org/abs/1706.08500
    """

    name = "cgan"
    config_type = CGANConfig
    config: CGANConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cpu": {"batch": 32}}

    def _build(self, config: MethodConfig, shape: DataShape) -> dict[str, nn.Module]:
        assert isinstance(config, CGANConfig)
        check_side("cgan", shape)
        size, classes = shape.resolution, len(shape.classes)
        discriminator = ConvolutionalCritic(
            size, classes, config.discriminator_channels, config.most_channels
        )
        _strengthen(discriminator.body)
        return {
            "generator": ConvolutionalGenerator(
                size, classes, config.latent, config.generator_channels, config.most_channels
            ),
            "discriminator": discriminator,
        }


def _strengthen(layers: nn.Sequential) -> None:
    """He's initial weights, in place: with PyTorch's own, scores start as faint as a fiftieth of the input.

    Reference:
        He et al., Delving deep into rectifiers, 2015, equation 14. https://arxiv.org/abs/1502.01852
    """
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
