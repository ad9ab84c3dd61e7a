"""Wasserstein GAN with gradient penalty, class-conditional."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.method import MethodConfig, Turn
from cytoforge.core.randomness import uniform
from cytoforge.losses.adversarial import wasserstein_critic, wasserstein_generator
from cytoforge.losses.penalty import gradient_penalty
from cytoforge.losses.sobolev import sobolev
from cytoforge.methods.adversarial import Adversarial, AdversarialConfig, check_side
from cytoforge.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator


class WGANGPConfig(AdversarialConfig):
    """Settings of `wgan-gp`; critic steps, penalty and Adam default to the paper's, networks are ours."""

    generator_channels: int = Field(64, ge=4, description="generator width at full resolution")
    critic_channels: int = Field(64, ge=4, description="critic width at half resolution")
    most_channels: int = Field(512, ge=4, description="upper bound of the width")
    critic_steps: int = Field(5, ge=1, description="critic steps for each generator step")
    penalty: float = Field(10.0, ge=0, description="weight of the gradient penalty")
    penalty_every: int = Field(1, ge=1, description="one image in how many is used for the gradient penalty")
    drift: float = Field(0.0, ge=0, description="weight of the mean squared score of real images")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's learning rate")
    betas: tuple[float, float] = Field((0.0, 0.9), description="Adam's decay rates")
    sobolev: float = Field(0.0, ge=0, le=3, description="order of the Sobolev norm; 0 is the pixel norm")
    pixel_noise: bool = Field(False, description="noise for each pixel besides the latent code")


class WGANGP(Adversarial):
    """A critic estimates the Wasserstein distance between real and generated cells, a generator shortens it.

    The critic's gradient is held near length 1 at random points between real and generated images:

        critic:    E[D(fake)] - E[D(real)] + penalty * E[(||grad D(x)||_2 - 1)^2]
        generator: -E[D(fake)]

    Lengths are those of the pixel norm or, with `sobolev`, of a norm in which fine detail counts more:
    without it, a short training learns shapes and colours but no texture.

    Reference:
        Gulrajani et al., Improved training of Wasserstein GANs, 2017, algorithm 1. https://arxiv.org/abs/1704.00028
        Adler and Lunz, Banach Wasserstein GAN, 2018, equation 9. https://arxiv.org/abs/1806.06621
        Zhao et al., Differentiable augmentation for data-efficient GAN training, 2020, equations 3 and 4.
        https://arxiv.org/abs/2006.10738
    """

    name = "wgan-gp"
    config_type = WGANGPConfig
    config: WGANGPConfig
    # Mo et al., Freeze the discriminator, 2020: its lower layers. https://arxiv.org/abs/2002.10964
    frozen_in_refinement = ("critic/body.0.*", "critic/body.2.*")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "cpu": {
            "generator_channels": 32,
            "critic_channels": 32,
            "most_channels": 256,
            "critic_steps": 1,
            "penalty_every": 4,
            "learning_rate": 2e-4,
            "discriminator_learning_rate": 1e-3,
            "sobolev": 1.0,
            "pixel_noise": True,
            "augment": "translation,cutout",
            "batch": 32,
        },
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, WGANGPConfig)
        check_side(self.name, shape)
        self.config = config
        classes = len(shape.classes)
        generator = ConvolutionalGenerator(
            shape.resolution,
            classes,
            config.latent,
            config.generator_channels,
            config.most_channels,
            config.pixel_noise,
        )
        critic = ConvolutionalCritic(shape.resolution, classes, config.critic_channels, config.most_channels)
        self.noise_length = generator.noise_length
        self.networks = {"generator": generator, "critic": critic}

    def turns(self) -> tuple[Turn, ...]:
        """The critic moves in every step, the generator after `critic_steps` of them."""
        return (
            Turn("critic", self.critic_losses),
            Turn("generator", self.generator_losses, every=self.config.critic_steps),
        )

    def critic_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Negative distance, penalty and drift of one batch."""
        with torch.no_grad():
            fake = self.generated(batch, "critic")
        real, fake = self._seen(batch.images, batch, "real"), self._seen(fake, batch, "fake")
        scores = self._score(torch.cat([real, fake]), batch.labels.repeat(2))
        real_scores, fake_scores = scores.chunk(2)
        losses = {"wasserstein": wasserstein_critic(real_scores, fake_scores)}
        if self.config.drift:
            losses["drift"] = self.config.drift * real_scores.square().mean()
        if self.config.penalty:
            chosen = slice(None, None, self.config.penalty_every)
            fraction = uniform(batch.seeds[chosen], (), "interpolation").to(real.device)
            losses["penalty"] = self.config.penalty * gradient_penalty(
                lambda images: self._score(images, batch.labels[chosen]), real[chosen], fake[chosen], fraction
            )
        return losses

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Negative mean score of generated images."""
        return {"generator": self.generator_loss(self.generated(batch, "generator"), batch)}

    def generator_loss(self, fake: Tensor, batch: Batch) -> Tensor:
        """The same for images (N, 3, H, W) that were generated for this batch."""
        scores = self._score(self._seen(fake, batch, "generator"), batch.labels)
        return wasserstein_generator(scores, scores)

    def _score(self, images: Tensor, labels: Tensor) -> Tensor:
        scores: Tensor = self.networks["critic"](images, labels)
        return scores

    def _seen(self, images: Tensor, batch: Batch, stream: str) -> Tensor:
        """The images as the critic sees them."""
        return self._augment(sobolev(images, self.config.sobolev), batch, stream)
