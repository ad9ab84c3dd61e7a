"""Conditional GANs: the dense one of source 001, and one with convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from cytoforge.core.batch import DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import MethodConfig
from cytoforge.data.augment import Policy
from cytoforge.methods.adversarial import check_side
from cytoforge.methods.two_players import TwoPlayers, TwoPlayersConfig
from cytoforge.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator
from cytoforge.networks.dense_cgan import START, DenseCGANDiscriminator, DenseCGANGenerator


class ConditionalGANConfig(TwoPlayersConfig):
    """What both conditional GANs can be set to."""

    latent: int = Field(100, ge=1, description="length of the noise vector")
    betas: tuple[float, float] = Field((0.5, 0.999), description="Adam's decay rates")


class DenseCGANConfig(ConditionalGANConfig):
    """Settings of `cgan-dense`; the defaults are the source's, and Keras's where it is silent."""

    dropout: float = Field(0.4, ge=0, lt=1, description="rate after each dense layer of the discriminator")
    channels: int = Field(64, ge=1, description="filters of the generator's last upsampling")


class DenseCGAN(TwoPlayers):
    """The dense conditional GAN of source 001, to the letter; a lesson in what the other methods mend.

    Both networks multiply their input by an embedding of the class. A discriminator without convolutions
    compares pixel with pixel: it learns the training cells by heart, and the generator a few mean cells with
    grain on them. The preset `source` also leaves out what the source does not mention, moving averages and
    augmentation.

    Reference:
        Mirza and Osindero, Conditional generative adversarial nets, 2014, equation 2.
        https://arxiv.org/abs/1411.1784
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
    r1: float = Field(
        1.0, ge=0, description="weight of half the discriminator's squared gradient at real images"
    )
    augment: Policy = Field("translation,cutout", description="differentiable augmentation")


class CGAN(TwoPlayers):
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
    frozen_in_refinement = ("discriminator/body.0.*", "discriminator/body.2.*")  # see `WGANGP`
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
