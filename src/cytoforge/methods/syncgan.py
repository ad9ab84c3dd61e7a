"""Masks from noise, images from masks: (image, mask, label) triplets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig, Turn
from cytoforge.core.randomness import normal
from cytoforge.data.augment import Policy, augment
from cytoforge.losses.adversarial import FAMILIES, Family
from cytoforge.losses.penalty import zero_centred_penalty
from cytoforge.methods.adversarial import SoftLabelConfig, check_labels, told_apart
from cytoforge.methods.painting import Painter, PaintingConfig, check_norm, image_scores
from cytoforge.methods.penalised import clip_after_each_step, require_bound
from cytoforge.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator
from cytoforge.networks.mask_gan import PerClass, WithPlanes
from cytoforge.networks.patchgan import Norm, PatchGAN
from cytoforge.networks.unet_pix2pix import PaintingUNet, Upsampling

NOISY = 8
"""Side of the blocks of noise that the U-Net mask generator sees, in pixels; see `SynCGAN`."""


class SynCGANConfig(SoftLabelConfig, PaintingConfig):
    """Settings of `syncgan`; the defaults are the source's, where it states them, but show the class.

    Preset `source` leaves the class out: the source's painter sees the mask alone.
    """

    upsampling: Upsampling = Field("bilinear", description="how generators double the size")
    noise_channels: int = Field(0, ge=0, description="channels of noise beside the mask, in the painter")
    reconstruction: Literal["l1", "mse"] = Field("mse", description="distance to the image of the mask")
    reconstruction_weight: float = Field(100.0, ge=0, description="weight of that distance")
    crop: bool = Field(False, description="random crops of 256/286 of the side, for the painter")
    mask_gan: Literal["per-class", "conditional"] = Field(
        "per-class", description="a mask GAN for each class, or one that is told the class"
    )
    mask_network: Literal["unet", "convolutional"] = Field(
        "unet", description="mask generator: U-Net on an image of noise, or decoder of a noise vector"
    )
    latent: int = Field(64, ge=1, description="length of the decoder's noise vector")
    mask_width: int = Field(64, ge=4, description="mask generator's channels")
    mask_most_width: int = Field(512, ge=4, description="upper bound of the mask GAN's channels")
    mask_discriminator_width: int = Field(64, ge=4, description="mask discriminator's channels")
    mask_norm: Norm = Field("batch", description="norm in the mask GAN of U-Net and PatchGAN")
    mask_loss: Family = Field("non-saturating", description="loss family of the mask GAN")
    label_smoothing: float = Field(
        0.1, ge=0, lt=0.5, description="softness of the mask discriminator's targets"
    )
    label_flips: float = Field(0.05, ge=0, lt=0.5, description="share of its targets that are exchanged")
    mask_r1: float = Field(0.0, ge=0, description="weight of half its squared gradient at real masks")
    mask_weight_clip: float | None = Field(
        None, gt=0, description="bound of each weight of the mask discriminator"
    )
    mask_augment: Policy = Field("", description="differentiable augmentation of the masks it sees")
    mask_learning_rate: float = Field(2e-4, gt=0, description="Adam's learning rate of the mask GAN")
    mask_betas: tuple[float, float] = Field((0.5, 0.999), description="Adam's decay rates of the mask GAN")


class SynCGAN(Method):
    """Mask GANs draw class-specific masks, a bilinear U-Net paints cells onto them: image, mask and label.

    Four networks, four turns. The mask GAN sees masks as pictures of three channels in [-1, 1] (background,
    cytoplasm, nucleus), the largest of which counts; the source has one binary channel. Its critic is given
    soft and sometimes exchanged targets (`mask_loss` takes any other family, which needs hard ones):

        mask discriminator: -E[t log D(y) + (1 - t) log(1 - D(y))] - the same for G(z)
        mask generator:     -E[log D(G(z))]
        discriminator:      -E[log D(x, y)] - E[log(1 - D(G(y), y))]
        generator:          -E[log D(G(y), y)] + 100 * mean((G(y) - x)^2)

    Painter and mask GAN are trained side by side here, the one never waits for the other: the painter only
    ever sees masks of real cells. A U-Net gets white noise in blocks of `NOISY` px: independent pixels would
    average out on the way down, and would show through the skip connections.

    Reference:
        Dey et al., SynCGAN: Using learnable class specific priors to generate synthetic data for improving
        classifier performance on cytological images, 2020, equations 1 to 7. https://arxiv.org/abs/2003.05712
    """

    name = "syncgan"
    config_type = SynCGANConfig
    averaged = ("mask_generator", "generator")
    needs_masks = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "source": {"class_planes": False},
        "cpu": {
            "width": 32,
            "most_width": 256,
            "norm": "group",
            "dropout": 0.0,
            "noise_channels": 1,
            "discriminator_width": 32,
            "discriminator_norm": "group",
            "reconstruction_weight": 10.0,
            "mask_gan": "conditional",
            "mask_network": "convolutional",
            "mask_width": 16,
            "mask_most_width": 128,
            "mask_discriminator_width": 32,
            "mask_r1": 1.0,
            "mask_learning_rate": 1e-3,
            "mask_betas": (0.0, 0.9),
            "mask_augment": "translation",
            "batch": 16,
        },
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, SynCGANConfig)
        self.config, self.shape = config, shape
        self.painter = Painter(config, shape, soft=SoftLabelConfig())
        self.networks = {**self._mask_networks(), **self.painter.networks()}

    def turns(self) -> tuple[Turn, ...]:
        """Both players of the mask GAN, then both of the painter."""
        return (
            Turn("mask_discriminator", self.mask_discriminator_losses),
            Turn("mask_generator", self.mask_generator_losses),
            Turn("discriminator", self.discriminator_losses),
            Turn("generator", self.generator_losses),
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for all; discriminators have their weights clipped where that is asked for."""
        config = self.config
        masks = (config.mask_learning_rate, config.mask_betas)
        cells = (config.learning_rate, config.betas)
        optimizers: dict[str, Optimizer] = {
            name: Adam(network.parameters(), *(masks if name.startswith("mask_") else cells), fused=True)
            for name, network in self.networks.items()
        }
        for name, bound in (
            ("discriminator", config.weight_clip),
            ("mask_discriminator", config.mask_weight_clip),
        ):
            clip_after_each_step(optimizers[name], self.networks[name], bound)
        return optimizers

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Standard normal (N, L): first what the mask is drawn from, then the painter's noise."""
        painters = normal(seeds, (math.prod(self.painter.noise_shape),), "latent")
        return torch.cat([normal(seeds, (self._mask_noise,), "mask latent"), painters], dim=1)

    def masks(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Masks (N, 2, R, R) in {0, 1} of the classes asked for."""
        parts = self._mask_pictures(noise[:, : self._mask_noise], labels).argmax(dim=1)
        return torch.stack([parts == 1, parts == 2], dim=1).float()

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, R, R) onto masks (N, 2, R, R); onto masks of its own where none are given."""
        masks = self.masks(noise, labels) if condition is None else condition
        painters = noise[:, self._mask_noise :].reshape(noise.shape[0], *self.painter.noise_shape)
        return self.painter.paint(self.networks, painters, labels, masks)

    def mask_discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """How badly masks of real cells are told from drawn ones."""
        config = self.config
        with torch.no_grad():
            fake = self._drawn(batch, "mask discriminator")
        seen = self._seen(_pictures(batch), batch, "real masks")
        real_scores = self._mask_scores(seen, batch.labels)
        fake_scores = self._mask_scores(self._seen(fake, batch, "fake masks"), batch.labels)
        losses = {"mask_discriminator": told_apart(config.mask_loss, real_scores, fake_scores, batch, config)}
        if config.mask_r1:
            losses["mask_r1"] = (config.mask_r1 / 2) * zero_centred_penalty(
                lambda pictures: image_scores(self._mask_scores(pictures, batch.labels)), seen
            )
        return losses

    def mask_generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """How badly drawn masks deceive."""
        fake = self._seen(self._drawn(batch, "mask generator"), batch, "mask generator")
        scores = self._mask_scores(fake, batch.labels)
        real_scores = scores
        if self.config.mask_loss.startswith("relativistic"):
            real_scores = self._mask_scores(self._seen(_pictures(batch), batch, "real masks"), batch.labels)
        return {"mask_generator": FAMILIES[self.config.mask_loss][1](real_scores, scores)}

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """How badly real pairs are told from painted ones."""
        return self.painter.discriminator_losses(self.networks, batch)

    def generator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """How badly painted pairs deceive, and how far they are from the real image."""
        return self.painter.generator_losses(self.networks, batch)

    @property
    def _mask_noise(self) -> int:
        """Length of the noise that a mask is drawn from."""
        decoder = self.config.mask_network == "convolutional"
        return self.config.latent if decoder else (self.shape.resolution // NOISY) ** 2

    def _mask_networks(self) -> dict[str, nn.Module]:
        config, classes = self.config, len(self.shape.classes)
        check_labels(config.mask_loss, config)
        unets = config.mask_network == "unet"
        bounds = {
            "mask_norm=spectral (with mask_network=unet)": unets and config.mask_norm == "spectral",
            "mask_weight_clip=0.01": config.mask_weight_clip,
            "mask_r1=1": config.mask_r1,
        }
        require_bound(config.mask_loss, bounds, "mask_loss")
        build = (_decoders if self.config.mask_network == "convolutional" else _unets)(
            self.config, self.shape
        )
        if self.config.mask_gan == "conditional":
            return {name: make(classes) for name, make in build.items()}
        return {name: PerClass(partial(make, 1), classes) for name, make in build.items()}

    def _drawn(self, batch: Batch, stream: str) -> Tensor:
        noise = normal(batch.seeds, (self._mask_noise,), stream).to(batch.images.device)
        return self._mask_pictures(noise, batch.labels)

    def _mask_pictures(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Noise (N, K) and labels (N,) become mask pictures (N, 3, R, R) in [-1, 1]."""
        if self.config.mask_network == "unet":
            side = self.shape.resolution // NOISY
            noise = noise.reshape(-1, 1, side, side)
            noise = noise.repeat_interleave(NOISY, 2).repeat_interleave(NOISY, 3)
        pictures: Tensor = self.networks["mask_generator"](noise, labels)
        return pictures

    def _mask_scores(self, pictures: Tensor, labels: Tensor) -> Tensor:
        scores: Tensor = self.networks["mask_discriminator"](pictures, labels)
        return scores

    def _seen(self, pictures: Tensor, batch: Batch, stream: str) -> Tensor:
        """What the mask discriminator is shown of mask pictures."""
        if not self.config.mask_augment:
            return pictures
        return augment(pictures, self.config.mask_augment, batch.seeds, stream)


Build = Mapping[str, Callable[[int], nn.Module]]
"""Player -> what makes it for a number of classes."""


def _decoders(config: SynCGANConfig, shape: DataShape) -> Build:
    side, most = shape.resolution, config.mask_most_width
    return {
        "mask_generator": lambda classes: ConvolutionalGenerator(
            side, classes, config.latent, config.mask_width, most
        ),
        "mask_discriminator": lambda classes: ConvolutionalCritic(
            side, classes, config.mask_discriminator_width, most
        ),
    }


def _unets(config: SynCGANConfig, shape: DataShape) -> Build:
    def generator(classes: int) -> nn.Module:
        network = PaintingUNet(
            1 + classes,
            3,
            shape.resolution,
            config.mask_width,
            config.mask_most_width,
            config.mask_norm,
            dropout=config.dropout,
            upsampling=config.upsampling,
        )
        return WithPlanes(network, classes)

    def discriminator(classes: int) -> nn.Module:
        network = PatchGAN(3 + classes, config.mask_discriminator_width, norm=config.mask_norm)
        return WithPlanes(network, classes)

    check_norm("mask_r1", config.mask_r1, "mask_norm", config.mask_norm)
    return {"mask_generator": generator, "mask_discriminator": discriminator}


def _pictures(batch: Batch) -> Tensor:
    """The masks of a batch as pictures (N, 3, R, R): 1 where background, cytoplasm or nucleus is, else -1."""
    if batch.masks is None:
        raise ConfigError("syncgan needs cells with masks; make some with: cytoforge mask DATA --out DIR")
    background = 1 - batch.masks.amax(dim=1, keepdim=True)
    return torch.cat([background, batch.masks], dim=1) * 2 - 1
