import math
from typing import get_args

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.run import Run
from cytoforge.losses.adversarial import FAMILIES, Family
from cytoforge.methods.adversarial import soft_targets
from cytoforge.methods.cgan import CGAN, CGANConfig, DenseCGAN
from cytoforge.methods.ebgan import EBGAN, EBGANConfig
from cytoforge.methods.gan import GAN, GANConfig
from cytoforge.methods.infogan import InfoGAN, InfoGANConfig
from cytoforge.networks.convolutional import ConvolutionalCritic
from cytoforge.networks.energy_autoencoder import EnergyAutoencoder
from cytoforge.networks.recogniser import Recognised
from cytoforge.networks.spectral import spectrally_normalised
from cytoforge.stages.train import plan
from cytoforge.training.loop import Loop, LoopConfig

SHAPE = DataShape(32, ("a", "b"))
SMALL = {"latent": 8, "generator_channels": 4, "discriminator_channels": 4, "most_channels": 8}


def make(kind=GAN, config=GANConfig, **settings):
    torch.manual_seed(0)
    return kind(config(**{**SMALL, **settings}), SHAPE)


def batch(count=8):
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch(images, torch.arange(count) % 2, torch.arange(count))


class Cells:
    """Noise, which is enough to compare two trainings."""

    shape = SHAPE
    labels = np.arange(16) % 2

    def batch(self, indices, seeds):
        images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
        return Batch(images[indices], torch.from_numpy(self.labels[indices]), torch.from_numpy(seeds))


def take(method, turn, optimizer):
    for name, network in method.networks.items():
        network.requires_grad_(name == turn.network)
    optimizer.zero_grad()
    sum(turn.losses(batch()).values()).backward()
    optimizer.step()


def test_every_family_can_be_asked_for():
    assert get_args(Family) == tuple(FAMILIES)


@pytest.mark.parametrize("preset", GAN.presets)
def test_presets_are_settings(preset):
    assert plan("gan", preset, {}).method is GAN


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_pulls_scores_apart_and_together(family):
    """The discriminator's turn widens mean(real) - mean(fake), the generator's turn narrows it."""
    method = make(loss=family, r1=0.0, r2=0.0, weight_clip=1.0)
    optimizers = {name: torch.optim.Adam(net.parameters(), 1e-3) for name, net in method.networks.items()}
    discriminator, generator = method.turns()

    def gap():
        with torch.no_grad():
            fake = method.generated(batch(), "generator")
            scores = method._score(torch.cat([batch().images, fake]), batch().labels.repeat(2))
        real, fake = scores.chunk(2)
        return float((real - fake).mean())

    before = gap()
    for _ in range(8):
        take(method, discriminator, optimizers["discriminator"])
    widened = gap()
    assert widened > before
    for _ in range(8):
        take(method, generator, optimizers["generator"])
    assert gap() < widened


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_penalty": 10.0, "r1": 0.0, "r2": 0.0},
        {"spectral_norm": True},
        {"penalty_every": 2, "augment": "color,translation,cutout"},
        {"loss": "non-saturating", "label_smoothing": 0.1, "label_flips": 0.05},
        {"loss": "least-squares", "label_smoothing": 0.1},
    ],
)
def test_options_give_finite_gradients(settings):
    method = make(**settings)
    for turn in method.turns():
        network = method.networks[turn.network]
        network.zero_grad()
        losses = turn.losses(batch())
        sum(losses.values()).backward()
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_penalties_carry_their_weights():
    single = make(r1=1.0, r2=1.0, gradient_penalty=1.0).discriminator_losses(batch())
    double = make(r1=2.0, r2=2.0, gradient_penalty=2.0).discriminator_losses(batch())
    assert set(single) == {"discriminator", "gradient_penalty", "r1", "r2"}
    for name in ("gradient_penalty", "r1", "r2"):
        torch.testing.assert_close(double[name], 2 * single[name])


def test_r1_is_half_the_squared_slope_at_real_cells_and_r2_at_generated_ones():
    method, cells = make(r1=3.0, r2=5.0, augment="", penalty_every=1), batch()
    fake = method.generated(cells, "discriminator").detach()
    found = method.discriminator_losses(cells)
    halves = []
    for name, weight, images in (("r1", 3.0, cells.images), ("r2", 5.0, fake)):
        shown = images.clone().requires_grad_()
        scores = method.networks["discriminator"](shown, cells.labels)
        (slope,) = torch.autograd.grad(scores.sum(), shown)
        halves.append(slope.square().flatten(1).sum(1).mean() / 2)
        torch.testing.assert_close(found[name].detach(), weight * halves[-1])
    assert not torch.isclose(*halves, rtol=1e-3)


