import pytest
import torch

from cytoforge.core.batch import Batch, DataShape
from cytoforge.methods.auto import Auto, AutoConfig
from cytoforge.methods.wgan_gp import WGANGP
from cytoforge.stages.starting_weights import LARGEST

SHAPE = DataShape(32, ("a", "b"))
SMALL = {"latent": 8, "generator_channels": 4, "critic_channels": 4, "most_channels": 8, "features_side": 32}


def make(kind, **settings):
    torch.manual_seed(0)
    return kind(AutoConfig(**{**SMALL, **settings}), SHAPE)


def test_without_weight_on_features_it_is_wgan_gp():
    method, plain = make(Auto, features=0.0), make(WGANGP)
    assert set(method.networks) == set(method.optimizers()) == {"critic", "generator"}
    assert [turn.network for turn in method.turns()] == [turn.network for turn in plain.turns()]
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    batch = Batch(images, torch.arange(4) % 2, torch.arange(4))
    ours, theirs = (
        [float(loss.detach()) for turn in each.turns() for loss in turn.losses(batch).values()]
        for each in (method, plain)
    )
    assert ours == theirs


def test_the_pretrained_network_is_neither_trained_nor_saved():
    method = make(Auto)
    batch = Batch(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]), torch.arange(2))
    sum(method.generator_losses(batch).values()).backward()
    assert all(parameter.grad is None for parameter in method._pretrained.parameters())
    assert not any("pyramid" in key for network in method.networks.values() for key in network.state_dict())
    assert [turn.network for turn in method.turns()] == ["critic", "discriminator", "generator"]


def test_weights_to_start_from_may_ship():
    method = Auto(AutoConfig(), DataShape(64, tuple("abcdefg")))
    count = sum(
        tensor.numel() for network in method.networks.values() for tensor in network.state_dict().values()
    )
    assert 2 * count < LARGEST


def test_half_of_a_batch_is_rebuilt_and_the_rest_drawn_from_noise():
    method = make(Auto, sampling_noise=1.0)
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    labels, seeds = torch.tensor([0, 1, 0, 1, 0]), torch.arange(5)
    drawn, (mean, log_variance) = method._drawn(Batch(images, labels, seeds), "generator")
    others, _ = method._drawn(Batch(images.flip(0), labels, seeds), "generator")
    assert mean.shape == log_variance.shape == (3, 8)
    assert (drawn[[0, 4]] - others[[0, 4]]).abs().amax(dim=(1, 2, 3)).min() > 1e-4
    from_noise = method.sample(method._noise(Batch(images, labels, seeds), "generator"), labels)
    torch.testing.assert_close(drawn[1::2], from_noise[1::2])
    torch.testing.assert_close(others[1::2], from_noise[1::2])


def test_cells_are_drawn_from_longer_noise_than_training_shows():
    method, plain = make(Auto, sampling_noise=1.5), make(Auto, sampling_noise=1.0)
    noise, labels = method.noise(torch.arange(4)), torch.arange(4) % 2
    assert not torch.equal(method.sample(noise, labels), plain.sample(noise, labels))
    assert torch.equal(method.sample(noise, labels), plain.sample(1.5 * noise, labels))


@pytest.mark.parametrize("reconstruction", [0.0, 3.0])
def test_training_never_sees_the_longer_noise(reconstruction):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    batch = Batch(images, torch.arange(4) % 2, torch.arange(4))
    one, other = (
        [float(loss.detach()) for turn in method.turns() for loss in turn.losses(batch).values()]
        for method in (
            make(Auto, reconstruction=reconstruction, sampling_noise=factor) for factor in (1.0, 3.0)
        )
    )
    assert one == other


def test_training_brings_what_is_rebuilt_closer_to_its_cell():
    method = make(Auto)
    tint = torch.tensor([[-0.8, 0.8, 0.0], [-0.8, 0.8, 0.0], [0.8, -0.8, 0.0], [0.8, -0.8, 0.0]])
    batch = Batch(
        tint[:, :, None, None].expand(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64), torch.arange(4)
    )
    optimizer = torch.optim.Adam(method.networks["generator"].parameters(), 1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        found = method.generator_losses(batch)
        (found["reconstruction"] + found["prior"]).backward()
        optimizer.step()
        losses.append(float(found["reconstruction"].detach()))
    assert losses[-1] < 0.6 * losses[0]
    drawn, _ = method._drawn(batch, "generator")
    red = drawn[::2].detach().mean(dim=(2, 3))[:, 0]
    assert red[1] - red[0] > 0.3
