import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import ConfigError
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.data.cache import mask_channels
from cytoforge.diffusion.flux import Flux
from cytoforge.diffusion.pretrained import offload_frozen, open_backbone
from cytoforge.methods.text_to_image import TextToImage, TextToImageConfig, prompts_of
from cytoforge.networks.unet import edges
from cytoforge.sampling.generator import open_generator
from cytoforge.stages.text_to_image import Sketch, draw
from cytoforge.training.loop import Loop, LoopConfig

SHAPE = DataShape(16, ("a", "b"), 2)
SMALL = {"size": 32, "rank": 2, "steps": 2, "guidance": 2.0, "weights": "32-true", "learning_rate": 1e-2}
MODELS = ("tiny_stable_diffusion", "tiny_stable_diffusion_xl", "tiny_flux")


@pytest.fixture(params=MODELS)
def model(request):
    return str(request.getfixturevalue(request.param))


def make(model, **settings):
    torch.manual_seed(0)
    return TextToImage(TextToImageConfig(checkpoint=model, **{**SMALL, **settings}), SHAPE)


def shaken(control):
    """A control network that has an effect: what starts at 0 does not stay there."""
    for parameter in control.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return control


def batch(count=4):
    images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    masks = (images[:, :2] > 0).float()
    return Batch(images, torch.arange(count) % 2, torch.arange(count), masks)


def take(method, turn, optimizer, data):
    for name, network in method.networks.items():
        network.requires_grad_(name == turn.network)
        network.zero_grad(set_to_none=True)
    loss = sum(turn.losses(data).values())
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_learns_with_the_large_model_frozen(model):
    method = make(model, condition="masks")
    frozen = method.backbone.denoiser
    before = {key: value.clone() for key, value in frozen.state_dict().items() if "lora_" not in key}
    optimizers, data = method.optimizers(), batch()
    for turn in method.turns():
        losses = [take(method, turn, optimizers[turn.network], data) for _ in range(3)]
        assert np.isfinite(losses).all()
        assert losses[-1] < losses[0], turn.network
        for name, network in method.networks.items():
            moved = {parameter.grad is not None for parameter in network.parameters()}
            assert moved == {name == turn.network}
    after = frozen.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    saved = method.networks["adapter"].state_dict()
    assert all("lora_" in key for key in saved)
    assert all(value.any() for value in saved.values())


@pytest.mark.parametrize("weights", ["32-true", "bf16"])
def test_noise_prompt_mask_and_image_steer_the_picture(model, weights):
    method = make(model, condition="masks", guidance=6.0, weights=weights)
    shaken(method.networks["control"])
    noise, labels = method.noise(torch.arange(2)), torch.zeros(2, dtype=torch.long)
    masks = batch(2).masks
    with torch.no_grad():
        plain = method.sample(noise, labels)
        assert plain.shape == (2, 3, 16, 16)
        assert plain.abs().max() <= 1
        assert torch.equal(plain, method.sample(noise, labels))
        assert not torch.allclose(plain[0], plain[1], atol=1e-3)
        assert not torch.allclose(plain, method.sample(noise, labels + 1), atol=1e-5)
        assert not torch.allclose(plain, method.sample(noise, labels, masks), atol=1e-5)
        heard = method.heard(labels)
        start = batch(2).images
        near, far = (method.draw(noise, heard, heard, None, start, strength) for strength in (0.1, 1.0))
        decoded = method.draw(noise * 0, heard, heard, None, start, 1e-6)
        whole = [method.draw(noise, heard, heard, strength=strength) for strength in (0.3, 1.0)]
    assert (near - decoded).abs().mean() < (far - decoded).abs().mean()
    assert torch.equal(*whole), "without an image all is drawn anew, from pure noise"


def test_condition_is_what_the_settings_name(tiny_stable_diffusion):
    data, model = batch(), str(tiny_stable_diffusion)
    assert make(model, condition="masks").condition(data) is data.masks
    assert torch.equal(make(model, condition="edges").condition(data), edges(data.images))
    assert make(model).condition(data) is None


