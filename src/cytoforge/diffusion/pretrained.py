"""Pretrained text-to-image models behind one face: prompts, latents, a denoiser, adapter and control network.

The large model is frozen and kept out of `nn.Module` trees: what is trained and saved is the adapter and,
where asked for, the control network. Text is encoded once; the text encoders are then let go.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cytoforge.core.errors import ConfigError
from cytoforge.diffusion.paths import NoisePath

Prompts = Mapping[str, Tensor]
"""What a text encoder says: name -> (N, ...)."""

DTYPES = {"32-true": torch.float32, "bf16": torch.bfloat16}
"""Number format of frozen weights, by name."""


class Backbone(ABC):
    """A frozen latent diffusion model.

    Attributes:
        pipeline: the diffusers pipeline, without text encoders once prompts are encoded.
        path: the way from latents to noise that it was trained on.
        denoiser: its U-Net or transformer.
    """

    path: NoisePath

    def __init__(self, pipeline: Any, denoiser: nn.Module) -> None:
        self.pipeline, self.denoiser = pipeline, denoiser
        for part in (denoiser, pipeline.vae):
            part.requires_grad_(requires_grad=False).eval()

    @abstractmethod
    def encode_prompts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the text encoders say to N texts."""

    @abstractmethod
    def predict(self, noisy: Tensor, coded: Tensor, prompts: Prompts, steering: Any | None = None) -> Tensor:
        """The denoiser's raw answer (N, C, h, w) to noisy latents; levels (N,) as its path codes them."""

    @abstractmethod
    def new_control(self) -> nn.Module:
        """A control network that starts as a copy of the denoiser."""

    @abstractmethod
    def control_type(self) -> Any:
        """Class of the control networks that fit, in diffusers."""

    def load_control(self, place: str) -> nn.Module:
        """A trained control network from a folder or the hub, from safetensors files only."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # diffusers about itself
            control: nn.Module = self.control_type().from_pretrained(place, use_safetensors=True)
        return control

    @abstractmethod
    def steer(
        self, control: nn.Module, noisy: Tensor, coded: Tensor, prompts: Prompts, picture: Tensor
    ) -> Any:
        """What the control network adds, for a picture (N, 3, H, W) in [0, 1]."""

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of images of `size` pixels."""
        config = self.pipeline.vae.config
        side = size // 2 ** (len(config.block_out_channels) - 1)
        return int(config.latent_channels), side, side

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] become latents, the most likely ones."""
        vae = self._vae(images.device)
        with torch.no_grad():
            latents = vae.encode(images.to(vae.dtype)).latent_dist.mode().float()
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        scaled: Tensor = (latents - shift) * vae.config.scaling_factor
        return scaled

    def decode(self, latents: Tensor) -> Tensor:
        """Latents become images in [-1, 1]."""
        vae = self._vae(latents.device)
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        with torch.no_grad():
            images = vae.decode((latents / vae.config.scaling_factor + shift).to(vae.dtype)).sample
        clipped: Tensor = images.float().clamp(-1, 1)
        return clipped

    def release_text_encoders(self) -> None:
        """Free the memory of what has done its work."""
        for name in ("text_encoder", "text_encoder_2"):
            if hasattr(self.pipeline, name):
                setattr(self.pipeline, name, None)

    def save_memory(self, checkpointing: bool, offload: bool, device: torch.device) -> None:
        """Recompute activations in the backward pass; keep blocks in main memory until they are needed."""
        if checkpointing:
            self.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
        self.pipeline.vae.enable_slicing()
        if offload and device.type == "cuda":
            offload_frozen(self.denoiser, device)

    def _vae(self, device: torch.device) -> Any:
        return self.pipeline.vae.to(device)


class Adapter(nn.Module):
    """Low-rank additions to the attention of a frozen denoiser; holds only what is trained.

    Args:
        backbone: its denoiser gets the additions, which start at 0.
        rank: of the additions.
        targets: ends of the names of the layers that get one.

    Reference:
        Hu et al., LoRA: low-rank adaptation of large language models, 2021, equation 3.
        https://arxiv.org/abs/2106.09685
    """

    def __init__(self, backbone: Backbone, rank: int, targets: Sequence[str]) -> None:
        super().__init__()
        from peft import LoraConfig

        config = LoraConfig(
            r=rank, lora_alpha=rank, target_modules=list(targets), init_lora_weights="gaussian"
        )
        backbone.denoiser.add_adapter(config)  # type: ignore[operator]
        self._backbone = (backbone,)  # a tuple hides it from nn.Module
        for name, parameter in backbone.denoiser.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
                self.register_parameter(name.replace(".", "/"), parameter)

    def forward(self, noisy: Tensor, coded: Tensor, prompts: Prompts, steering: Any | None = None) -> Tensor:
        """The adapted denoiser's raw answer, see `Backbone.predict`."""
        return self._backbone[0].predict(noisy, coded, prompts, steering)


