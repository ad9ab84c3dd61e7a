"""What methods with a generator and one opponent share; what the players minimise is their own."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig
from cytoforge.core.randomness import normal, uniform
from cytoforge.data.augment import Policy, augment
from cytoforge.losses.adversarial import FAMILIES, TARGETED, soft_labels
from cytoforge.methods.optimizers import adam_for_each

SIDES = (32, 64, 128, 256)
"""Resolutions of the convolutional networks, in pixels."""


class AdversarialConfig(MethodConfig):
    """What every such method can be set to."""

    latent: int = Field(128, ge=1, description="length of the noise vector")
    learning_rate: float = Field(2e-4, gt=0, description="Adam's learning rate")
    discriminator_learning_rate: float | None = Field(
        None, gt=0, description="of the discriminator or critic, where it differs"
    )
    betas: tuple[float, float] = Field((0.0, 0.99), description="Adam's decay rates")
    augment: Policy = Field("", description="differentiable augmentation, for example translation,cutout")


class SoftLabelConfig(MethodConfig):
    """How sure a discriminator may be; the defaults are hard labels."""

    label_smoothing: float = Field(0.0, ge=0, le=0.5, description="most that a discriminator label is moved")
    label_flips: float = Field(0.0, ge=0, lt=0.5, description="share of discriminator labels exchanged")

    @property
    def softens(self) -> bool:
        """Whether labels are smoothed or exchanged."""
        return bool(self.label_smoothing or self.label_flips)


class Adversarial(Method):
    """A network "generator" that makes images from noise and class, and Adam for it and its opponent.

    Attributes:
        noise_length: numbers that the generator takes for each image.
    """

    averaged = ("generator",)

    config: AdversarialConfig
    noise_length: int

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network."""
        return adam_for_each(self.networks, self._rate, self.config.betas)

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Standard normal (N, noise_length)."""
        return normal(seeds, (self.noise_length,), "latent")

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) from noise (N, noise_length) and labels (N,); there is no condition."""
        images: Tensor = self.networks["generator"](noise, labels)
        return images

    def generated(self, batch: Batch, stream: str) -> Tensor:
        """Images (N, 3, H, W) of the batch's classes; the batch's seeds and `stream` give the noise."""
        return self.sample(self._noise(batch, stream), batch.labels)

    def _noise(self, batch: Batch, stream: str) -> Tensor:
        return normal(batch.seeds, (self.noise_length,), stream).to(batch.images.device)

    def _rate(self, network: str) -> float:
        """Learning rate of a network.

        Reference:
            Heusel et al., GANs trained by a two time-scale update rule, 2017. https://arxiv.org/abs/1706.08500
        """
        other = None if network == "generator" else self.config.discriminator_learning_rate
        return other or self.config.learning_rate

    def _augment(self, images: Tensor, batch: Batch, stream: str) -> Tensor:
        return augment(images, self.config.augment, batch.seeds, stream)


def soft_targets(batch: Batch, real: bool, smoothing: float, flips: float) -> Tensor:
    """Labels (N,) in [0, 1] that a discriminator of a batch's real or generated images is to answer.

    An image's real and its generated label are exchanged together, as in SynCGAN. What `smoothing` and the
    share `flips` do, `losses.adversarial.soft_labels` says.
    """
    amount, chance = (
        uniform(batch.seeds, (), stream).to(batch.images.device)
        for stream in (f"smoothing of {'real' if real else 'fake'}", "flips")
    )
    return soft_labels(real, amount, chance, smoothing, flips)


def soft_loss(loss: str, scores: Tensor, batch: Batch, real: bool, soft: SoftLabelConfig) -> Tensor:
    """What a discriminator's answers to a batch's real or generated images are away from soft labels.

    Args:
        loss: loss family, one of `losses.adversarial.TARGETED`.
        scores: (N, ...), one or more for each image, which share its label.
        batch: whose seeds the labels are drawn from.
        real: whether the images are real.
        soft: how soft the labels are.

    Returns:
        Scalar.
    """
    labels = soft_targets(batch, real, soft.label_smoothing, soft.label_flips)
    return TARGETED[loss](scores, labels.reshape(-1, *[1] * (scores.ndim - 1)).expand_as(scores))


def told_apart(loss: str, real: Tensor, fake: Tensor, batch: Batch, soft: SoftLabelConfig) -> Tensor:
    """A discriminator's loss on scores (N, ...) of a batch's real and (N, ...) of its generated images."""
    if not soft.softens:
        return FAMILIES[loss][0](real, fake)
    parts = [soft_loss(loss, scores, batch, truth, soft) for truth, scores in ((True, real), (False, fake))]
    return torch.stack(parts).sum()


def check_labels(loss: str, soft: SoftLabelConfig) -> None:
    """Refuse soft labels beside a loss that has none.

    Raises:
        ConfigError: the loss is none of `losses.adversarial.TARGETED`.
    """
    if soft.softens and loss not in TARGETED:
        raise ConfigError(
            f"label_smoothing and label_flips need a loss with labels, not {loss}; "
            f"choose one of {', '.join(TARGETED)}."
        )


def check_side(method: str, shape: DataShape) -> None:
    """Refuse a resolution that the convolutional networks have no levels for.

    Raises:
        ConfigError: it is none of `SIDES`.
    """
    if shape.resolution not in SIDES:
        raise ConfigError(
            f"{method} works at a resolution of 32, 64, 128 or 256 px, not {shape.resolution}; "
            "choose one of them with --resolution."
        )
