"""A pretrained text-to-image model, taught labelled cells, steered by prompts, masks, edges or an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig, Turn
from cytoforge.core.randomness import normal, uniform
from cytoforge.diffusion.paths import denoising_error
from cytoforge.diffusion.pretrained import TARGETS, Adapter, Prompts, open_backbone
from cytoforge.diffusion.solvers import SOLVERS, guided
from cytoforge.networks.torchvision_cpu import prepare_torchvision
from cytoforge.networks.unet import edges

DESCRIPTIONS: Mapping[str, str] = {
    "carcinoma in situ": "small cell, huge dark nucleus with coarse chromatin, hardly any cytoplasm",
    "dyskeratotic": "small, thick cell in a cluster, dark irregular nucleus, orange keratinised cytoplasm",
    "koilocytotic": "large cell, pale halo around an enlarged dark nucleus, often two nuclei",
    "light dysplastic": "mature cell, enlarged and darker nucleus, plenty of cytoplasm",
    "metaplastic": "small round cell with a clear border, dense cytoplasm and a large nucleus",
    "moderate dysplastic": "clearly enlarged, dark, irregular nucleus, less cytoplasm",
    "normal columnar": "glandular cell of the cervical canal, tall and narrow, nucleus near one end",
    "normal intermediate": "large flat polygonal cell, small nucleus, thin blue or pink cytoplasm",
    "normal superficial": "large flat polygonal cell, tiny dark nucleus, thin pink cytoplasm",
    "parabasal": "small round immature cell, large smooth nucleus, thick cyanophilic cytoplasm",
    "severe dysplastic": "large, dark, irregular nucleus that fills most of the cell, little cytoplasm",
    "superficial-intermediate": "large flat polygonal cell, tiny dark nucleus, thin pink or blue cytoplasm",
}
"""What a class of SIPaKMeD or Herlev looks like, for prompts; keys are class names as prompts spell them."""


class TextToImageConfig(MethodConfig):
    """Settings of `text-to-image`."""

    checkpoint: str = Field(
        "", description="folder of a pretrained model in diffusers' layout, or its hub name"
    )
    revision: str | None = Field(None, description="commit of the hub's repository")
    prompt: str = Field(
        "microscope photo of one {class} cell, cervical smear, Papanicolaou stain, {description}",
        description="what the model hears of a cell; {class} and {description} are filled in",
    )
    descriptions: dict[str, str] = Field(
        {}, description="class name -> what it looks like; known ones are filled in"
    )
    size: int = Field(512, ge=8, multiple_of=8, description="side in pixels at which the large model works")
    rank: int = Field(16, ge=1, description="rank of the additions to its attention (LoRA)")
    condition: Literal["none", "masks", "edges"] = Field(
        "none", description="what steers it besides the prompt"
    )
    controlnet: str = Field(
        "", description="folder or hub name of a trained ControlNet; empty starts a new one"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of images shown without prompt")
    learning_rate: float = Field(1e-4, gt=0, description="AdamW's learning rate")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's weight decay")
    steps: int = Field(25, ge=1, description="steps from noise to image")
    solver: Literal["euler", "heun", "multistep"] = Field("multistep", description="how a step is taken")
    guidance: float = Field(4.0, ge=0, description="1 follows the prompt as learned, more makes it typical")
    weights: Literal["bf16", "32-true"] = Field("bf16", description="number format of the frozen weights")
    checkpointing: bool = Field(True, description="recompute activations instead of keeping them")
    offload: bool = Field(
        False, description="keep frozen blocks in main memory until needed; slower, for Flux"
    )


class TextToImage(Method):
    """Low-rank additions teach a pretrained text-to-image model what the cells of each class look like.

        loss: E[weight(level) ||D(z + noise; level, prompt) - z||^2], z the latent image

    Reference:
        Rombach et al., Latent diffusion models, 2022. https://arxiv.org/abs/2112.10752
        Hu et al., LoRA, 2021, equation 3. https://arxiv.org/abs/2106.09685
        Zhang, Rao and Agrawala, ControlNet, 2023. https://arxiv.org/abs/2302.05543
        Meng et al., SDEdit, 2022, algorithm 1 (image to image). https://arxiv.org/abs/2108.01073
    """

    name = "text-to-image"
    config_type = TextToImageConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "12gb": {"batch": 4, "accumulate": 4, "symmetry": "flip,rotate", "measure_images": 25},
        "12gb-flux": {"batch": 4, "accumulate": 4, "offload": True, "guidance": 1.0, "measure_images": 10},
        "cpu": {"batch": 4, "size": 256, "weights": "32-true", "measure_images": 10},
    }

    def __init__(self, config: MethodConfig, shape: DataShape) -> None:
        assert isinstance(config, TextToImageConfig)
        if not config.checkpoint:
            raise ConfigError(
                "text-to-image starts from a pretrained model: --set checkpoint=FOLDER (or a hub name such "
                "as owner/model)."
            )
        if config.controlnet and config.condition == "none":
            raise ConfigError(
                f"controlnet={config.controlnet} with condition=none would not be used; add condition=masks "
                "or condition=edges, whichever it was trained on."
            )
        self.config = config
        self.resolution, self.classes = shape.resolution, len(shape.classes)
        prepare_torchvision()  # diffusers imports it
        self.backbone = open_backbone(config.checkpoint, config.size, config.weights, config.revision)
        self.prompts = self.backbone.encode_prompts([*prompts_of(config, shape.classes), ""])
        control = self._control()  # copied before the denoiser is added to
        self.networks: dict[str, nn.Module] = {"adapter": Adapter(self.backbone, config.rank, TARGETS)}
        if control is not None:
            self.networks["control"] = control
        self.prepared: torch.device | None = None

    @classmethod
    def uses_masks(cls, config: MethodConfig) -> bool:
        """Where masks are the condition."""
        assert isinstance(config, TextToImageConfig)
        return config.condition == "masks"

    def turns(self) -> tuple[Turn, ...]:
        """The additions learn without control, the control network with them."""
        losses = {"adapter": self.adapter_losses, "control": self.control_losses}
        return tuple(Turn(name, losses[name]) for name in self.networks)

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW for each."""
        return {
            name: AdamW(
                network.parameters(), self.config.learning_rate, weight_decay=self.config.weight_decay
            )
            for name, network in self.networks.items()
        }

    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """Standard normal latents (N, C, h, w)."""
        return normal(seeds, self.backbone.latent_shape(self.config.size), "latent")

    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, R, R) in [-1, 1].

        Args:
            noise: (N, C, h, w) latents.
            labels: (N,)
            condition: masks (N, 2, R, R) or edges (N, 1, R, R) where the settings name them.
        """
        return self.draw(noise, self.heard(labels), self.heard(torch.full_like(labels, -1)), condition)

    def condition(self, cells: Batch) -> Tensor | None:
        """Their masks (N, 2, R, R) or edges (N, 1, R, R) as the settings name them, or None."""
        if self.config.condition == "edges":
            return edges(cells.images)
        return cells.masks if self.config.condition == "masks" else None

    def hear(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Any texts, encoded, on the device that the model is on."""
        return {
            name: tensor.to(self.prepared) for name, tensor in self.backbone.encode_prompts(texts).items()
        }

    def on(self, device: torch.device) -> Self:
        """This method with everything on a device, ready to draw."""
        for network in self.networks.values():
            network.eval().to(device)
        self._prepare(device)
        return self

    def draw(
        self,
        noise: Tensor,
        prompts: Prompts,
        free: Prompts,
        condition: Tensor | None = None,
        start: Tensor | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """Images (N, 3, R, R) in [-1, 1] for any prompts, from noise or from an image.

        Args:
            noise: (N, C, h, w) standard normal.
            prompts: encoded, of N texts.
            free: encoded, of N empty or unwanted texts, which guidance goes away from.
            condition: picture (N, 1 to 3, R, R) in [0, 1] for the control network.
            start: images (N, 3, R, R) in [-1, 1] to start from.
            strength: in (0, 1], how much of `start` is drawn anew; without `start` all is.
        """
        self._prepare(noise.device)
        strength = 1.0 if start is None else strength
        path = self.backbone.path
        levels = path.schedule(max(1, round(self.config.steps / strength))).to(noise.device)
        levels = levels[-self.config.steps - 1 :]
        if start is None:
            latents = noise * levels[0]
        else:
            latents = path.disturb(self._encoded(start), noise, levels[:1].expand(len(noise)))
        picture = self._picture(condition)
        latents = SOLVERS[self.config.solver](
            lambda noisy, level: self._guided(noisy, level, prompts, free, picture), latents, levels
        )
        return self._sized(self.backbone.decode(latents), self.resolution)

    def adapter_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Error of denoised latents, without control."""
        self.backbone.release_text_encoders()  # all prompts of a training are known
        return {"denoising": self._error(batch, None)}

    def control_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The same error with control."""
        return {"control": self._error(batch, self.condition(batch))}

    def _control(self) -> nn.Module | None:
        if self.config.condition == "none":
            return None
        place = self.config.controlnet
        control = self.backbone.load_control(place) if place else self.backbone.new_control()
        if self.config.checkpointing:
            control.enable_gradient_checkpointing()  # type: ignore[operator]
        return control

    def _error(self, batch: Batch, hints: Tensor | None) -> Tensor:
        device = batch.images.device
        self._prepare(device)
        latents = self._encoded(batch.images)
        chance = uniform(batch.seeds, (), "dropout").to(device)
        prompts = self.heard(torch.where(chance < self.config.dropout, -1, batch.labels))
        levels = self.backbone.path.levels(normal(batch.seeds, (), "level")).to(device)
        noise = normal(batch.seeds, latents.shape[1:], "noise").to(device)
        picture = self._picture(hints)
        return denoising_error(
            self.backbone.path,
            lambda noisy, coded: self._network(noisy, coded, prompts, picture),
            latents,
            noise,
            levels,
        ).mean()

    def _network(self, noisy: Tensor, coded: Tensor, prompts: Prompts, picture: Tensor | None) -> Tensor:
        steering = None
        if picture is not None and "control" in self.networks:
            steering = self.backbone.steer(self.networks["control"], noisy, coded, prompts, picture)
        answer: Tensor = self.networks["adapter"](noisy, coded, prompts, steering)
        return answer

    def _guided(
        self, noisy: Tensor, level: Tensor, prompts: Prompts, free: Prompts, picture: Tensor | None
    ) -> Tensor:
        def denoise(heard: Prompts) -> Tensor:
            return self.backbone.path.denoise(
                lambda latents, coded: self._network(latents, coded, heard, picture),
                noisy,
                level.expand(len(noisy)),
            )

        conditional = denoise(prompts)
        if self.config.guidance == 1:
            return conditional
        return guided(denoise(free), conditional, self.config.guidance)

    def _prepare(self, device: torch.device) -> None:
        """Move what is frozen to where the trained parts are, once."""
        if self.prepared == device:
            return
        if not (self.config.offload and device.type == "cuda"):
            self.backbone.denoiser.to(device)
        self.backbone.save_memory(self.config.checkpointing, self.config.offload, device)
        self.prompts = {name: tensor.to(device) for name, tensor in self.prompts.items()}
        self.prepared = device

    def heard(self, labels: Tensor) -> dict[str, Tensor]:
        """Encoded prompts of labels (N,); -1 is the empty prompt."""
        self._prepare(labels.device)
        return {name: tensor[labels] for name, tensor in self.prompts.items()}

    def _encoded(self, images: Tensor) -> Tensor:
        return self.backbone.encode(self._sized(images, self.config.size))

    def _picture(self, hints: Tensor | None) -> Tensor | None:
        """Masks or edges as the RGB picture that a control network looks at."""
        if hints is None:
            return None
        if hints.shape[1] == 1:
            hints = hints.expand(-1, 3, -1, -1)
        picture = F.pad(hints, (0, 0, 0, 0, 0, 3 - hints.shape[1]))
        return F.interpolate(picture, (self.config.size, self.config.size), mode="nearest")

    @staticmethod
    def _sized(images: Tensor, side: int) -> Tensor:
        if images.shape[-1] == side:
            return images
        shrinks = side < images.shape[-1]
        resized = F.interpolate(images, (side, side), mode="bicubic", align_corners=False, antialias=shrinks)
        return resized.clamp(-1, 1)


def prompts_of(config: TextToImageConfig, classes: Sequence[str]) -> list[str]:
    """One prompt for each class.

    Example:
        >>> prompts_of(TextToImageConfig(prompt="an {class} cell, {description}"), ["Parabasal", "odd"])[1]
        'an odd cell'
    """
    known = {**DESCRIPTIONS, **{_plain(name): text for name, text in config.descriptions.items()}}
    texts = []
    for name in classes:
        plain = _plain(name)
        text = config.prompt.replace("{class}", plain)
        texts.append(text.replace("{description}", known.get(plain, "")).rstrip(", "))
    return texts


def _plain(name: str) -> str:
    """A class name in words; one of Herlev's is misspelt on disk."""
    words = name.removeprefix("im_").replace("_", " ").lower()
    return {"normal superficiel": "normal superficial"}.get(words, words)