def test_soft_labels_keep_the_discriminator_from_being_sure():
    """At very sure scores hard labels cost nothing, smoothed ones and flips do."""
    scores = torch.cat([torch.full((8,), 20.0), torch.full((8,), -20.0)])
    hard = make(loss="non-saturating")._told_apart(scores, batch())
    smooth = make(loss="non-saturating", label_smoothing=0.1)._told_apart(scores, batch())
    flipped = make(loss="non-saturating", label_flips=0.4)._told_apart(scores, batch())
    assert float(hard) < 1e-6
    assert float(smooth) > 0.1
    assert float(flipped) > float(smooth)
    assert float(smooth) == float(
        make(loss="non-saturating", label_smoothing=0.1)._told_apart(scores, batch())
    )


def test_an_images_real_and_generated_label_are_exchanged_together():
    real, fake = (soft_targets(batch(), truth, 0.0, 0.4) for truth in (True, False))
    assert 0 < float(real.mean()) < 1
    assert torch.equal(real + fake, torch.ones(len(real)))


def test_soft_labels_need_a_loss_with_labels():
    with pytest.raises(ConfigError, match="minimax, non-saturating, least-squares"):
        make(label_flips=0.1)
    with pytest.raises(ConfigError, match="32, 64, 128 or 256"):
        GAN(GANConfig(**SMALL), DataShape(48, ("a",)))


def test_weights_are_clipped_after_each_step():
    method = make(loss="wasserstein", weight_clip=0.01, r1=0.0, r2=0.0, learning_rate=0.1)
    optimizers = method.optimizers()
    take(method, method.turns()[0], optimizers["discriminator"])
    largest = [float(weight.detach().abs().max()) for weight in method.networks["discriminator"].parameters()]
    assert max(largest) == pytest.approx(0.01)
    take(method, method.turns()[1], optimizers["generator"])
    assert (
        max(float(weight.detach().abs().max()) for weight in method.networks["generator"].parameters()) > 0.05
    )


