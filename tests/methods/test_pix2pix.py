import numpy as np
import pytest
import torch

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.randomness import normal, uniform
from cytoforge.data.crop import random_crop
from cytoforge.losses.adversarial import FAMILIES
from cytoforge.methods.pix2pix import Pix2Pix, Pix2PixConfig

SHAPE = DataShape(32, ("a", "b"), 2)
SMALL = {
    "width": 4,
    "most_width": 16,
    "norm": "group",
    "discriminator_width": 4,
    "discriminator_norm": "group",
    "dropout": 0.0,
}


def make(**settings):
    torch.manual_seed(0)
    return Pix2Pix(Pix2PixConfig(**{**SMALL, **settings}), SHAPE)


def batch(count=8):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
    masks = torch.zeros(count, 2, 32, 32)
    masks[:, 0, 4:28, 4:28] = 1
    masks[:, :, 12:20, 12:20] = torch.tensor([0.0, 1.0])[:, None, None]
    return Batch(images, torch.arange(count) % 2, torch.arange(count), masks)


@pytest.mark.parametrize(("discriminator", "count"), [("patch", 2_771_457), ("vanilla", 3_816_961)])
def test_preset_source_003_has_the_sources_parameters(discriminator, count):
    """As its framework counts, batch-norm statistics too; four channels of mask and one of noise."""
    preset = {**Pix2Pix.presets["source-003"], "discriminator": discriminator}
    settings = {name: preset[name] for name in preset if name in Pix2PixConfig.model_fields}
    with torch.device("meta"):
        networks = Pix2Pix(Pix2PixConfig(**settings), DataShape(256, ("a",), 4)).networks
    counts = {
        name: sum(tensor.numel() for tensor in network.state_dict().values() if tensor.ndim)
        for name, network in networks.items()
    }
    assert counts == {"generator": 54_427_907, "discriminator": count}


