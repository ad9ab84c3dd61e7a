"""Stable Diffusion 1, 2 and XL: a U-Net in latent space that hears text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from cytoforge.core.errors import ConfigError
from cytoforge.diffusion.paths import VariancePreserving
from cytoforge.diffusion.pretrained import Backbone, Prompts


class StableDiffusion(Backbone):
    """U-Net, trained on noise or velocity at 1000 steps.

    Reference:
        Rombach et al., High-resolution image synthesis with latent diffusion models, 2022.
        https://arxiv.org/abs/2112.10752
        Podell et al., SDXL, 2023 (image size as a condition, section 2.2). https://arxiv.org/abs/2307.01952
    """

    def __init__(self, pipeline: Any, large: bool) -> None:
        super().__init__(pipeline, pipeline.unet)
        self.large = large
        answers: dict[str, Literal["noise", "velocity"]] = {"epsilon": "noise", "v_prediction": "velocity"}
        kind = pipeline.scheduler.config.prediction_type
        if kind not in answers:
            raise ConfigError(f"the checkpoint predicts {kind!r}; supported are epsilon and v_prediction.")
        self.path = VariancePreserving(pipeline.scheduler.alphas_cumprod.double(), answers[kind])

    @classmethod
    def load(cls, family: str, checkpoint: str, dtype: torch.dtype, revision: str | None) -> Self:
        """Read the weights, from safetensors files only."""
        from diffusers import DDPMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

        options: dict[str, Any] = {"dtype": dtype, "revision": revision, "use_safetensors": True}
        if family == "sdxl":
            pipeline = StableDiffusionXLPipeline.from_pretrained(checkpoint, **options)
        else:
            unwanted = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
            pipeline = StableDiffusionPipeline.from_pretrained(checkpoint, **options, **unwanted)
        pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        return cls(pipeline, family == "sdxl")

    def encode_prompts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Hidden states (N, L, D), and a summary (N, P) for XL, which may hear an empty text as 0."""
        with torch.no_grad():
            if not self.large:
                states, _ = self.pipeline.encode_prompt(list(texts), "cpu", 1, False)
                return {"states": states}
            states, _, summary, _ = self.pipeline.encode_prompt(
                list(texts), device="cpu", do_classifier_free_guidance=False
            )
            if self.pipeline.config.force_zeros_for_empty_prompt:
                said = torch.tensor([bool(text) for text in texts])
                states, summary = states * said[:, None, None], summary * said[:, None]
        return {"states": states, "summary": summary}

    def predict(self, noisy: Tensor, coded: Tensor, prompts: Prompts, steering: Any | None = None) -> Tensor:
        """Noise or velocity (N, C, h, w); `coded` are step numbers (N,)."""
        down, middle = (None, None) if steering is None else steering
        answer: Tensor = self.denoiser(
            noisy.to(self._dtype),
            coded,
            encoder_hidden_states=prompts["states"].to(self._dtype),
            added_cond_kwargs=self._size(noisy, prompts),
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        return answer

    def control_type(self) -> Any:
        """ControlNet."""
        from diffusers import ControlNetModel

        return ControlNetModel

    def new_control(self) -> nn.Module:
        """ControlNet with the U-Net's encoder."""
        control: nn.Module = self.control_type().from_unet(self.denoiser).float()
        return control

    def steer(
        self, control: nn.Module, noisy: Tensor, coded: Tensor, prompts: Prompts, picture: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """What to add to the skips and to the middle of the U-Net."""
        down, middle = control(
            noisy,
            coded,
            encoder_hidden_states=prompts["states"].float(),
            controlnet_cond=picture,
            added_cond_kwargs=self._size(noisy, prompts),
            return_dict=False,
        )
        return [features.to(self._dtype) for features in down], middle.to(self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.denoiser.dtype  # type: ignore[assignment]
        return dtype

    def _size(self, noisy: Tensor, prompts: Prompts) -> dict[str, Tensor] | None:
        """XL also hears summary, original size, crop and target size."""
        if not self.large:
            return None
        side = noisy.shape[-1] * 2 ** (len(self.pipeline.vae.config.block_out_channels) - 1)
        sizes = noisy.new_tensor([side, side, 0, 0, side, side]).expand(len(noisy), -1)
        return {"text_embeds": prompts["summary"], "time_ids": sizes}
