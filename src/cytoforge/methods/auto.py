"""What a small lab should use: two critics, of pixels and of pretrained features, and an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.method import MethodConfig, Turn
from cytoforge.data.augment import Policy, augment
from cytoforge.losses.adversarial import hinge_discriminator, wasserstein_generator
from cytoforge.losses.reconstruction import kl_to_standard_normal, perceptual_distance
from cytoforge.methods.adversarial import Adversarial
from cytoforge.methods.wgan_gp import WGANGP, WGANGPConfig
from cytoforge.networks.convolutional import ConvolutionalEncoder, ConvolutionalGenerator, EncodedGenerator
from cytoforge.networks.feature_discriminator import FeatureDiscriminator, LiteFeatures

Codes = tuple[Tensor, Tensor]
"""Mean and log variance, (M, latent) each."""

_SQUARE = 4
_REBUILT = slice(None, None, 2)
"""Every other image, so that processes with even shares of a batch rebuild what one does."""


class AutoConfig(WGANGPConfig):
    """Settings of `auto`: those of `wgan-gp`, with defaults for short trainings, and of the second critic."""

    generator_channels: int = Field(32, ge=4, description="generator width at full resolution")
    critic_channels: int = Field(32, ge=4, description="critic width at half resolution")
    most_channels: int = Field(256, ge=4, description="upper bound of the width")
    critic_steps: int = Field(1, ge=1, description="critic steps for each generator step")
    penalty_every: int = Field(4, ge=1, description="one image in how many is used for the gradient penalty")
    learning_rate: float = Field(2e-4, gt=0, description="Adam's learning rate")
    discriminator_learning_rate: float | None = Field(1e-3, gt=0, description="of both critics")
    sobolev: float = Field(1.0, ge=0, le=3, description="order of the Sobolev norm; 0 is the pixel norm")
    pixel_noise: bool = Field(True, description="noise for each pixel besides the latent code")
    augment: Policy = Field("translation,cutout", description="differentiable augmentation for the critic")
    features: float = Field(2.0, ge=0, description="weight of the discriminator on pretrained features")
    reconstruction: float = Field(
        3.0, ge=0, description="weight of rebuilding half of the training cells from their codes"
    )
    coarse: float = Field(8.0, ge=0, description="of that: weight of colours in squares of 4 px")
    prior: float = Field(0.01, ge=0, description="of that: weight of the codes' divergence from noise")
    features_side: int = Field(96, ge=32, description="side at which the pretrained network sees, in pixels")
    features_augment: Policy = Field(
        "color,translation,cutout", description="differentiable augmentation before the pretrained network"
    )

    sampling_noise: float = Field(
        1.25, gt=0, le=4, description="factor on the noise when cells are drawn; while training it is 1"
    )


class Auto(Adversarial):
    """A Wasserstein critic of pixels keeps cells varied, a discriminator on frozen features makes them real.

    The first is `wgan-gp` in a Sobolev norm. The second sees cells through EfficientNet-Lite0 and is trained
    with the hinge loss; alone it gives convincing cells, but a handful for each class. The generator lowers
    the sum of both losses, and rebuilds half of the training cells from codes that an encoder gives them:
    critics alone let it leave out kinds of cells, and repeat the outlines it has. All other cells it draws
    from noise, as in sampling.

    Cells are drawn from longer noise than training shows (`sampling_noise`), the opposite of truncation: with
    the noise of training they are less varied than real ones. It was chosen on validation cells, see
    docs/results/auto-search.md.

    Numbers by EfficientNet-Lite0 flatter this method: judge it by another extractor (mobilenet-v2).

    Reference:
        Sauer et al., Projected GANs converge faster, 2021. https://arxiv.org/abs/2111.01007
        Larsen et al., Autoencoding beyond pixels using a learned similarity metric, 2016.
        https://arxiv.org/abs/1512.09300
        Gulrajani et al., 2017; Adler and Lunz, 2018: see `WGANGP`.
    """

    name = "auto"
    config_type = AutoConfig
    config: AutoConfig
    frozen_in_refinement = WGANGP.frozen_in_refinement
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cpu": {"batch": 32}}

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, AutoConfig)
        self.config = config
        self.adversary = WGANGP(config, shape)
        self.noise_length = self.adversary.noise_length
        self.networks = dict(self.adversary.networks)
        if config.features:
            self.networks["discriminator"] = FeatureDiscriminator(len(shape.classes))
        if self._rebuilds:
            # half as wide as the critic, so that weights to start from stay below 10 MB
            encoder = ConvolutionalEncoder(
                shape.resolution, config.latent, config.critic_channels // 2, config.most_channels // 2
            )
            generator = self.adversary.networks["generator"]
            assert isinstance(generator, ConvolutionalGenerator)
            self.networks["generator"] = EncodedGenerator(generator, encoder)

    @classmethod
    def opponent(cls, config: MethodConfig) -> str | None:
        """EfficientNet-Lite0, unless its discriminator has no weight."""
        assert isinstance(config, AutoConfig)
        return "efficientnet-lite0" if config.features else None

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) from noise (N, noise_length), standard normal, and labels (N,)."""
        return super().sample(noise * self.config.sampling_noise, labels)

    def turns(self) -> tuple[Turn, ...]:
        """Both critics move in every step, the generator after `critic_steps` of them."""
        critics = [Turn("critic", self.critic_losses)]
        if self.config.features:
            critics.append(Turn("discriminator", self.discriminator_losses))
        return (*critics, Turn("generator", self.generator_losses, every=self.config.critic_steps))

    def critic_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Those of `wgan-gp`."""
        return self._pixels().critic_losses(batch)

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Hinge loss on pretrained features."""
        with torch.no_grad():
            fake, _ = self._drawn(batch, "discriminator")
        scores = self._scores(self._features([(batch.images, "real"), (fake, "fake")], batch), batch)
        return {"discriminator": hinge_discriminator(*scores.chunk(2))}

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Negative mean scores by both critics, and how badly cells are rebuilt."""
        fake, codes = self._drawn(batch, "generator")
        losses = {"pixels": self._pixels().generator_loss(fake, batch)}
        if self.config.features:
            features = self._features([(fake, "generator")], batch)
            scores = self._scores(features, batch)
            losses["features"] = self.config.features * wasserstein_generator(scores, scores)
            if codes is not None:
                losses |= self._rebuilding(batch, fake, features, codes)
        return losses

    @property
    def _rebuilds(self) -> bool:
        return bool(self.config.features and self.config.reconstruction)

    def _drawn(self, batch: Batch, stream: str) -> tuple[Tensor, Codes | None]:
        """Images (N, 3, H, W) of the batch's classes, every other one rebuilt, and the codes of those."""
        noise = self._noise(batch, stream)
        if not self._rebuilds:
            return super().sample(noise, batch.labels), None
        given = batch.images[_REBUILT]
        images, mean, log_variance = self.networks["generator"](noise, batch.labels, given)
        return images, (mean, log_variance)

    def _rebuilding(
        self, batch: Batch, fake: Tensor, features: list[Tensor], codes: Codes
    ) -> dict[str, Tensor]:
        """Distances between cells of the batch and what was rebuilt of them, and of codes from noise.

        The discriminator's augmentation has moved both alike.
        """
        config = self.config
        cells = Batch(batch.images[_REBUILT], batch.labels[_REBUILT], batch.seeds[_REBUILT])
        with torch.no_grad():
            wanted = self._features([(cells.images, "generator")], cells)
        seen = [each[_REBUILT] for each in features]
        drawn, given = (F.avg_pool2d(images.float(), _SQUARE) for images in (fake[_REBUILT], cells.images))
        distance = perceptual_distance(seen, wanted) + config.coarse * F.mse_loss(drawn, given)
        return {
            "reconstruction": config.reconstruction * distance,
            "prior": config.reconstruction * config.prior * kl_to_standard_normal(*codes),
        }

    def _pixels(self) -> WGANGP:
        """`wgan-gp` on the networks as the loop has wrapped them."""
        return self.adversary.replaced({name: self.networks[name] for name in self.adversary.networks})

    def _features(self, images: list[tuple[Tensor, str]], batch: Batch) -> list[Tensor]:
        """What the pretrained network sees in M sets of images (N, 3, H, W), each augmented by its stream."""
        policy = self.config.features_augment
        seen = [augment(each, policy, batch.seeds, f"features {stream}") for each, stream in images]
        features: list[Tensor] = self._pretrained.to(batch.images.device)(torch.cat(seen))
        return features

    def _scores(self, features: list[Tensor], batch: Batch) -> Tensor:
        """Scores (M * N, S) of the features of M sets of images with the batch's labels."""
        labels = batch.labels.repeat(len(features[0]) // len(batch.labels))
        scores: Tensor = self.networks["discriminator"](features, labels)
        return scores

    @cached_property
    def _pretrained(self) -> LiteFeatures:
        """Not one of `networks`: it is never trained nor saved, and sampling does without it."""
        features: LiteFeatures = LiteFeatures(self.config.features_side).to(
            memory_format=torch.channels_last  # type: ignore[call-overload]
        )
        return features
