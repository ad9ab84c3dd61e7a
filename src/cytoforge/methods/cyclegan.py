"""CycleGAN: images of one kind become images of another, learned without pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig, Turn
from cytoforge.core.randomness import normal, uniform
from cytoforge.losses.adversarial import FAMILIES, FREE, Family
from cytoforge.losses.reconstruction import cycle_error
from cytoforge.methods.optimizers import adam_for_each
from cytoforge.methods.penalised import clip_after_each_step, require_bound
from cytoforge.networks.image_buffer import ImageBuffer
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.resnet_generator import ResNetGenerator

MASKS = "masks"
"""The source that is no class: painted masks."""

Side = Literal["source", "target"]
_OTHER: dict[Side, Side] = {"source": "target", "target": "source"}


class CycleGANConfig(MethodConfig):
    """Settings of `cyclegan`; networks, weights and rate are the paper's for 256 px, see `CycleGAN`."""

    source: str = Field(
        MASKS, description="masks (to cells), or the class to translate from (and back) into the others"
    )
    channels: int = Field(64, ge=1, description="filters of the generators' first convolution")
    blocks: int = Field(9, ge=1, description="residual blocks of the generators; 6 for 128 px and less")
    resize: bool = Field(False, description="upsample bilinearly and convolve, against checkerboards")
    discriminator_channels: int = Field(
        64, ge=1, description="filters of the discriminators' first convolution"
    )
    halvings: int = Field(
        3, ge=1, description="strided convolutions of the discriminators; 3 see 70 px, 2 see 34"
    )
    loss: Family = Field("least-squares", description="family of the adversarial loss; not the relativistic")
    weight_clip: float | None = Field(None, gt=0, description="bound of each weight of both discriminators")
    cycle: float = Field(10.0, ge=0, description="weight of the way there and back")
    identity: float = Field(
        5.0, ge=0, description="weight of leaving the target's own images alone; not for masks"
    )
    buffer: int = Field(
        50, ge=0, description="generated images of earlier steps that a discriminator sees again"
    )
    learning_rate: float = Field(2e-4, gt=0, description="Adam's learning rate of all four networks")
    betas: tuple[float, float] = Field((0.5, 0.999), description="Adam's decay rates")


@dataclass(frozen=True)
class Sides:
    """The images of both kinds in a batch.

    Attributes:
        images: side -> (n, 3, H, W), n may be 0.
        seeds: side -> (n,).
        total: images on both sides.
    """

    images: Mapping[Side, Tensor]
    seeds: Mapping[Side, Tensor]

    @property
    def total(self) -> int:
        """Images on both sides."""
        return sum(len(images) for images in self.images.values())