def test_denoised_estimate_agrees_with_diffusers(tiny_stable_diffusion):
    """One DDIM step to the end by diffusers' own pipeline code gives our denoised latents."""
    from diffusers import DDIMScheduler

    method = make(str(tiny_stable_diffusion))
    backbone = method.backbone
    scheduler = DDIMScheduler.from_pretrained(tiny_stable_diffusion / "scheduler", clip_sample=False)
    scheduler.set_timesteps(4)
    step = scheduler.timesteps[1]
    noisy, heard = torch.randn(2, 4, 4, 4), method.heard(torch.tensor([0, 1]))
    with torch.no_grad():
        answer = backbone.denoiser(noisy, step, encoder_hidden_states=heard["states"]).sample
        wanted = scheduler.step(answer, step, noisy).pred_original_sample
        share = scheduler.alphas_cumprod[step].sqrt()
        level = backbone.path.sigmas[step].expand(2)
        found = backbone.path.denoise(
            lambda latents, coded: backbone.predict(latents, coded, heard), noisy / share, level
        )
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_flux_steps_agree_with_diffusers(tiny_flux, guidance):
    """Euler along our path is diffusers' own Flux pipeline, from the same noise and words."""
    from diffusers import FluxPipeline

    method = make(str(tiny_flux), solver="euler", steps=3, guidance=guidance, size=32)
    noise = method.noise(torch.arange(1))
    pipeline = FluxPipeline.from_pretrained(tiny_flux)
    pipeline.set_progress_bar_config(disable=True)
    mine = method.draw(noise, method.hear(["a cell"]), method.hear([""]))
    packed = pipeline._pack_latents(noise, 1, 4, 4, 4)
    theirs = pipeline(
        "a cell",
        negative_prompt="",
        true_cfg_scale=guidance,
        max_sequence_length=128,
        latents=packed,
        num_inference_steps=3,
        guidance_scale=3.5,
        height=32,
        width=32,
        output_type="pt",
    ).images
    sized = torch.nn.functional.interpolate(theirs * 2 - 1, (16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(mine, sized.clamp(-1, 1), atol=2e-3, rtol=0)


def test_flux_shifts_its_times_by_the_size_as_diffusers_does(tiny_flux):
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    for size in (256, 512, 1024):
        backbone = open_backbone(str(tiny_flux), size, "32-true")
        assert math.log(backbone.path.shift) == pytest.approx(calculate_shift((size // 16) ** 2))
    backbone.pipeline.scheduler.register_to_config(use_dynamic_shifting=False, shift=3.0)
    assert Flux(backbone.pipeline, 1024).path.shift == 3.0


def theirs(pipeline, method, noise, picture):
    """What diffusers' pipeline draws with a control network, at our noise levels and guidance."""
    words = {"prompt": "a cell", "output_type": "pt", "height": 32, "width": 32}
    pipeline.set_progress_bar_config(disable=True)
    if isinstance(method.backbone, Flux):
        packed = pipeline._pack_latents(noise, 1, 4, 4, 4)
        words |= {"num_inference_steps": 3, "guidance_scale": 3.5, "max_sequence_length": 128}
        return pipeline(control_image=picture * 2 - 1, latents=packed, **words).images
    words |= {"sigmas": method.backbone.path.schedule(3).tolist(), "guidance_scale": method.config.guidance}
    return pipeline(image=picture, latents=noise, **words).images


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers and NumPy
@pytest.mark.parametrize(
    ("name", "kind", "guidance"),
    [
        ("tiny_stable_diffusion", "StableDiffusionControlNetPipeline", 3.0),
        ("tiny_stable_diffusion_xl", "StableDiffusionXLControlNetPipeline", 3.0),
        ("tiny_flux", "FluxControlNetPipeline", 1.0),
    ],
)
def test_control_network_of_a_folder_agrees_with_diffusers(
    name, kind, guidance, request, tmp_path, monkeypatch
):
    """Flux without guidance: diffusers steers its free answer by the words too, here by none."""
    model = request.getfixturevalue(name)
    import diffusers
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    control = shaken(open_backbone(str(model), 32, "32-true").new_control())
    control.save_pretrained(tmp_path)
    settings = {"solver": "euler", "steps": 3, "guidance": guidance}
    method = make(str(model), condition="edges", controlnet=str(tmp_path), **settings)
    heard, free, noise = method.hear(["a cell"]), method.hear([""]), method.noise(torch.arange(1))
    outlines = edges(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 4 - 2)
    assert 0 < outlines.mean() < 1
    pipeline = getattr(diffusers, kind).from_pretrained(model, controlnet=control)
    if "Flux" not in kind:
        spacing = {"timestep_spacing": "trailing"}  # others start at sqrt(sigma^2 + 1)
        pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(
            pipeline.scheduler.config, **spacing
        )
    with torch.no_grad():
        mine = method.draw(noise, heard, free, outlines)
        wanted = theirs(pipeline, method, noise, outlines.expand(-1, 3, -1, -1))
        assert not torch.allclose(mine, method.draw(noise, heard, free), atol=1e-2)
    sized = torch.nn.functional.interpolate(wanted * 2 - 1, (16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(mine, sized.clamp(-1, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_offloaded_weights_give_the_same_gradients_and_go_back(model, checkpointing):
    data = batch()
    plain, spared = (make(model, checkpointing=checkpointing) for _ in range(2))
    denoiser = spared.backbone.denoiser
    before = dict(denoiser.named_parameters())
    offload_frozen(denoiser, torch.device("cpu"))
    for method in (plain, spared):
        sum(method.adapter_losses(data).values()).backward()
    for one, two in zip(
        plain.networks["adapter"].parameters(), spared.networks["adapter"].parameters(), strict=True
    ):
        assert torch.equal(one.grad, two.grad)
    after = dict(denoiser.named_parameters())
    assert all(after[key] is parameter for key, parameter in before.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_offload_trains_flux_in_a_third_of_its_memory(tiny_flux, tmp_path):
    from diffusers import FluxPipeline, FluxTransformer2DModel

    small = FluxPipeline.from_pretrained(tiny_flux)
    sizes = {**small.transformer.config, "num_layers": 12, "num_attention_heads": 32}
    small.transformer = FluxTransformer2DModel.from_config(sizes)
    small.save_pretrained(tmp_path)
    peaks, losses = [], []
    for offload in (False, True):
        method = make(str(tmp_path), offload=offload, weights="bf16")
        method.networks["adapter"].to("cuda")
        optimizer = method.optimizers()["adapter"]
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        with torch.autocast("cuda", torch.bfloat16):
            losses.append([take(method, method.turns()[0], optimizer, batch().to("cuda")) for _ in range(3)])
        peaks.append(torch.cuda.max_memory_allocated() - held)
        del method, optimizer
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert peaks[1] < peaks[0] / 3


def test_checkpointing_gives_the_same_gradients(model):
    data = batch()
    exact, spared = (make(model, condition="masks", checkpointing=kind) for kind in (False, True))
    shaken(exact.networks["control"])
    spared.networks["control"].load_state_dict(exact.networks["control"].state_dict())
    for method in (exact, spared):
        for turn in method.turns():
            sum(turn.losses(data).values()).backward()
    for network in (spared.backbone.denoiser, spared.networks["control"]):
        assert network.is_gradient_checkpointing
    for name, network in exact.networks.items():
        for one, two in zip(network.parameters(), spared.networks[name].parameters(), strict=True):
            torch.testing.assert_close(one.grad, two.grad)


def test_bf16_weights(tiny_stable_diffusion):
    data = batch()
    small = make(str(tiny_stable_diffusion), weights="bf16")
    assert small.backbone.denoiser.conv_in.weight.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in small.networks["adapter"].parameters())
    with torch.autocast("cpu", torch.bfloat16):
        sum(small.adapter_losses(data).values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in small.networks["adapter"].parameters())
    with torch.no_grad():
        assert small.sample(small.noise(torch.arange(1)), torch.tensor([0])).isfinite().all()


def test_text_encoders_are_let_go(tiny_stable_diffusion):
    method = make(str(tiny_stable_diffusion))
    assert method.hear(["a cell"])["states"].shape == method.prompts["states"][:1].shape
    method.adapter_losses(batch())
    assert method.backbone.pipeline.text_encoder is None
    assert len(method.prompts["states"]) == 3


def test_prompts_name_what_a_class_looks_like():
    config = TextToImageConfig(descriptions={"Odd_One": "green"})
    texts = prompts_of(config, ["im_Parabasal", "Odd_One", "other"])
    assert "one parabasal cell" in texts[0]
    assert "immature" in texts[0]
    assert texts[1].endswith("green")
    assert texts[2].endswith("stain")


@pytest.mark.parametrize(
    ("name", "spelt", "says"),
    [
        ("normal_superficiel", "normal superficial", "tiny dark nucleus"),
        ("normal_intermediate", "normal intermediate", "small nucleus"),
        ("normal_columnar", "normal columnar", "glandular"),
        ("light_dysplastic", "light dysplastic", "enlarged"),
        ("moderate_dysplastic", "moderate dysplastic", "irregular"),
        ("severe_dysplastic", "severe dysplastic", "fills most of the cell"),
        ("carcinoma_in_situ", "carcinoma in situ", "hardly any cytoplasm"),
    ],
)
def test_prompts_know_herlevs_classes_as_on_disk(name, spelt, says):
    (text,) = prompts_of(TextToImageConfig(), [name])
    assert f"one {spelt} cell" in text
    assert says in text


def test_faults_say_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="checkpoint=FOLDER"):
        make("")
    with pytest.raises(ConfigError, match=r"no model_index\.json"):
        make(str(tmp_path))
    with pytest.raises(ConfigError, match="On a machine with network: hf download"):
        make("nobody/nothing")
    with pytest.raises(ConfigError, match="condition=none would not be used"):
        make("nobody/nothing", controlnet="place")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "AudioLDMPipeline"}))
    with pytest.raises(ConfigError, match="supported are StableDiffusionPipeline"):
        make(str(tmp_path))


class Cells:
    """Four images of two classes with masks."""

    shape = SHAPE
    labels = np.arange(4) % 2

    def batch(self, indices, seeds):
        whole = batch()
        return Batch(
            whole.images[indices], whole.labels[indices], torch.from_numpy(seeds), whole.masks[indices]
        )


def loop_for(model, path):
    settings = {**SMALL, "checkpoint": model, "condition": "masks"}
    config = {
        **{"method": "text-to-image", "settings": settings, "preparation": {"resolution": 16}},
        **{"classes": ["a", "b"], "mask_channels": 2},
    }
    run = Run.open(path) if path.exists() else Run.create(path, config)
    loop = LoopConfig(batch=2, precision="32-true", measure_every=10**9, save_every=2, log_every=2)
    return Loop(make(model, condition="masks"), Cells(), loop, run, 0, Fabric(accelerator="cpu", devices=1))


def test_resumes_bit_for_bit_and_draws_after_loading(tiny_stable_diffusion, resumed, tmp_path):
    model = str(tiny_stable_diffusion)
    trained = load_checkpoint(resumed(partial(loop_for, model), images=4).run.checkpoints).tensors
    assert sum(tensor.numel() for key, tensor in trained.items() if key.startswith("network/adapter")) < 5_000
    runs = [Run.open(tmp_path / part) for part in ("whole", "broken")]
    methods = [*(open_generator(run, "newest").method for run in runs), make(model)]
    masks = mask_channels(np.ones((1, 16, 16), np.uint8))
    with torch.no_grad():
        first, second, plain = (
            method.sample(method.noise([3]), torch.tensor([0]), masks) for method in methods
        )
    assert torch.equal(first, second)
    assert not torch.allclose(first, plain, atol=1e-3)

    picture = tmp_path / "mask.png"
    Image.fromarray(np.full((20, 24, 3), 255, np.uint8)).save(picture)
    settings = {"size": 32, "steps": 2, "weights": "32-true"}
    sketch = Sketch(image=picture, strength=0.5, control=picture)
    options = {"sketch": sketch, "settings": settings}
    files = draw(model, "a cell", tmp_path / "out", "0-1", run=tmp_path / "whole", **options)
    pixels, marks = decode_png(files[1].read_bytes())
    assert pixels.shape == (32, 32, 3)
    assert (marks["Synthetic"], marks["Prompt"], marks["Seed"]) == ("true", "a cell", "1")
    repeated = draw(model, "a cell", tmp_path / "again", "1", run=tmp_path / "whole", **options)
    assert repeated[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(ConfigError, match="needs a control network"):
        draw(model, "a cell", tmp_path / "out", "0", **options)
