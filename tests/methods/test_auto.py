import torch

from cytoforge.core.batch import Batch, DataShape
from cytoforge.methods.auto import Auto, AutoConfig
from cytoforge.methods.wgan_gp import WGANGP

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
    assert all(parameter.grad is None for parameter in method._features.parameters())
    assert not any("pyramid" in key for network in method.networks.values() for key in network.state_dict())
    assert [turn.network for turn in method.turns()] == ["critic", "discriminator", "generator"]