def offload_frozen(network: nn.Module, device: torch.device) -> None:
    """Leave frozen weights where they are: a layer has a copy of its own on `device` while it computes.

    Autograd holds on to copies that it needs, so activations should be recomputed (checkpointing): then no
    more than one block's copies are alive at a time. diffusers' own offloading is for drawing: it would move
    the low-rank additions too, away from their gradients.

    Args:
        network: a denoiser; its additions are on `device` already.
        device: where it computes.
    """
    for name, layer in network.named_modules():
        frozen = dict(layer.named_parameters(recurse=False))
        if frozen and "lora_" not in name:
            _lend(layer, frozen, device)


def _lend(layer: nn.Module, weights: Mapping[str, nn.Parameter], device: torch.device) -> None:
    if device.type == "cuda":
        for weight in weights.values():
            weight.data = weight.data.pin_memory()

    def fetch(*_: object) -> None:
        for name, weight in weights.items():
            copy = weight.detach().to(device, non_blocking=True)
            setattr(layer, name, nn.Parameter(copy, requires_grad=False))

    def release(*_: object) -> None:
        for name, weight in weights.items():
            setattr(layer, name, weight)

    layer.register_forward_pre_hook(fetch)
    layer.register_forward_hook(release, always_call=True)  # checkpointing stops a forward pass by raising


TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""Attention's projections, in U-Nets and transformers alike."""


def open_backbone(
    checkpoint: str, size: int, precision: str = "bf16", revision: str | None = None
) -> Backbone:
    """A Stable Diffusion (1, 2, XL) or Flux model from a folder in diffusers' layout or from the hub.

    Args:
        checkpoint: folder with model_index.json, or a hub name such as "owner/model".
        size: side in pixels of the images that it will draw.
        precision: a key of `DTYPES`.
        revision: commit of the hub's repository.

    Raises:
        ConfigError: diffusers is not installed, nothing is there, or the model is of another family.
    """
    from cytoforge.diffusion.flux import Flux
    from cytoforge.diffusion.stable_diffusion import StableDiffusion

    with _explained(checkpoint):
        _quiet()
        family = _family(checkpoint, revision)
        if family == "flux":
            return Flux.load(checkpoint, size, DTYPES[precision], revision)
        return StableDiffusion.load(family, checkpoint, DTYPES[precision], revision)


Family = Literal["sd", "sdxl", "flux"]
_FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "FluxPipeline": "flux",
}


def _quiet() -> None:
    """No bars of other packages: ours is the progress that counts."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
        logging.set_verbosity_error()


def _family(checkpoint: str, revision: str | None) -> Family:
    from huggingface_hub import hf_hub_download

    place = Path(checkpoint)
    if place.exists() and not (place / "model_index.json").is_file():
        raise ConfigError(
            f"checkpoint={checkpoint} is no model in diffusers' layout (it has no model_index.json). Convert "
            "a single file with diffusers' from_single_file(...).save_pretrained(FOLDER) and give FOLDER."
        )
    index = place / "model_index.json"
    if not place.exists():
        index = Path(hf_hub_download(checkpoint, "model_index.json", revision=revision))
    name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    if name not in _FAMILIES:
        raise ConfigError(
            f"checkpoint={checkpoint} is a {name}; supported are {', '.join(_FAMILIES)} (text-to-image)."
        )
    return _FAMILIES[name]


@contextmanager
def _explained(checkpoint: str) -> Any:
    """Turn what diffusers raises about missing packages, files and networks into our error."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            "text-to-image needs more packages; install them with: pip install 'cytoforge[text-to-image]' "
            f"({error})."
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"checkpoint={checkpoint} cannot be loaded: {reason[:300]} It is neither a folder here nor could "
            "it be had from the hub (no network, or a licence to accept first). On a machine with network: "
            f"hf download {checkpoint} --local-dir FOLDER, then set checkpoint=FOLDER."
        ) from error
