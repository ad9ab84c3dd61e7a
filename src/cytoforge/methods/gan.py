"""Generative adversarial network with any loss family and any penalty, class-conditional."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import MethodConfig, Turn
from cytoforge.core.randomness import uniform
from cytoforge.losses.adversarial import FAMILIES, TARGETED, soft_labels
from cytoforge.losses.penalty import clip_weights, gradient_penalty, zero_centred_penalty
from cytoforge.methods.adversarial import Adversarial, AdversarialConfig, check_side
from cytoforge.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator
from cytoforge.networks.spectral import spectrally_normalised

Family = Literal[
    "minimax",
    "non-saturating",
    "least-squares",
    "hinge",
    "wasserstein",
    "relativistic",
    "relativistic-hinge",
    "relativistic-least-squares",
    "f-kl",
    "f-reverse-kl",
    "f-pearson",
    "f-squared-hellinger",
    "f-jensen-shannon",
]


class GANConfig(AdversarialConfig):
    """Settings of `gan`; the defaults are a relativistic GAN with both zero-centred penalties."""

    loss: Family = Field("relativistic", description="loss family")
    generator_channels: int = Field(64, ge=4, description="generator width at full resolution")
    discriminator_channels: int = Field(64, ge=4, description="discriminator width at half resolution")
    most_channels: int = Field(512, ge=4, description="upper bound of the width")
    discriminator_steps: int = Field(1, ge=1, description="discriminator steps for each generator step")
    gradient_penalty: float = Field(0.0, ge=0, description="weight of (gradient length - 1)^2, as in WGAN-GP")
    r1: float = Field(1.0, ge=0, description="weight of the squared gradient at real images")
    r2: float = Field(1.0, ge=0, description="weight of the squared gradient at generated images")
    penalty_every: int = Field(1, ge=1, description="one image in how many is used for the penalties")
    spectral_norm: bool = Field(False, description="bound how far each discriminator layer stretches")
    weight_clip: float | None = Field(None, gt=0, description="bound of each weight of the discriminator")
    label_smoothing: float = Field(0.0, ge=0, le=0.5, description="most that a discriminator label is moved")
    label_flips: float = Field(0.0, ge=0, lt=0.5, description="share of discriminator labels exchanged")


_PLAIN = {"r1": 0.0, "r2": 0.0}
_SMALL = {"generator_channels": 32, "discriminator_channels": 32, "most_channels": 256, "batch": 32}


class GAN(Adversarial):
    """A discriminator tells real cells from generated ones, a generator deceives it; losses are exchangeable.

    What each player minimises stands in `losses.adversarial`, one pair of functions for each family.
    Penalties on the discriminator's gradient, bounds on its weights and softened labels can be added to any
    of them (labels to those that have some).

    Reference:
        Goodfellow et al., Generative adversarial nets, 2014. https://arxiv.org/abs/1406.2661
        Huang et al., The GAN is dead; long live the GAN!, 2024, equations 2 and 3 (the defaults).
        https://arxiv.org/abs/2501.05441
    """

    name = "gan"
    config_type = GANConfig
    config: GANConfig
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
            "learning_rate": 2e-3,
            "discriminator_learning_rate": 2e-4,
            "betas": (0.9, 0.999),
        },
        "memorising": {**_SMALL, **_PLAIN, "r1": 0.1, "augment": "", "symmetry": ""},
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, GANConfig)
        check_side("gan", shape)
        if (config.label_smoothing or config.label_flips) and config.loss not in TARGETED:
            raise ConfigError(
                f"label_smoothing and label_flips need a loss with labels, not {config.loss}; "
                f"choose one of {', '.join(TARGETED)}."
            )
        self.config, self.noise_length = config, config.latent
        classes = len(shape.classes)
        discriminator = ConvolutionalCritic(
            shape.resolution, classes, config.discriminator_channels, config.most_channels
        )
        self.networks = {
            "generator": ConvolutionalGenerator(
                shape.resolution, classes, config.latent, config.generator_channels, config.most_channels
            ),
            "discriminator": spectrally_normalised(discriminator) if config.spectral_norm else discriminator,
        }

    def turns(self) -> tuple[Turn, ...]:
        """The discriminator moves in every step, the generator after `discriminator_steps` of them."""
        return (
            Turn("discriminator", self.discriminator_losses),
            Turn("generator", self.generator_losses, every=self.config.discriminator_steps),
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for both; the discriminator's weights are clipped after each step where that is asked for."""
        optimizers = super().optimizers()
        bound, discriminator = self.config.weight_clip, self.networks["discriminator"]
        if bound is not None:
            optimizers["discriminator"].register_step_post_hook(lambda *_: clip_weights(discriminator, bound))
        return optimizers

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The family's loss and the penalties that have a weight."""
        with torch.no_grad():
            fake = self.generated(batch, "discriminator")
        real, fake = self._augment(batch.images, batch, "real"), self._augment(fake, batch, "fake")
        scores = self._score(torch.cat([real, fake]), batch.labels.repeat(2))
        real_scores, fake_scores = scores.chunk(2)
        judged = self._judge(real_scores, fake_scores, batch)
        return {"discriminator": judged, **self._penalties(real, fake, batch)}

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The family's loss; real images are looked at only where the family counts differences."""
        fake = self._augment(self.generated(batch, "generator"), batch, "generator")
        scores = self._score(fake, batch.labels)
        if not self.config.loss.startswith("relativistic"):
            return {"generator": FAMILIES[self.config.loss][1](scores, scores)}
        with torch.no_grad():
            real = self._score(self._augment(batch.images, batch, "generator real"), batch.labels)
        return {"generator": FAMILIES[self.config.loss][1](real, scores)}

    def _judge(self, real: Tensor, fake: Tensor, batch: Batch) -> Tensor:
        """The discriminator's loss on its scores, with softened labels where there are any."""
        config = self.config
        if not (config.label_smoothing or config.label_flips):
            return FAMILIES[config.loss][0](real, fake)
        parts = []
        for truth, scores in ((True, real), (False, fake)):
            smoothing, flips = (
                uniform(batch.seeds, (), f"{name} {truth}").to(scores.device)
                for name in ("smoothing", "flips")
            )
            labels = soft_labels(truth, smoothing, flips, config.label_smoothing, config.label_flips)
            parts.append(TARGETED[config.loss](scores, labels))
        return torch.stack(parts).sum()

    def _penalties(self, real: Tensor, fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        config, chosen = self.config, slice(None, None, self.config.penalty_every)
        real, fake, labels = real[chosen], fake[chosen], batch.labels[chosen]

        def critic(images: Tensor) -> Tensor:
            return self._score(images, labels)

        penalties = {}
        if config.gradient_penalty:
            fraction = uniform(batch.seeds[chosen], (), "interpolation").to(real.device)
            steepness = gradient_penalty(critic, real, fake, fraction)
            penalties["gradient_penalty"] = config.gradient_penalty * steepness
        if config.r1:
            penalties["r1"] = config.r1 / 2 * zero_centred_penalty(critic, real)
        if config.r2:
            penalties["r2"] = config.r2 / 2 * zero_centred_penalty(critic, fake)
        return penalties

    def _score(self, images: Tensor, labels: Tensor) -> Tensor:
        scores: Tensor = self.networks["discriminator"](images, labels)
        return scores
