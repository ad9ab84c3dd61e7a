"""Conditional variational autoencoders with a perceptual loss: that of source 001, and a better one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig, Turn
from cytoforge.core.randomness import normal
from cytoforge.losses.reconstruction import kl_to_standard_normal, perceptual_distance, pixel_error
from cytoforge.methods.adversarial import check_side
from cytoforge.networks.autoencoder import Autoencoder, convolutional_autoencoder, source_autoencoder
from cytoforge.networks.feature_pyramid import FeaturePyramid, efficientnet_pyramid, vgg16_pyramid

PYRAMIDS = {"efficientnet-lite0": efficientnet_pyramid, "vgg16": vgg16_pyramid}


class AutoencoderConfig(MethodConfig):
    """What both autoencoders can be set to."""

    latent: int = Field(64, ge=1, description="length of the code")
    perceptual: float = Field(100.0, ge=0, description="weight of the perceptual distance; 0 leaves it out")
    perceptual_network: Literal["efficientnet-lite0", "vgg16"] = Field(
        "efficientnet-lite0",
        description="frozen network of the perceptual distance; vgg16 is downloaded once",
    )
    kl: float = Field(
        1.0, ge=0, description="weight of the divergence of the code from standard normal, in nats"
    )
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's decay rates")


class VariationalAutoencoder(Method):
    """What both autoencoders share: one network, one turn, three losses.

        sum((x - x')^2) + perceptual * sum_s |f_s(x) - f_s(x')|^2 + kl * KL(q(z | x, class) || N(0, 1))

    with x' decoded from z = mean + deviation * noise, and f_s the unit features of a frozen network at scale
    s. As that network is part of what is optimised, its features must not judge the result: evaluate with
    another one (`evaluate --extractor mobilenet-v2`).

    Reference:
        Kingma and Welling, Auto-encoding variational Bayes, 2014, equation 10. https://arxiv.org/abs/1312.6114
        Hou et al., Deep feature consistent variational autoencoder, 2017. https://arxiv.org/abs/1610.00291
    """

    averaged = ("autoencoder",)

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, AutoencoderConfig)
        self.config = config
        self.networks = {"autoencoder": self._build(config, shape)}

    @abstractmethod
    def _build(self, config: MethodConfig, shape: DataShape) -> Autoencoder:
        """The network."""

    @classmethod
    def opponent(cls, config: MethodConfig) -> str | None:
        """The network of the perceptual distance."""
        assert isinstance(config, AutoencoderConfig)
        return config.perceptual_network if config.perceptual else None

    def turns(self) -> tuple[Turn, ...]:
        """One: encoder and decoder move together."""
        return (Turn("autoencoder", self.losses),)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam."""
        parameters = self.networks["autoencoder"].parameters()
        return {"autoencoder": Adam(parameters, self.config.learning_rate, self.config.betas, fused=True)}

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Standard normal codes (N, latent)."""
        return normal(seeds, (self.config.latent,), "latent")

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) from codes (N, latent) and labels (N,); there is no condition."""
        images: Tensor = self.networks["autoencoder"].get_submodule("decoder")(noise, labels)
        return images

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The most likely codes (N, latent) of images (N, 3, H, W) in [-1, 1]; `sample` decodes them."""
        means: Tensor = self.networks["autoencoder"].get_submodule("encoder")(images, labels)
        return means.float().chunk(2, dim=1)[0]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Pixels, features and code."""
        noise = normal(batch.seeds, (self.config.latent,), "posterior").to(batch.images.device)
        made, mean, log_variance = self.networks["autoencoder"](batch.images, batch.labels, noise)
        losses = {
            "pixel": pixel_error(made, batch.images),
            "kl": self.config.kl * kl_to_standard_normal(mean, log_variance),
        }
        if self.config.perceptual:
            pyramid = self._pyramid.to(batch.images.device)
            with torch.no_grad():
                wanted = pyramid(batch.images)
            losses["perceptual"] = self.config.perceptual * perceptual_distance(pyramid(made), wanted)
        return losses

    @cached_property
    def _pyramid(self) -> FeaturePyramid:
        """Not one of `networks`: it is never trained nor saved, and sampling does without it."""
        return PYRAMIDS[self.config.perceptual_network]()


class CVAEConfig(AutoencoderConfig):
    """Settings of `cvae`."""

    channels: int = Field(
        32, ge=4, description="width of the decoder at full, of the encoder at half resolution"
    )
    most_channels: int = Field(256, ge=4, description="upper bound of the width")
    kl: float = Field(
        0.1, ge=0, description="weight of the divergence of the code from standard normal, in nats"
    )


class CVAE(VariationalAutoencoder):
    """Conditional variational autoencoder of convolutions without batch norm, with a perceptual loss.

    Decoder: upsampling and convolutions, scaled and shifted by the code at every level. A low weight of the
    divergence lets more of a cell into its code than the source's does.
    """

    name = "cvae"
    config_type = CVAEConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cpu": {"batch": 32}}

    def _build(self, config: MethodConfig, shape: DataShape) -> Autoencoder:
        assert isinstance(config, CVAEConfig)
        check_side("cvae", shape)
        return convolutional_autoencoder(
            shape.resolution, len(shape.classes), config.latent, config.channels, config.most_channels
        )


class SourceCVAEConfig(AutoencoderConfig):
    """Settings of `cvae-source`; the defaults are the source's, and Keras's where it is silent."""

    dropout: float = Field(0.3, ge=0, lt=1, description="rate after each convolution of the encoder")
    channels: int = Field(64, ge=1, description="filters of the encoder's first convolution")


class SourceCVAE(VariationalAutoencoder):
    """The conditional variational autoencoder of source 001, to the letter.

    Batch norm and dropout in the encoder, dense layers beside the code, transposed convolutions. The
    preset `source` also leaves out what the source does not mention, moving averages and augmentation. Its
    pretrained network is VGG-16 (`--set perceptual_network=vgg16`, a download); the default is offline.
    """

    name = "cvae-source"
    config_type = SourceCVAEConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "source": {"batch": 32, "average_half_life": 1, "symmetry": "", "balanced": False}
    }

    def _build(self, config: MethodConfig, shape: DataShape) -> Autoencoder:
        assert isinstance(config, SourceCVAEConfig)
        if shape.resolution % 16:
            raise ConfigError(
                f"cvae-source works at a resolution that is a multiple of 16, not {shape.resolution}; "
                "the source's is 64."
            )
        return source_autoencoder(
            shape.resolution, len(shape.classes), config.latent, config.dropout, config.channels
        )