def test_defaults_are_the_papers():
    config = Pix2PixConfig()
    assert (config.learning_rate, config.betas, config.dropout) == (2e-4, (0.5, 0.999), 0.5)
    assert (config.reconstruction, config.reconstruction_weight, config.width) == ("l1", 100, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_loss_reaches_both_networks(family):
    """Also where it takes differences of scores: a generator compared with itself would learn nothing."""
    bound = {"discriminator_norm": "spectral"} if family == "wasserstein" else {}
    method, cells = make(loss=family, reconstruction_weight=0.0, crop=False, **bound), batch()
    for name, losses in (
        ("discriminator", method.discriminator_losses),
        ("generator", method.generator_losses),
    ):
        method.networks[name].zero_grad()
        sum(losses(cells).values()).backward()
        steepest = max(float(each.grad.abs().max()) for each in method.networks[name].parameters())
        assert 1e-6 < steepest < 1e3


def test_reconstruction_by_hand():
    """A generator that says 0 everywhere is as far from the image as the image is from grey."""
    method, cells = make(crop=False), batch()
    for parameter in method.networks["generator"].output.parameters():
        parameter.data.zero_()
    losses = method.generator_losses(cells)
    torch.testing.assert_close(losses["reconstruction"], 100 * cells.images.abs().mean())
    method = make(crop=False, reconstruction="mse", reconstruction_weight=7)
    for parameter in method.networks["generator"].output.parameters():
        parameter.data.zero_()
    losses = method.generator_losses(cells)
    torch.testing.assert_close(losses["reconstruction"], 7 * cells.images.square().mean())


@pytest.mark.parametrize("kind", ["patch", "vanilla"])
@pytest.mark.parametrize("loss", ["minimax", "non-saturating", "least-squares", "hinge", "relativistic"])
def test_every_discriminator_and_loss_gives_finite_gradients(kind, loss):
    method = make(discriminator=kind, loss=loss, r1=1.0, augment="color,translation,cutout")
    for turn in method.turns():
        for name, network in method.networks.items():
            network.requires_grad_(name == turn.network)
        sum(turn.losses(batch()).values()).backward()
        for parameter in method.networks[turn.network].parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()


def test_the_discriminator_sees_the_mask():
    method, cells = make(crop=False, loss="hinge"), batch()
    other = Batch(cells.images, cells.labels, cells.seeds, 1 - cells.masks)
    assert method.discriminator_losses(cells) != method.discriminator_losses(other)


def test_mode_seeking_pushes_two_noises_apart():
    method, cells = make(mode_seeking=1.0, reconstruction_weight=0, crop=False), batch()
    optimizer = torch.optim.Adam(method.networks["generator"].parameters(), 1e-3)

    def apart():
        noise = method.noise(np.arange(2))
        with torch.no_grad():
            images = method.sample(
                noise, torch.zeros(2, dtype=torch.long), cells.masks[:1].repeat(2, 1, 1, 1)
            )
        return float((images[0] - images[1]).abs().mean())

    before = apart()
    for _ in range(10):
        optimizer.zero_grad()
        method.generator_losses(cells)["mode_seeking"].backward()
        optimizer.step()
    assert apart() > 1.5 * before


def test_two_noises_are_told_apart_only_where_there_is_one():
    with pytest.raises(ConfigError, match="add noise_channels=1"):
        make(mode_seeking=1.0, noise_channels=0)


def test_penalties_are_taken_at_the_image_not_at_its_mask():
    """Slopes of an image's mean score, computed here anew, at real, painted and mixed images."""
    weights = {"r1": 3.0, "r2": 5.0, "gradient_penalty": 7.0}
    method, cells = make(crop=False, **weights), batch()
    found = method.discriminator_losses(cells)
    assert set(found) == {"discriminator", *weights}
    noise = normal(cells.seeds, (1, 32, 32), "discriminator")
    fake = method.sample(noise, cells.labels, cells.masks).detach()
    fraction = uniform(cells.seeds, (), "interpolation").reshape(-1, 1, 1, 1)
    planes = torch.eye(2)[cells.labels][:, :, None, None].expand(-1, -1, 32, 32)

    def lengths(images):
        shown = images.clone().requires_grad_()
        scores = method.networks["discriminator"](torch.cat([shown, cells.masks, planes], dim=1))
        (slopes,) = torch.autograd.grad(scores.mean((1, 2, 3)).sum(), shown)
        return slopes.flatten(1).norm(dim=1)

    expected = {
        "r1": lengths(cells.images).square().mean() / 2,
        "r2": lengths(fake).square().mean() / 2,
        "gradient_penalty": (lengths(fake + fraction * (cells.images - fake)) - 1).square().mean(),
    }
    for name, weight in weights.items():
        torch.testing.assert_close(found[name].detach(), weight * expected[name])
    assert not torch.isclose(expected["r1"], expected["r2"], rtol=1e-3)


@pytest.mark.parametrize("kind", ["patch", "vanilla"])
@pytest.mark.parametrize("penalty", ["r1", "r2", "gradient_penalty"])
def test_penalties_are_refused_with_batch_norm(kind, penalty):
    with pytest.raises(ConfigError, match="choose discriminator_norm from instance, group, none, spectral"):
        make(discriminator=kind, discriminator_norm="batch", **{penalty: 1.0})


@pytest.mark.parametrize("kind", ["patch", "vanilla"])
def test_r1_works_with_every_norm_but_batch(kind):
    """With those that work, the score of an image has no gradient at another."""
    assert make(discriminator=kind, discriminator_norm="batch").networks
    for norm in ("instance", "group", "none", "spectral"):
        method = make(discriminator=kind, discriminator_norm=norm, r1=1.0)
        assert method.discriminator_losses(batch())["r1"].isfinite()
        pairs = torch.randn(2, 7, 32, 32, requires_grad=True)
        (gradient,) = torch.autograd.grad(method.networks["discriminator"](pairs)[0].sum(), pairs)
        assert gradient[0].any(), norm
        assert not gradient[1].any(), norm


def test_one_pair_is_learned_by_heart():
    """With one pair and no noise to get in the way, the distance goes to a fifth."""
    method, cells = make(crop=False, norm="none", learning_rate=3e-3, reconstruction_weight=10), batch(1)
    images = cells.masks[:, 1:] * 0.8 - cells.masks[:, :1] * 0.5
    cells = Batch(images.expand(-1, 3, -1, -1).contiguous(), cells.labels, cells.seeds, cells.masks)
    optimizer = method.optimizers()["generator"]
    first = float(method.generator_losses(cells)["reconstruction"].detach())
    for _ in range(60):
        optimizer.zero_grad()
        method.generator_losses(cells)["reconstruction"].backward()
        optimizer.step()
    assert float(method.generator_losses(cells)["reconstruction"].detach()) < 0.2 * first


def test_without_masks_it_says_so():
    cells = batch()
    with pytest.raises(ConfigError, match="cytoforge mask"):
        make().generator_losses(Batch(cells.images, cells.labels, cells.seeds))
    with pytest.raises(ConfigError, match="--masks FOLDER"):
        make().sample(make().noise(np.arange(1)), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ConfigError, match="not 48"):
        Pix2Pix(Pix2PixConfig(), DataShape(48, ("a", "b"), 2))


class TestRandomCrop:
    def test_image_and_mask_show_the_same_square(self):
        masks = torch.from_numpy(np.random.default_rng(0).random((6, 2, 8, 8)) > 0.5).float()
        masks = masks.repeat_interleave(8, 2).repeat_interleave(8, 3)
        painted = torch.cat([masks, masks[:, :1]], dim=1)
        images, moved = random_crop(painted, masks, torch.arange(6))
        assert ((images[:, :2] > 0.5).float() - moved).abs().mean() < 0.02
        assert not torch.equal(moved, masks)
        assert set(moved.unique().tolist()) == {0.0, 1.0}

    def test_each_square_is_its_own_and_lies_inside(self):
        ramp = torch.linspace(-1, 1, 64).expand(20, 3, 64, 64)
        images, _ = random_crop(ramp, torch.zeros(20, 2, 64, 64), torch.arange(20))
        left, right = images[:, 0, 0, 0], images[:, 0, 0, -1]
        torch.testing.assert_close(right - left, torch.full((20,), 2 * 256 / 286), atol=0.01, rtol=0)
        assert left.min() >= -1
        assert right.max() <= 1
        assert left.std() > 0.02

    def test_the_whole_is_left_alone(self):
        cells = batch()
        images, masks = random_crop(cells.images, cells.masks, cells.seeds, share=1)
        assert images is cells.images
        assert masks is cells.masks
