"""Generative adversarial network with any loss family and any penalty, class-conditional."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from cytoforge.core.batch import DataShape
from cytoforge.core.method import MethodConfig
from cytoforge.losses.adversarial import Family
from cytoforge.methods.adversarial import check_side
from cytoforge.methods.two_players import TwoPlayers, TwoPlayersConfig
from cytoforge.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator


class GANConfig(TwoPlayersConfig):
    """Settings of `gan`; the defaults are a relativistic GAN with both zero-centred penalties."""

    loss: Family = Field("relativistic", description="loss family")
    generator_channels: int = Field(64, ge=4, description="generator width at full resolution")
    discriminator_channels: int = Field(64, ge=4, description="discriminator width at half resolution")
    most_channels: int = Field(512, ge=4, description="upper bound of the width")
    r1: float = Field(1.0, ge=0, description="weight of half the squared gradient at real images")
    r2: float = Field(1.0, ge=0, description="weight of half the squared gradient at generated images")


_PLAIN = {"r1": 0.0, "r2": 0.0}
_SMALL = {"generator_channels": 32, "discriminator_channels": 32, "most_channels": 256, "batch": 32}


class GAN(TwoPlayers):
    """A discriminator tells real cells from generated ones, a generator deceives it; losses are exchangeable.

    Presets named after papers have the paper's loss and bounds, not its networks. `wgan` has Adam without
    momentum, betas (0, 0.99), where the paper has RMSProp: the same but for the correction of early steps.

    Reference:
        Goodfellow et al., Generative adversarial nets, 2014. https://arxiv.org/abs/1406.2661
        Huang et al., The GAN is dead; long live the GAN!, 2024, equations 2 and 3 (the defaults).
        https://arxiv.org/abs/2501.05441
    """

    name = "gan"
    config_type = GANConfig
    config: GANConfig
    frozen_in_refinement = ("discriminator/body.0.*", "discriminator/body.2.*")  # see `WGANGP`
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": {**_SMALL, "penalty_every": 2, "augment": "translation,cutout"},
        "vanilla": {**_PLAIN, "loss": "non-saturating", "betas": (0.5, 0.999)},
        "wgan": {
            **_PLAIN,
            "loss": "wasserstein",
            "weight_clip": 0.01,
            "discriminator_steps": 5,
            "learning_rate": 5e-5,
        },
        "wgan-gp": {
            **_PLAIN,
            "loss": "wasserstein",
            "gradient_penalty": 10.0,
            "discriminator_steps": 5,
            "learning_rate": 1e-4,
            "betas": (0.0, 0.9),
        },
        "sngan": {**_PLAIN, "loss": "hinge", "spectral_norm": True, "betas": (0.0, 0.9)},
        "overpowering-discriminator": {
            **_SMALL,
            **_PLAIN,
            "loss": "minimax",
            "discriminator_steps": 5,
            "discriminator_learning_rate": 1e-3,
        },
        "mode-collapse": {
            **_SMALL,
            **_PLAIN,
            "loss": "non-saturating",
            "learning_rate": 8e-4,
            "discriminator_learning_rate": 2e-4,
            "betas": (0.5, 0.999),
        },
        "memorising": {**_SMALL, **_PLAIN, "r1": 0.1, "augment": "", "symmetry": ""},
    }

    def _build(self, config: MethodConfig, shape: DataShape) -> dict[str, nn.Module]:
        assert isinstance(config, GANConfig)
        check_side("gan", shape)
        classes = len(shape.classes)
        return {
            "generator": ConvolutionalGenerator(
                shape.resolution, classes, config.latent, config.generator_channels, config.most_channels
            ),
            "discriminator": ConvolutionalCritic(
                shape.resolution, classes, config.discriminator_channels, config.most_channels
            ),
        }
