from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.networks.torchvision_cpu import prepare_torchvision
from cytoforge.training.loop import Loop, Until

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Root of the real cells: CYTOFORGE_DATA, or ../shared/data beside the checkout."""
    place = os.environ.get("CYTOFORGE_DATA")
    root = Path(place) if place else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip("no real cells here: set CYTOFORGE_DATA to a folder with sipakmed/ and herlev/")
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test session caches in a temporary folder, never in the user's."""
    monkeypatch.setenv("CYTOFORGE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def resumed(tmp_path: Path) -> Callable[[Callable[[Path], Loop], int], Loop]:
    """(folder -> loop, images) -> a loop that saw so many in two halves: all tensors are as in one go.

    The runs are `whole` and `broken` in tmp_path.
    """

    def train(loop: Callable[[Path], Loop], images: int) -> Loop:
        loop(tmp_path / "whole").train(Until(images=images))
        loop(tmp_path / "broken").train(Until(images=images // 2))
        again = loop(tmp_path / "broken")
        assert again.resume() == ()
        again.train(Until(images=images))
        whole, broken = (load_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "broken"))
        assert whole.tensors.keys() == broken.tensors.keys()
        for name, tensor in whole.tensors.items():
            assert torch.equal(tensor, broken.tensors[name]), name
        return again

    return train


@pytest.fixture(scope="session")
def tiny_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes, 40 pictures of 40 x 36 px each, four to a photo (`<photo>_<cell>.png`)."""
    root = tmp_path_factory.mktemp("tiny") / "cells of mine"
    generator = np.random.default_rng(0)
    for label, colour in (("blue", 2), ("red", 0)):
        (root / label).mkdir(parents=True)
        for index in range(40):
            picture = generator.integers(0, 160, (40, 36, 3), np.uint8)
            picture[8:30, 8:28, colour] = 220
            Image.fromarray(picture).save(root / label / f"{index // 4:03d}_{index % 4:02d}.png")
    return root


@pytest.fixture(scope="session")
def tiny_stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion model with random weights, images of 32 px, as a folder in diffusers' layout."""
    diffusers, transformers = _text_to_image_packages()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-sd")
    diffusers.StableDiffusionPipeline(
        vae=_tiny_vae(diffusers),
        text_encoder=_tiny_clip(transformers),
        tokenizer=_tiny_tokenizer(transformers, folder),
        unet=diffusers.UNet2DConditionModel(**_TINY_UNET, cross_attention_dim=16),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            steps_offset=1,
            clip_sample=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def tiny_stable_diffusion_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two text encoders and sizes as a condition."""
    diffusers, transformers = _text_to_image_packages()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-xl")
    diffusers.StableDiffusionXLPipeline(
        vae=_tiny_vae(diffusers),
        text_encoder=_tiny_clip(transformers),
        text_encoder_2=_tiny_clip(transformers, transformers.CLIPTextModelWithProjection),
        tokenizer=_tiny_tokenizer(transformers, folder),
        tokenizer_2=_tiny_tokenizer(transformers, folder),
        unet=diffusers.UNet2DConditionModel(
            **_TINY_UNET,
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(prediction_type="v_prediction"),
    ).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Flux model with random weights, images of 32 px."""
    diffusers, transformers = _text_to_image_packages()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-flux")
    letters = [(letter, -2.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *letters]
    text = transformers.T5Config(
        **{"vocab_size": len(pieces), "d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2}
    )
    diffusers.FluxPipeline(
        vae=_tiny_vae(diffusers, flux=True),
        text_encoder=_tiny_clip(transformers),
        text_encoder_2=transformers.T5EncoderModel(text),
        tokenizer=_tiny_tokenizer(transformers, folder),
        tokenizer_2=transformers.T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=16),
        transformer=diffusers.FluxTransformer2DModel(
            **{"in_channels": 16, "num_layers": 2, "num_single_layers": 1, "attention_head_dim": 16},
            **{"num_attention_heads": 2, "joint_attention_dim": 16, "pooled_projection_dim": 16},
            **{"guidance_embeds": True, "axes_dims_rope": (4, 6, 6)},
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    ).save_pretrained(folder / "model")
    return folder / "model"


def _text_to_image_packages() -> tuple[Any, Any]:
    prepare_torchvision()
    return pytest.importorskip("diffusers"), pytest.importorskip("transformers")


_TINY_UNET: dict[str, Any] = {
    "sample_size": 4,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


def _tiny_vae(diffusers: Any, flux: bool = False) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        shift_factor=0.1 if flux else None,
    )


def _tiny_clip(transformers: Any, kind: Any = None) -> Any:
    config = transformers.CLIPTextConfig(
        **{"vocab_size": 54, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "max_position_embeddings": 77, "projection_dim": 16},
        **{"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53},
    )
    return (kind or transformers.CLIPTextModel)(config)


def _tiny_tokenizer(transformers: Any, folder: Path) -> Any:
    """Letter by letter."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    return transformers.CLIPTokenizer(*files, model_max_length=77)
