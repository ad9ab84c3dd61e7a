"""Adversarial training of one generator against one discriminator, with any loss family and any penalty."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.method import MethodConfig, Turn
from cytoforge.core.randomness import uniform
from cytoforge.losses.adversarial import FAMILIES, Family
from cytoforge.methods.adversarial import (
    Adversarial,
    AdversarialConfig,
    SoftLabelConfig,
    check_labels,
    told_apart,
)
from cytoforge.methods.penalised import BoundedConfig, clip_after_each_step, penalties, require_bound
from cytoforge.networks.spectral import spectrally_normalised


class TwoPlayersConfig(SoftLabelConfig, BoundedConfig, AdversarialConfig):
    """What every such method can be set to; the defaults are binary cross-entropy without a penalty."""

    loss: Family = Field("non-saturating", description="loss family")
    discriminator_steps: int = Field(1, ge=1, description="discriminator steps for each generator step")
    penalty_every: int = Field(1, ge=1, description="one image in how many is used for the penalties")
    spectral_norm: bool = Field(False, description="bound how far each discriminator layer stretches")


class TwoPlayers(Adversarial):
    """Networks "generator" and "discriminator", which tells real cells from generated ones of their classes.

    What each player minimises stands in `losses.adversarial`, one pair of functions for each family.
    Penalties on the discriminator's gradient, bounds on its weights and softened labels can be added to any
    of them (labels to those that have some).
    """

    config: TwoPlayersConfig

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, TwoPlayersConfig)
        check_labels(config.loss, config)
        bounds = {
            "gradient_penalty=10": config.gradient_penalty,
            "r1=1": config.r1,
            "r2=1": config.r2,
            "weight_clip=0.01": config.weight_clip,
            "spectral_norm=true": config.spectral_norm,
        }
        require_bound(config.loss, bounds)
        self.config, self.noise_length = config, config.latent
        self.networks = self._build(config, shape)
        if config.spectral_norm:
            spectrally_normalised(self.networks["discriminator"])

    @abstractmethod
    def _build(self, config: MethodConfig, shape: DataShape) -> dict[str, nn.Module]:
        """The networks "generator" and "discriminator"."""

    def turns(self) -> tuple[Turn, ...]:
        """The discriminator moves in every step, the generator after `discriminator_steps` of them."""
        return (
            Turn("discriminator", self.discriminator_losses),
            Turn("generator", self.generator_losses, every=self.config.discriminator_steps),
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for both; the discriminator's weights are clipped after each step where that is asked for."""
        optimizers = super().optimizers()
        clip_after_each_step(
            optimizers["discriminator"], self.networks["discriminator"], self.config.weight_clip
        )
        return optimizers

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The family's loss and the penalties that have a weight."""
        with torch.no_grad():
            fake = self.generated(batch, "discriminator")
        real, fake = self._augment(batch.images, batch, "real"), self._augment(fake, batch, "fake")
        scores = self._score(torch.cat([real, fake]), batch.labels.repeat(2))
        return {"discriminator": self._told_apart(scores, batch), **self._penalties(real, fake, batch)}

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The family's loss."""
        fake = self._augment(self.generated(batch, "generator"), batch, "generator")
        return {"generator": self._deceived(self._score(fake, batch.labels), batch)}

    def _score(self, images: Tensor, labels: Tensor) -> Tensor:
        scores: Tensor = self.networks["discriminator"](images, labels)
        return scores

    def _told_apart(self, scores: Tensor, batch: Batch) -> Tensor:
        """The discriminator's loss on scores (2N,) of real, then generated images."""
        real, fake = scores.chunk(2)
        return told_apart(self.config.loss, real, fake, batch, self.config)

    def _deceived(self, scores: Tensor, batch: Batch) -> Tensor:
        """The generator's loss on scores (N,); real images count only where the family takes differences."""
        if not self.config.loss.startswith("relativistic"):
            return FAMILIES[self.config.loss][1](scores, scores)
        with torch.no_grad():
            real = self._score(self._augment(batch.images, batch, "generator real"), batch.labels)
        return FAMILIES[self.config.loss][1](real, scores)

    def _penalties(self, real: Tensor, fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        chosen = slice(None, None, self.config.penalty_every)
        labels = batch.labels[chosen]
        fraction = uniform(batch.seeds[chosen], (), "interpolation").to(real.device)
        return penalties(
            self.config, lambda images: self._score(images, labels), real[chosen], fake[chosen], fraction
        )
