import pytest
import torch

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.losses.adversarial import minimax_discriminator
from cytoforge.methods.cgan import CGAN, CGANConfig, DenseCGAN, DenseCGANConfig

SMALL = {"latent": 8, "generator_channels": 4, "discriminator_channels": 8, "most_channels": 16}


def dense(**settings):
    torch.manual_seed(0)
    return DenseCGAN(DenseCGANConfig(**settings), DataShape(16, ("a", "b")))


def convolutional(**settings):
    torch.manual_seed(0)
    return CGAN(CGANConfig(**{**SMALL, **settings}), DataShape(32, ("a", "b")))


def batch(side):
    images = torch.rand(8, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch(images, torch.arange(8) % 2, torch.arange(8))


CASES = [(dense, 16), (convolutional, 32)]


def test_dense_defaults_are_the_sources():
    config = DenseCGANConfig()
    assert (config.latent, config.r1, config.augment) == (100, 0, "")
    widths = [
        layer.out_features
        for layer in dense().networks["discriminator"].body
        if isinstance(layer, torch.nn.Linear)
    ]
    assert widths == [512, 512, 512]


@pytest.mark.parametrize(("make", "side"), CASES)
@pytest.mark.parametrize("turn", [0, 1])
def test_finite_gradients_for_the_right_network_only(make, side, turn):
    method = make()
    move = method.turns()[turn]
    for name, network in method.networks.items():
        network.requires_grad_(name == move.network)
    sum(move.losses(batch(side)).values()).backward()
    for name, network in method.networks.items():
        for key, parameter in network.named_parameters():
            if name == move.network:
                assert parameter.grad is not None, key
                assert parameter.grad.isfinite().all(), key
                assert parameter.grad.any(), key
            else:
                assert parameter.grad is None, key


@pytest.mark.parametrize(("make", "side"), CASES)
def test_discriminator_turn_widens_the_gap_and_generator_turn_narrows_it(make, side):
    method = make(learning_rate=1e-3)
    optimizers = method.optimizers()
    discriminator, generator = method.turns()

    def gap():
        fake = method.sample(method.noise(torch.arange(8)), batch(side).labels)
        scores = method.networks["discriminator"].eval()
        with torch.no_grad():
            labels = batch(side).labels
            wide = float(scores(batch(side).images, labels).mean() - scores(fake, labels).mean())
        scores.train()
        return wide

    def take(turn):
        for name, network in method.networks.items():
            network.requires_grad_(name == turn.network)
        optimizers[turn.network].zero_grad()
        sum(turn.losses(batch(side)).values()).backward()
        optimizers[turn.network].step()

    before = gap()
    for _ in range(5):
        take(discriminator)
    trained = gap()
    assert trained > before
    for _ in range(15):
        take(generator)
    assert gap() < trained


def test_the_dense_discriminators_loss_is_binary_cross_entropy_of_its_scores():
    method, cells = dense(dropout=0.0), batch(16)
    fake = method.generated(cells, "discriminator")
    real_scores = method._score(cells.images, cells.labels)
    fake_scores = method._score(fake, cells.labels)
    torch.testing.assert_close(
        method.discriminator_losses(cells)["discriminator"], minimax_discriminator(real_scores, fake_scores)
    )


def test_r1_is_logged_with_half_its_weight():
    single = convolutional(r1=1, augment="").discriminator_losses(batch(32))["r1"]
    torch.testing.assert_close(
        convolutional(r1=10, augment="").discriminator_losses(batch(32))["r1"], 10 * single
    )
    assert "r1" not in convolutional(r1=0).discriminator_losses(batch(32))


@pytest.mark.parametrize(("make", "side"), CASES)
def test_sampling_follows_seed_and_class(make, side):
    method = make()
    noise = method.noise(torch.arange(3))
    first = method.sample(noise, torch.zeros(3, dtype=torch.long))
    assert first.shape == (3, 3, side, side)
    assert torch.equal(first, method.sample(noise, torch.zeros(3, dtype=torch.long)))
    assert not torch.equal(first, method.sample(noise, torch.ones(3, dtype=torch.long)))
    assert not torch.equal(first[0], first[1])


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="multiple of 8"):
        DenseCGAN(DenseCGANConfig(), DataShape(50, ("a",)))
    with pytest.raises(ConfigError, match="32, 64, 128 or 256"):
        CGAN(CGANConfig(), DataShape(48, ("a",)))