def test_spectral_norm_bounds_every_layer():
    torch.manual_seed(0)
    network = spectrally_normalised(ConvolutionalCritic(32, 2, 4, 8))
    with torch.no_grad():
        for _ in range(100):
            network(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    weights = [module.weight for module in network.modules() if hasattr(module, "parametrizations")]
    assert len(weights) == 3 + 2
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", [CGAN, DenseCGAN, InfoGAN])
def test_spectral_norm_bounds_every_discriminator_of_two_players(kind):
    """Weights are divided by what they stretch a direction by, so 100 times as large ones score alike."""
    torch.manual_seed(0)
    method = kind(kind.config_type(latent=8, spectral_norm=True), SHAPE)
    network = method.networks["discriminator"].eval()
    cells = batch()
    before = method._score(cells.images, cells.labels)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("parametrizations.weight.original"):
                weight.mul_(100)
    torch.testing.assert_close(method._score(cells.images, cells.labels), before, rtol=1e-3, atol=1e-4)
    network.train()
    losses = method.discriminator_losses(cells)
    assert all(loss.isfinite() for loss in losses.values())


def test_spectral_norm_is_part_of_the_resumable_state():
    state = make(spectral_norm=True).networks["discriminator"].state_dict()
    assert sum(name.endswith("_u") for name in state) == 5


@pytest.mark.parametrize(
    "settings", [{"spectral_norm": True}, {"loss": "wasserstein", "weight_clip": 0.01, "r1": 0.0, "r2": 0.0}]
)
def test_bounded_discriminators_resume_bit_for_bit(settings, resumed):
    """The power iteration goes on where it was; clipping happens after a step, not when a turn begins."""

    def loop(path):
        run = Run.open(path) if path.exists() else Run.create(path, {})
        config = LoopConfig(batch=8, save_every=16, measure_every=10**9, precision="32-true")
        return Loop(make(**settings), Cells(), config, run, 0, Fabric(accelerator="cpu", devices=1))

    resumed(loop, images=32)


def test_energy_is_the_error_of_an_image():
    torch.manual_seed(0)
    network = EnergyAutoencoder(32, 2, 4, 8, code=6)
    images, labels = batch().images, batch().labels
    energies, codes = network(images, labels)
    assert codes.shape == (8, 6)
    drawn = network.reconstruct(codes, labels)
    torch.testing.assert_close(energies[3], (drawn[3] - images[3]).square().mean())
    other, _ = network(images, 1 - labels)
    assert (other - energies).abs().max() > 1e-6


def test_weights_of_the_energy_keep_their_names():
    names = {name for name in EnergyAutoencoder(64, 2, 4, 8, code=6).state_dict() if "encoder" in name}
    assert names == {f"encoder.{layer}.{what}" for layer in (0, 2, 4, 6, 9) for what in ("weight", "bias")}


def test_repelling_spreads_the_codes_of_generated_cells():
    method = make(EBGAN, EBGANConfig, code=8, repelling=1.0)
    optimizer = torch.optim.Adam(method.networks["generator"].parameters(), 1e-3)
    turn = method.turns()[1]
    before = float(turn.losses(batch())["repelling"].detach())
    for _ in range(10):
        take(method, turn, optimizer)
    assert float(turn.losses(batch())["repelling"].detach()) < before
    assert "repelling" not in make(EBGAN, EBGANConfig, code=8, repelling=0.0).generator_losses(batch())


def info(**settings):
    return make(InfoGAN, InfoGANConfig, **{"categories": 3, "continuous": 2, **settings})


def test_codes_are_uniform_whatever_the_truncation():
    method = info()
    noise = method.noise(torch.arange(3000))
    categories, codes = method.codes(noise)
    assert torch.bincount(categories).tolist() == pytest.approx([1000] * 3, abs=120)
    assert codes.abs().max() <= 1
    assert float(codes.mean()) == pytest.approx(0, abs=0.04)
    assert float(codes.square().mean()) == pytest.approx(1 / 3, abs=0.03)
    shorter, nearer = method.codes(noise * 0.5)
    assert torch.equal(categories, shorter)
    assert (nearer.abs() <= codes.abs() + 1e-6).all()


def test_codes_can_be_set():
    method = info()
    categories, codes = method.codes(method.with_code(method.noise(torch.arange(5)), 2, c1=0.75))
    assert categories.tolist() == [2] * 5
    torch.testing.assert_close(codes[:, 1], torch.full((5,), 0.75))


def test_logged_terms_are_minus_weight_times_nats():
    """Q gives the true category 2 / (2 + 1 + 1) and the codes exactly, with deviation 1."""
    method = info(information=2.0, continuous_information=0.5)
    noise = method.noise(torch.arange(4))
    categories, codes = method.codes(noise)
    logits = torch.nn.functional.one_hot(categories, 3) * math.log(2)
    found = Recognised(torch.zeros(4), logits, codes, torch.zeros(4, 2))
    terms = method._information(found, noise, "recogniser")
    assert float(terms["recogniser category"]) == pytest.approx(-2 * math.log(3 / 2))
    assert float(terms["recogniser codes"]) == pytest.approx(-0.5 * (2 * math.log(2) - math.log(2 * math.pi)))


def test_recogniser_learns_to_read_the_codes():
    """The logged number is minus the weighted information; training the discriminator raises it."""
    method = info(r1=0.0)
    optimizer = torch.optim.Adam(method.networks["discriminator"].parameters(), 2e-3)
    turn = method.turns()[0]
    before = float(turn.losses(batch())["recogniser category"].detach())
    for _ in range(20):
        take(method, turn, optimizer)
    assert float(turn.losses(batch())["recogniser category"].detach()) < before


def test_without_labels_the_class_changes_nothing():
    noise, zeros = torch.randn(2, 13), torch.zeros(2, dtype=torch.long)
    blind, told = info(labelled=False), info()
    assert torch.equal(blind.sample(noise, zeros), blind.sample(noise, zeros + 1))
    assert not torch.allclose(told.sample(noise, zeros), told.sample(noise, zeros + 1), atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("kind", "config"), [(CGAN, CGANConfig), (InfoGAN, InfoGANConfig)])
def test_other_generators_take_every_family(kind, config, family):
    torch.manual_seed(0)
    sizes = {"latent": 8, "generator_channels": 4, "discriminator_channels": 8, "most_channels": 16}
    method = kind(config(**sizes, loss=family, r1=0.5, r2=0.5), DataShape(32, ("a", "b")))
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for turn in method.turns():
        losses = turn.losses(Batch(images, torch.arange(4) % 2, torch.arange(4)))
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values())
        assert any(
            value.grad is not None and value.grad.any()
            for value in method.networks[turn.network].parameters()
        )
