"""Diffusion and rectified flow in pixel space, conditional on class and on masks or edges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.device import has_bf16_instructions
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig, Turn
from cytoforge.core.randomness import normal, uniform
from cytoforge.diffusion.paths import Karras, NoisePath, RectifiedFlow, denoising_error
from cytoforge.diffusion.solvers import SOLVERS, guided
from cytoforge.methods.optimizers import adam_for_each
from cytoforge.networks.unet import Control, UNet, edges


class DiffusionConfig(MethodConfig):
    """Settings of `diffusion`."""

    path: Literal["flow", "edm"] = Field("flow", description="straight line to noise, or noise that grows")
    shift: float = Field(
        3.0, gt=0, description="of the flow: above 1, training and sampling spend more on noisy images"
    )
    channels: int = Field(128, ge=8, multiple_of=8, description="width of the U-Net at its finest map")
    blocks: int = Field(2, ge=1, description="residual blocks at each resolution")
    patch: int = Field(2, ge=1, le=8, description="side of the patches that images are folded into")
    condition: Literal["none", "masks", "edges"] = Field(
        "none", description="what steers it besides the class"
    )
    branch: Literal["read", "control"] = Field(
        "read", description="how: read along with the image, or by a ControlNet-like branch"
    )
    freeze: bool = Field(False, description="train the branch alone, on a denoiser trained before")
    dropout: float = Field(0.1, ge=0, lt=0.5, description="share of images shown without class or condition")
    learning_rate: float = Field(5e-4, gt=0, description="Adam's learning rate")
    betas: tuple[float, float] = Field((0.9, 0.99), description="Adam's decay rates")
    steps: int = Field(16, ge=1, description="steps from noise to image")
    solver: Literal["euler", "heun", "multistep"] = Field("multistep", description="how a step is taken")
    guidance: float = Field(1.5, ge=0, description="1 draws the class as it is, more makes it more typical")
    sampling: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="number format of sampling; auto takes bf16 where the processor has it"
    )


class Diffusion(Method):
    """A U-Net learns to take noise out of cells; from noise alone, it takes it out in a few steps.

        loss: E[weight(level) ||D(x + noise; level, class, condition) - x||^2]

    Class and condition are left out of some images, so that the same network also knows cells in general;
    sampling goes away from those (guidance).

    Reference:
        Liu, Gong and Liu, Flow straight and fast, 2022, equation 1. https://arxiv.org/abs/2209.03003
        Karras et al., EDM, 2022, equation 8. https://arxiv.org/abs/2206.00364
        Ho and Salimans, Classifier-free diffusion guidance, 2022, algorithms 1 and 2.
        https://arxiv.org/abs/2207.12598
        Zhang, Rao and Agrawala, ControlNet, 2023 (`branch=control`). https://arxiv.org/abs/2302.05543
    """

    name = "diffusion"
    config_type = DiffusionConfig
    averaged: ClassVar[tuple[str, ...]] = ("denoiser", "control")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "edm": {"path": "edm", "solver": "heun", "steps": 18},
        "cpu": {"channels": 32, "batch": 32, "learning_rate": 1e-3, "steps": 12},
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, DiffusionConfig)
        coarse = shape.resolution // config.patch
        if coarse < 8 or coarse & (coarse - 1) or shape.resolution % config.patch:
            raise ConfigError(
                f"diffusion works where resolution / patch is 8, 16, 32, ..., not {shape.resolution} / "
                f"{config.patch}; choose --resolution 32, 64, 128 or 256."
            )
        if config.freeze and (config.condition == "none" or config.branch != "control"):
            raise ConfigError(
                "freeze=true leaves nothing to train; add condition=masks (or edges) and branch=control."
            )
        if config.dropout == 0 and config.guidance != 1:
            raise ConfigError(
                "guidance goes away from images without class, and dropout=0 shows none in training; set "
                "guidance=1, or a dropout above 0."
            )
        self.config = config
        self.size = shape.resolution
        self.classes = len(shape.classes)
        hints = {"none": 0, "masks": 2, "edges": 1}[config.condition]
        read = hints if config.branch == "read" else 0
        unet = UNet(shape.resolution, self.classes, config.channels, config.blocks, config.patch, read)
        self.networks = {"denoiser": unet}
        if hints and config.branch == "control":
            self.networks["control"] = Control(unet, hints)
        self.path: NoisePath = (
            RectifiedFlow(math.log(config.shift), shift=config.shift) if config.path == "flow" else Karras()
        )

    @classmethod
    def uses_masks(cls, config: MethodConfig) -> bool:
        """Where masks are the condition."""
        assert isinstance(config, DiffusionConfig)
        return config.condition == "masks"

    @classmethod
    def needs_start(cls, config: MethodConfig) -> str | None:
        """Where the denoiser stays as it is."""
        assert isinstance(config, DiffusionConfig)
        return "freeze=true keeps the denoiser, which nothing has trained" if config.freeze else None

    def turns(self) -> tuple[Turn, ...]:
        """One for each network that learns; both minimise the same error."""
        learning = [name for name in self.networks if not (name == "denoiser" and self.config.freeze)]
        losses = {"denoiser": self.denoiser_losses, "control": self.control_losses}
        return tuple(Turn(name, losses[name]) for name in learning)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network that learns."""
        learning = {turn.network: self.networks[turn.network] for turn in self.turns()}
        return adam_for_each(learning, self.config.learning_rate, self.config.betas)

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Standard normal (N, 3, R, R)."""
        return normal(seeds, (3, self.size, self.size), "latent")

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, R, R) in [-1, 1].

        Args:
            noise: (N, 3, R, R).
            labels: (N,)
            condition: masks (N, 2, R, R) or edges (N, 1, R, R) where the settings name them; None lets the
                model choose.
        """
        levels = self.path.schedule(self.config.steps).to(noise.device)
        solver = SOLVERS[self.config.solver]
        images = solver(
            lambda noisy, level: self._guided(noisy, level, labels, condition), noise * levels[0], levels
        )
        return images.clamp(-1, 1)

    def denoiser_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Error of denoised images; a branch is not used, so that the denoiser stays whole without it."""
        use_branch = self.config.branch != "control"
        return {"denoising": self._error(batch, use_branch)}

    def control_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The same error with the branch; `training.warm_start` adds it as a copy of a trained denoiser."""
        return {"control": self._error(batch, steered=True)}

    def condition(self, cells: Batch) -> Tensor | None:
        """Their masks (N, 2, R, R) or edges (N, 1, R, R) as the settings name them, or None."""
        if self.config.condition == "edges":
            return edges(cells.images)
        return cells.masks if self.config.condition == "masks" else None

    def _error(self, batch: Batch, steered: bool) -> Tensor:
        """Mean weighted error (); a share `dropout` comes without both, another one without condition."""
        device = batch.images.device
        hints = self.condition(batch) if steered else None
        chance = uniform(batch.seeds, (), "dropout").to(device)
        labels = torch.where(chance < self.config.dropout, self.classes, batch.labels)
        if hints is not None:
            kept = (chance >= self.config.dropout) & (chance < 1 - self.config.dropout)
            hints = hints * kept[:, None, None, None]
        levels = self.path.levels(normal(batch.seeds, (), "level")).to(device)
        noise = normal(batch.seeds, batch.images.shape[1:], "noise").to(device)
        return denoising_error(
            self.path,
            lambda noisy, coded: self._network(noisy, coded, labels, hints),
            batch.images,
            noise,
            levels,
        ).mean()

    def _network(self, noisy: Tensor, coded: Tensor, labels: Tensor, hints: Tensor | None) -> Tensor:
        unet = self.networks["denoiser"]
        if self.config.branch == "read" or hints is None:
            raw: Tensor = unet(noisy, coded, labels, hints)
        else:
            raw = unet(noisy, coded, labels, None, self.networks["control"](noisy, coded, labels, hints))
        return raw

    def _guided(self, noisy: Tensor, level: Tensor, labels: Tensor, condition: Tensor | None) -> Tensor:
        """Denoised images of a solver's step; class and general image in one call of the network."""
        count = len(noisy)
        hints = condition if self.config.condition != "none" else None
        if self.config.guidance == 1:
            return self._denoise(noisy, level.expand(count), labels, hints)
        both = torch.cat([torch.full_like(labels, self.classes), labels])
        if hints is not None:
            hints = torch.cat([torch.zeros_like(hints), hints])
        denoised = self._denoise(noisy.repeat(2, 1, 1, 1), level.expand(2 * count), both, hints)
        free, conditional = denoised.chunk(2)
        return guided(free, conditional, self.config.guidance)

    def _denoise(self, noisy: Tensor, levels: Tensor, labels: Tensor, hints: Tensor | None) -> Tensor:
        kind = self.config.sampling
        fast = has_bf16_instructions(noisy.device) if kind == "auto" else kind == "bf16-mixed"
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=fast):
            return self.path.denoise(
                lambda images, coded: self._network(images, coded, labels, hints), noisy, levels
            )
