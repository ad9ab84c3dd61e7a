"""What methods with a generator and one opponent share; what the players minimise is their own."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig
from cytoforge.core.randomness import normal, uniform
from cytoforge.data.augment import Policy, augment
from cytoforge.losses.adversarial import soft_labels
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
