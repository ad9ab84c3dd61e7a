"""Masks become images, a discriminator sees both: what pix2pix and SynCGAN share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.randomness import normal, uniform
from cytoforge.data.augment import Policy, augment, augment_masks
from cytoforge.data.crop import random_crop
from cytoforge.losses.adversarial import FAMILIES, Family
from cytoforge.methods.adversarial import SoftLabelConfig, check_labels, told_apart
from cytoforge.methods.penalised import BoundedConfig, PenaltyConfig, penalties, require_bound
from cytoforge.networks.mask_gan import class_planes
from cytoforge.networks.patchgan import Norm, PatchGAN, VanillaDiscriminator
from cytoforge.networks.unet_pix2pix import PaintingUNet, Upsampling

Networks = Mapping[str, nn.Module]

COLOURS = 3
"""Channels of an image, which stand first in what the discriminator is shown."""


class PaintingConfig(BoundedConfig):
    """Settings of the part that paints an image onto a mask."""

    width: int = Field(64, ge=4, description="generator channels after the first halving")
    most_width: int = Field(512, ge=4, description="upper bound of the generator's channels")
    norm: Norm = Field("batch", description="norm in the generator")
    upsampling: Upsampling = Field("transposed", description="how the generator doubles the size")
    dropout: float = Field(0.5, ge=0, lt=1, description="in the three innermost doublings, while training")
    noise_channels: int = Field(1, ge=0, description="channels of noise beside the mask")
    class_planes: bool = Field(True, description="show the class to both networks, as planes of their input")
    tutorial: bool = Field(
        False,
        description="details of TensorFlow's pix2pix tutorial, as in source 003: norm at the innermost pixel "
        "too (batches of 2 and more), no bias in the PatchGAN's first convolution",
    )
    discriminator: Literal["patch", "vanilla"] = Field(
        "patch", description="a score for each patch, or one for the image"
    )
    discriminator_width: int = Field(64, ge=4, description="its channels after the first halving")
    patch_halvings: int = Field(
        3,
        ge=1,
        le=5,
        description="halvings of the patch discriminator: 1, 2 or 3 see 16, 34 or 70 px",
    )
    discriminator_norm: Norm = Field("batch", description="norm in the discriminator")
    loss: Family = Field("non-saturating", description="family of the adversarial loss")
    reconstruction: Literal["l1", "mse"] = Field("l1", description="distance to the image of the mask")
    reconstruction_weight: float = Field(100.0, ge=0, description="weight of that distance")
    mode_seeking: float = Field(
        0.0, ge=0, description="weight of the pressure on two noises to give two images; needs noise_channels"
    )
    crop: bool = Field(True, description="random crops of 256/286 of the side")
    augment: Policy = Field(
        "", description="differentiable augmentation of what the discriminator sees, masks included"
    )
    learning_rate: float = Field(2e-4, gt=0, description="Adam's learning rate")
    betas: tuple[float, float] = Field((0.5, 0.999), description="Adam's decay rates")


@dataclass(frozen=True)
class Painter:
    """Losses and sampling of a generator on masks and a discriminator on pairs.

    The condition is the mask, for the generator planes of noise, and planes of the class (not written here):

        discriminator: L_D(D(image, mask), D(G(mask, noise), mask))
        generator:     L_G(D(G(mask, noise), mask)) + weight * |image - G(mask, noise)|

    Planes of the class stand last in both inputs, where `training.warm_start` looks for them.

    Reference:
        Isola et al., Image-to-image translation with conditional adversarial networks, 2017, eq. 1 to 4.
        https://arxiv.org/abs/1611.07004
        Mao et al., Mode seeking GANs for diverse image synthesis, 2019, equation 3 (mode seeking; here as
        -log of the ratio, which stays finite). https://arxiv.org/abs/1903.05628

    Attributes:
        config: settings of both networks and their losses.
        shape: of the cells.
        soft: how soft the labels of the discriminator are.
    """

    config: PaintingConfig
    shape: DataShape
    soft: SoftLabelConfig

    def networks(self) -> dict[str, nn.Module]:
        """The untrained generator and discriminator.

        Raises:
            ConfigError: the resolution is none that can be halved to one pixel, two noises are to be told
                apart and there is none, a penalty meets batch norm, the Wasserstein distance no bound, or
                soft labels a loss without labels.
        """
        config, side = self.config, self.shape.resolution
        if side not in (32, 64, 128, 256, 512):
            raise ConfigError(
                f"masks are painted at a resolution of 32, 64, 128, 256 or 512 px, not {side}; choose one of "
                "them with --resolution."
            )
        if config.mode_seeking and not config.noise_channels:
            raise ConfigError(
                "mode_seeking asks two noises for two images, and noise_channels=0 gives the painter none; "
                "add noise_channels=1."
            )
        bounds = {
            "discriminator_norm=spectral": config.discriminator_norm == "spectral",
            "weight_clip=0.01": config.weight_clip,
            "gradient_penalty=10": config.gradient_penalty,
            "r1=1": config.r1,
            "r2=1 (the last three with discriminator_norm=group)": config.r2,
        }
        require_bound(config.loss, bounds)
        check_labels(config.loss, self.soft)
        for penalty in PenaltyConfig.model_fields:
            check_norm(penalty, getattr(config, penalty), "discriminator_norm", config.discriminator_norm)
        condition = self.shape.mask_channels + (len(self.shape.classes) if config.class_planes else 0)
        generator = PaintingUNet(
            condition + config.noise_channels,
            COLOURS,
            side,
            config.width,
            config.most_width,
            config.norm,
            innermost_norm=config.tutorial,
            dropout=config.dropout,
            upsampling=config.upsampling,
        )
        channels, width, norm = COLOURS + condition, config.discriminator_width, config.discriminator_norm
        discriminator: nn.Module
        if config.discriminator == "patch":
            discriminator = PatchGAN(
                channels, width, config.patch_halvings, norm, first_bias=not config.tutorial
            )
        else:
            discriminator = VanillaDiscriminator(channels, side, width, norm)
        return {"generator": generator, "discriminator": discriminator}

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Of one draw."""
        return (self.config.noise_channels, self.shape.resolution, self.shape.resolution)

    def paint(self, networks: Networks, noise: Tensor, labels: Tensor, masks: Tensor) -> Tensor:
        """Images (N, 3, R, R) from noise (N, K, R, R), labels (N,) and masks (N, C, R, R)."""
        seen = torch.cat([masks, noise.to(masks), *self._planes(labels, masks)], dim=1)
        images: Tensor = networks["generator"](seen)
        return images

    def discriminator_losses(self, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """How badly pairs of one batch are told from painted ones."""
        images, masks = self.pairs(batch)
        with torch.no_grad():
            fake = self.paint(networks, self._noise(batch, "discriminator"), batch.labels, masks)
        real, fake = (
            self._seen(images, masks, batch, stream) for images, stream in ((images, "real"), (fake, "fake"))
        )
        judge = networks["discriminator"]

        def critic(seen: Tensor) -> Tensor:
            """Scores whose slope is that at the image alone."""
            return image_scores(judge(torch.cat([seen[:, :COLOURS], seen[:, COLOURS:].detach()], dim=1)))

        fraction = uniform(batch.seeds, (), "interpolation").to(real.device)
        return {
            "discriminator": told_apart(self.config.loss, judge(real), judge(fake), batch, self.soft),
            **penalties(self.config, critic, real, fake, fraction),
        }

    def generator_losses(self, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """How badly the painted image deceives, and how far it is from the real one."""
        images, masks = self.pairs(batch)
        noise = self._noise(batch, "generator")
        fake = self.paint(networks, noise, batch.labels, masks)
        judge = networks["discriminator"]
        scores = judge(self._seen(fake, masks, batch, "generator"))
        real_scores = scores
        if self.config.loss.startswith("relativistic"):
            real_scores = judge(self._seen(images, masks, batch, "generator"))
        losses = {"generator": FAMILIES[self.config.loss][1](real_scores, scores)}
        if self.config.reconstruction_weight:
            distance = F.l1_loss if self.config.reconstruction == "l1" else F.mse_loss
            losses["reconstruction"] = self.config.reconstruction_weight * distance(fake.float(), images)
        if self.config.mode_seeking:
            other_noise = self._noise(batch, "mode seeking")
            other = self.paint(networks, other_noise, batch.labels, masks)
            ratio = (fake - other).float().abs().mean((1, 2, 3)) / (noise - other_noise).abs().mean((1, 2, 3))
            losses["mode_seeking"] = -self.config.mode_seeking * torch.log(ratio + 1e-3).mean()
        return losses

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images and masks of a batch, cropped at random where asked for."""
        if batch.masks is None:
            raise ConfigError(
                "this method needs cells with masks; make some with: cytoforge mask DATA --out DIR"
            )
        if not self.config.crop:
            return batch.images, batch.masks
        return random_crop(batch.images, batch.masks, batch.seeds)

    def _planes(self, labels: Tensor, masks: Tensor) -> list[Tensor]:
        """Planes of the class (N, classes, R, R), where it is shown."""
        if not self.config.class_planes:
            return []
        return [class_planes(labels, len(self.shape.classes), self.shape.resolution).to(masks)]

    def _noise(self, batch: Batch, stream: str) -> Tensor:
        return normal(batch.seeds, self.noise_shape, stream).to(batch.images.device)

    def _seen(self, images: Tensor, masks: Tensor, batch: Batch, stream: str) -> Tensor:
        """What the discriminator is shown (N, K, R, R): images, then masks, then planes of the class."""
        if self.config.augment:
            images = augment(images, self.config.augment, batch.seeds, stream)
            masks = augment_masks(masks, self.config.augment, batch.seeds, stream)
        return torch.cat([images, masks, *self._planes(batch.labels, masks)], dim=1)


def check_norm(penalty: str, weight: float, setting: str, norm: Norm) -> None:
    """Refuse batch norm beside a penalty on the gradient at each image, see `losses.penalty`.

    Args:
        penalty: name of its setting.
        weight: of the penalty; 0 for none.
        setting: name of the norm's setting.
        norm: in the network whose gradient is taken.

    Raises:
        ConfigError: scores would depend on the other images of the batch.
    """
    if weight and norm == "batch":
        others = ", ".join(other for other in get_args(Norm) if other != "batch")
        raise ConfigError(
            f"{penalty}={weight:g} asks for the gradient at each image, and with {setting}=batch a score "
            f"depends on the whole batch; choose {setting} from {others}."
        )


def image_scores(scores: Tensor) -> Tensor:
    """Patch scores (N, ...) as one score (N,) for each image."""
    return scores.reshape(len(scores), -1).mean(1)
