"""Paired generation: an image is painted onto a given mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig, Turn
from cytoforge.core.randomness import normal
from cytoforge.methods.adversarial import SoftLabelConfig
from cytoforge.methods.optimizers import adam_for_each
from cytoforge.methods.painting import Painter, PaintingConfig
from cytoforge.methods.penalised import clip_after_each_step


class Pix2PixConfig(SoftLabelConfig, PaintingConfig):
    """Settings of `pix2pix`; networks, losses and rates default to the paper's, see `Pix2Pix`."""


class Pix2Pix(Method):
    """A U-Net paints cells onto given masks; a discriminator judges mask and image together.

    The mask and a channel of noise go in, so that one mask may give many images. Whether it does is another
    question: the distance to the one real image of a mask teaches the generator to overlook the noise.
    `mode_seeking` presses against that.

    Preset `paper` trains with batches of one and without the class. What still differs from the paper: a
    channel of noise takes the place of dropout while sampling, batch norm then has its running statistics,
    a moving average of the weights paints, cells are mirrored top-bottom too, and the discriminator's loss
    is not halved. Preset `source-003` has that source's networks.

    Reference:
        Isola et al., Image-to-image translation with conditional adversarial networks, 2017.
        https://arxiv.org/abs/1611.07004
        Wang, Generative adversarial network application in pathological image generation (source 003).
    """

    name = "pix2pix"
    config_type = Pix2PixConfig
    averaged = ("generator",)
    needs_masks = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"class_planes": False, "batch": 1, "balanced": False, "symmetry": "flip"},
        "source-003": {
            "class_planes": False,
            "tutorial": True,
            "discriminator": "vanilla",
            "batch": 64,
            "symmetry": "flip",
        },
        "cpu": {
            "width": 32,
            "most_width": 256,
            "norm": "group",
            "upsampling": "bilinear",
            "discriminator_width": 32,
            "discriminator_norm": "group",
            "batch": 16,
        },
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, Pix2PixConfig)
        self.config = config
        self.painter = Painter(config, shape, soft=config)
        self.networks = self.painter.networks()

    def turns(self) -> tuple[Turn, ...]:
        """Discriminator, then generator, on the same batch."""
        return (
            Turn("discriminator", self.discriminator_losses),
            Turn("generator", self.generator_losses),
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for both, as in the paper; the discriminator's weights are clipped where that is asked for."""
        optimizers = adam_for_each(self.networks, self.config.learning_rate, self.config.betas)
        clip_after_each_step(
            optimizers["discriminator"], self.networks["discriminator"], self.config.weight_clip
        )
        return optimizers

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Standard normal (N, noise_channels, R, R)."""
        return normal(seeds, self.painter.noise_shape, "latent")

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, R, R) from noise, labels (N,) and masks (N, 2, R, R).

        Raises:
            ConfigError: no masks are given.
        """
        if condition is None:
            raise ConfigError("pix2pix paints onto masks and was given none; add --masks FOLDER.")
        return self.painter.paint(self.networks, noise, labels, condition)

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """How badly real pairs are told from painted ones."""
        return self.painter.discriminator_losses(self.networks, batch)

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """How badly the discriminator is deceived, and the distance to the real image."""
        return self.painter.generator_losses(self.networks, batch)
