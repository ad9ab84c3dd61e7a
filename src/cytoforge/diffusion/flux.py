"""Flux: a transformer that draws latents along a straight path and hears text."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoforge.diffusion.paths import RectifiedFlow
from cytoforge.diffusion.pretrained import Backbone, Prompts


class Flux(Backbone):
    """Rectified-flow transformer on latents folded into patches of 2 x 2.

    Reference:
        Esser et al., Scaling rectified flow transformers, 2024. https://arxiv.org/abs/2403.03206
        Black Forest Labs, https://github.com/black-forest-labs/flux (shift, guidance as an input).
    """

    own_guidance = 3.5
    """What distilled models hear as their guidance."""

    def __init__(self, pipeline: Any, size: int) -> None:
        super().__init__(pipeline, pipeline.transformer)
        times = pipeline.scheduler.config
        shift = self.shift(size) if times.use_dynamic_shifting else times.shift
        self.path = RectifiedFlow(shift=shift, answer="slope")

    @classmethod
    def load(cls, checkpoint: str, size: int, dtype: torch.dtype, revision: str | None) -> Self:
        """Read the weights, from safetensors files only, for images of `size` pixels."""
        from diffusers import FluxPipeline

        pipeline = FluxPipeline.from_pretrained(
            checkpoint, dtype=dtype, revision=revision, use_safetensors=True
        )
        return cls(pipeline, size)

    @staticmethod
    def shift(size: int) -> float:
        """How far times move to the noise: e^mu, mu from 0.5 at 256 px to 1.15 at 1024 px by tokens.

        Example:
            >>> round(Flux.shift(256), 3), round(Flux.shift(1024), 3)
            (1.649, 3.158)
        """
        tokens = (size / 16) ** 2
        return math.exp(0.5 + (tokens - 256) / (4096 - 256) * 0.65)

    def encode_prompts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Hidden states (N, L, D) and a summary (N, P)."""
        with torch.no_grad():
            states, summary, _ = self.pipeline.encode_prompt(
                list(texts), list(texts), max_sequence_length=128
            )
        return {"states": states, "summary": summary}

    def predict(self, noisy: Tensor, coded: Tensor, prompts: Prompts, steering: Any | None = None) -> Tensor:
        """Slope (N, C, h, w); `coded` are times (N,) in [0, 1]."""
        blocks, single = (None, None) if steering is None else steering
        answer = self.denoiser(
            **self._inputs(noisy, coded, prompts, self.denoiser),
            controlnet_block_samples=blocks,
            controlnet_single_block_samples=single,
            return_dict=False,
        )[0]
        side = noisy.shape[-1] // 2
        return F.pixel_shuffle(answer.transpose(1, 2).unflatten(2, (side, side)), 2)

    def control_type(self) -> Any:
        """Control network of Flux."""
        from diffusers import FluxControlNetModel

        return FluxControlNetModel

    def load_control(self, place: str) -> nn.Module:
        """A trained control network, see `Backbone.load_control`."""
        return _whole(super().load_control(place))

    def new_control(self) -> nn.Module:
        """Control network with the transformer's first blocks."""
        config: Any = self.denoiser.config
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # diffusers about itself
            control: nn.Module = (
                self.control_type()
                .from_transformer(
                    self.denoiser,
                    num_layers=min(4, config.num_layers),
                    num_single_layers=0,
                    attention_head_dim=config.attention_head_dim,
                    num_attention_heads=config.num_attention_heads,
                )
                .float()
            )
        return _whole(control)

    def steer(
        self, control: nn.Module, noisy: Tensor, coded: Tensor, prompts: Prompts, picture: Tensor
    ) -> tuple[list[Tensor] | None, list[Tensor] | None]:
        """What to add after each block; the picture is seen through the autoencoder."""
        hint = _folded(self.encode(picture * 2 - 1))
        inputs = self._inputs(noisy, coded, prompts, control)
        dtype = inputs["hidden_states"].dtype
        blocks, single = control(**inputs, controlnet_cond=hint.to(dtype), return_dict=False)
        return self._cast(blocks), self._cast(single)

    def _cast(self, features: Sequence[Tensor] | None) -> list[Tensor] | None:
        """In the number format of the denoiser, which may be coarser than the control network's."""
        dtype: torch.dtype = next(self.denoiser.parameters()).dtype
        return None if features is None else [feature.to(dtype) for feature in features]

    def _inputs(self, noisy: Tensor, coded: Tensor, prompts: Prompts, network: nn.Module) -> dict[str, Any]:
        dtype: torch.dtype = next(network.parameters()).dtype
        side, length = noisy.shape[-1] // 2, prompts["states"].shape[1]
        places = torch.zeros(side, side, 3, device=noisy.device, dtype=dtype)
        places[..., 1] = torch.arange(side, device=noisy.device)[:, None]
        places[..., 2] = torch.arange(side, device=noisy.device)
        guidance = None
        if network.config.guidance_embeds:  # type: ignore[union-attr]
            guidance = noisy.new_full((len(noisy),), self.own_guidance)
        return {
            "hidden_states": _folded(noisy).to(dtype),
            "encoder_hidden_states": prompts["states"].to(dtype),
            "pooled_projections": prompts["summary"].to(dtype),
            "timestep": coded.to(dtype),
            "img_ids": places.flatten(0, 1),
            "txt_ids": places.new_zeros(length, 3),
            "guidance": guidance,
        }


def _whole(control: nn.Module) -> nn.Module:
    """The control network with gradients for all its weights, which training in several processes demands.

    Where no single block follows, nothing hears the text that the last block puts out: its share is 0.
    """
    if not control.single_transformer_blocks:
        control.transformer_blocks[-1].register_forward_hook(_with_text)  # type: ignore[index, union-attr]
    return control


def _with_text(_block: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    text, image = output
    return text, image + 0 * text.mean()


def _folded(latents: Tensor) -> Tensor:
    """Latents (N, C, h, w) as patches of 2 x 2: (N, h w / 4, 4 C)."""
    return F.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)