class CycleGAN(Method):
    """CycleGAN: stain A to stain B, or masks to cells, from images that are not paired.

    Four networks, four turns. Translators G: source -> target and F: target -> source, a discriminator for
    each side; G minimises (F likewise, the other way round)

        E_s[(D_t(G(s)) - 1)^2] + cycle (E_s|F(G(s)) - s| + E_t|G(F(t)) - t|) + identity E_t|G(t) - t|

    Any family whose loss is a sum over images can take the place of the squares. Each image of a batch counts
    the same, on whichever side it is, so a batch may lack one side. Masks are painted with a light
    background, grey cytoplasm and a dark nucleus, as cells look: a translator that is near the identity is
    the right way round. Nothing in the loss forbids it to exchange nucleus and background all the same;
    `cytoforge translate` measures it.

    With several processes each keeps its own buffer, and a checkpoint holds that of the first.

    Preset `paper` adds batches of one and mirroring. What still differs from the paper: the rate does not
    fall to 0 in the second half of the training, images are not enlarged to 286 px and cropped to 256, they
    are mirrored top-bottom too, and a moving average of the weights translates.

    Reference:
        Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial networks, 2017,
        equations 1 to 3 and section 4. https://arxiv.org/abs/1703.10593
    """

    name = "cyclegan"
    config_type = CycleGANConfig
    averaged = ("to_target", "to_source")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"batch": 1, "balanced": False, "symmetry": "flip"},
        "cpu": {
            "batch": 8,
            "channels": 24,
            "blocks": 4,
            "discriminator_channels": 32,
            "halvings": 2,
            "resize": True,
        },
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, CycleGANConfig)
        self.config, self.source = config, _source(config, shape)
        if shape.resolution % 4 or shape.resolution < 32:
            raise ConfigError(
                f"cyclegan works at a multiple of 4 px, 32 or more, not at {shape.resolution} px."
            )
        if config.loss not in FREE:
            raise ConfigError(
                f"loss={config.loss} compares pairs, and cyclegan's images are not paired; choose from "
                f"{', '.join(FREE)}."
            )
        require_bound(config.loss, {"weight_clip=0.01": config.weight_clip})
        translator = partial(
            ResNetGenerator, channels=config.channels, blocks=config.blocks, resize=config.resize
        )
        judge = partial(PatchGAN, 3, config.discriminator_channels, config.halvings, "instance")
        self.networks: dict[str, nn.Module] = {
            "to_target": translator(),
            "to_source": translator(),
            "target_discriminator": judge(),
            "source_discriminator": judge(),
            "target_buffer": ImageBuffer(config.buffer, shape.resolution),
            "source_buffer": ImageBuffer(config.buffer, shape.resolution),
        }

    @classmethod
    def uses_masks(cls, config: MethodConfig) -> bool:
        """Whether masks are the source."""
        assert isinstance(config, CycleGANConfig)
        return config.source == MASKS

    def turns(self) -> tuple[Turn, ...]:
        """Both translators, then both discriminators."""
        return (
            Turn("to_target", partial(self.translator_losses, "target")),
            Turn("to_source", partial(self.translator_losses, "source")),
            Turn("target_discriminator", partial(self.discriminator_losses, "target")),
            Turn("source_discriminator", partial(self.discriminator_losses, "source")),
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each; the discriminators' weights are clipped where that is asked for."""
        learning = {turn.network: self.networks[turn.network] for turn in self.turns()}
        optimizers = adam_for_each(learning, self.config.learning_rate, self.config.betas)
        for name in ("target_discriminator", "source_discriminator"):
            clip_after_each_step(optimizers[name], self.networks[name], self.config.weight_clip)
        return optimizers

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """(N, 1) that nothing depends on: a translation has no chance in it."""
        return normal(seeds, (1,), "latent")

    def condition(self, cells: Batch) -> Tensor | None:
        """Masks, or the images of the other side."""
        return cells.masks if self.source is None else cells.images

    def source_labels(self, labels: Tensor) -> Tensor | None:
        """For images of these classes, the classes whose images are translated into them."""
        if self.source is None:
            return None
        return torch.where(labels == self.source, (self.source == 0) * 1, self.source)

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Translations of the condition.

        Args:
            noise: (N, ...), not used.
            labels: (N,) classes to translate into: the source class takes the way back, others the way there.
            condition: (N, 2, H, W) masks, or (N, 3, H, W) images of the other side.

        Returns:
            (N, 3, H, W) in [-1, 1].

        Raises:
            ConfigError: there is no condition.
        """
        if condition is None:
            raise ConfigError(
                "cyclegan makes images out of other images, not out of nothing. "
                "Use: cytoforge translate RUN DATA --out DIR."
            )
        if self.source is None:
            return self.translate("target", paint(condition))
        back = labels == self.source
        images = torch.empty_like(condition)
        for chosen, side in ((back, "source"), (~back, "target")):
            if chosen.any():
                images[chosen] = self.translate(side, condition[chosen])  # type: ignore[arg-type]
        return images

    def translate(self, side: Side, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) of the other side become images of this one."""
        translated: Tensor = self.networks[f"to_{side}"](images)
        return translated.float()

    def translator_losses(self, side: Side, batch: Batch) -> dict[str, Tensor]:
        """What the translator into `side` minimises."""
        sides, other = self._sides(batch), _OTHER[side]
        losses = {name: torch.zeros((), device=batch.images.device) for name in ("", "_cycle", "_identity")}
        if len(foreign := sides.images[other]):
            made, share = self.translate(side, foreign), 2 * len(foreign) / sides.total
            scores = self.networks[f"{side}_discriminator"](made)
            weight = 2 if self.config.loss == "least-squares" else 1  # the paper's squares are not halved
            losses[""] += share * weight * FAMILIES[self.config.loss][1](scores, scores)
            losses["_cycle"] += share * self.config.cycle * cycle_error(self.translate(other, made), foreign)
        if len(own := sides.images[side]):
            share = 2 * len(own) / sides.total
            with torch.no_grad():
                sent = self.translate(other, own)
            losses["_cycle"] += share * self.config.cycle * cycle_error(self.translate(side, sent), own)
            if self._keeps:
                losses["_identity"] += (
                    share * self.config.identity * cycle_error(self.translate(side, own), own)
                )
        if not self._keeps:
            del losses["_identity"]
        return {f"to_{side}{name}": loss for name, loss in losses.items()}

    def discriminator_losses(self, side: Side, batch: Batch) -> dict[str, Tensor]:
        """How badly own images are told from translated ones, of now and of earlier."""
        sides, other = self._sides(batch), _OTHER[side]
        judge, buffer = self.networks[f"{side}_discriminator"], self.networks[f"{side}_buffer"]
        loss = torch.zeros((), device=batch.images.device)
        told, free = FAMILIES[self.config.loss][0], torch.tensor(FREE[self.config.loss], device=loss.device)
        if len(own := sides.images[side]):
            loss = loss + 2 * len(own) / sides.total * told(judge(own), free[1])
        if len(foreign := sides.images[other]):
            with torch.no_grad():
                made = self.translate(side, foreign)
            assert isinstance(buffer, ImageBuffer)
            shown = buffer.exchange(made, uniform(sides.seeds[other], (2,), f"{side} buffer"))
            loss = loss + 2 * len(foreign) / sides.total * told(free[0], judge(shown))
        return {f"{side}_discriminator": loss}

    @property
    def _keeps(self) -> bool:
        """Whether there is an identity loss: only where both sides are photographs."""
        return self.source is not None and self.config.identity > 0

    def _sides(self, batch: Batch) -> Sides:
        if self.source is None:
            assert batch.masks is not None
            images: dict[Side, Tensor] = {"source": paint(batch.masks), "target": batch.images}
            return Sides(images, {"source": batch.seeds, "target": batch.seeds})
        chosen = batch.labels == self.source
        kept = chosen.to(batch.seeds.device)
        return Sides(
            {"source": batch.images[chosen], "target": batch.images[~chosen]},
            {"source": batch.seeds[kept], "target": batch.seeds[~kept]},
        )


def paint(masks: Tensor) -> Tensor:
    """Masks as pictures: background 1 (light), cytoplasm 0, nucleus -1 (dark), alike in three colours.

    Args:
        masks: (N, 2, H, W) in {0, 1}, cytoplasm and nucleus.

    Returns:
        (N, 3, H, W).

    Example:
        >>> masks = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).reshape(1, 2, 1, 3)
        >>> paint(masks)[0, 0].tolist()
        [[1.0, 0.0, -1.0]]
    """
    cytoplasm, nucleus = masks[:, :1], masks[:, 1:]
    return (1 - cytoplasm - 2 * nucleus).clamp(-1, 1).expand(-1, 3, -1, -1)


def _source(config: CycleGANConfig, shape: DataShape) -> int | None:
    """Label of the source class, None for masks."""
    if config.source == MASKS:
        return None
    if config.source not in shape.classes or len(shape.classes) < 2:
        raise ConfigError(
            f'source="{config.source}" is neither "masks" nor one of at least two classes '
            f"({', '.join(shape.classes)}). Name the class whose images are to be translated."
        )
    return shape.classes.index(config.source)
