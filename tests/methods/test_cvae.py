import pytest
import torch

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.methods.cvae import CVAE, CVAEConfig, SourceCVAE, SourceCVAEConfig

SHAPE = DataShape(32, ("a", "b"))


def good(**settings):
    torch.manual_seed(0)
    return CVAE(CVAEConfig(**{"latent": 8, "channels": 8, "most_channels": 16, **settings}), SHAPE)


def source(**settings):
    torch.manual_seed(0)
    return SourceCVAE(SourceCVAEConfig(**{"latent": 8, "channels": 16, **settings}), SHAPE)


def batch(count=4):
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch(images, torch.arange(count) % 2, torch.arange(count))


def test_source_defaults():
    config = SourceCVAEConfig()
    assert (config.latent, config.dropout, config.kl, config.channels) == (64, 0.3, 1, 64)


@pytest.mark.parametrize("make", [good, source])
def test_finite_gradients_everywhere_and_three_losses(make):
    method = make()
    losses = method.losses(batch())
    assert set(losses) == {"pixel", "kl", "perceptual"}
    assert all(loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    for key, parameter in method.networks["autoencoder"].named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", ["perceptual", "kl"])
def test_weights_multiply(name):
    single = good(**{name: 1.0}).losses(batch())[name]
    torch.testing.assert_close(good(**{name: 10.0}).losses(batch())[name], 10 * single)


def test_no_perceptual_weight_no_pretrained_network():
    method = good(perceptual=0)
    assert set(method.losses(batch())) == {"pixel", "kl"}
    assert "_pyramid" not in vars(method)


def test_turns_reduce_the_losses_and_reconstructions_become_alike():
    method = good(perceptual=0, kl=0.0, learning_rate=3e-3)
    optimizer = method.optimizers()["autoencoder"]
    colours = torch.tensor([[0.8, 0.1, -0.5], [-0.6, 0.5, 0.2]])
    images, labels = colours[:, :, None, None].expand(2, 3, 32, 32), torch.tensor([0, 0])
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        total = sum(method.losses(Batch(images, labels, torch.tensor([step, -step]) + 60)).values())
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.1 * losses[0]
    made = method.sample(method.encode(images, labels), labels)
    assert (made - images).square().mean() < 0.1 * images.square().mean()


def test_the_sources_encoder_stays_alive():
    """With ReLU behind its dense layer the code is the same for all images after a dozen steps."""
    torch.manual_seed(0)
    method = SourceCVAE(SourceCVAEConfig(perceptual=0), DataShape(64, ("a", "b")))
    optimizer, coarse = method.optimizers()["autoencoder"], torch.rand(4, 3, 4, 4) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    labels = torch.tensor([0, 0, 1, 1])
    for _ in range(15):
        optimizer.zero_grad()
        sum(method.losses(Batch(images, labels, torch.arange(4))).values()).backward()
        optimizer.step()
    assert method.encode(images, labels * 0).std(dim=0).max() > 0.3


def test_divergence_pulls_codes_to_the_standard_normal():
    method = good(perceptual=0, kl=100.0, learning_rate=3e-3)
    optimizer = method.optimizers()["autoencoder"]
    before = float(method.losses(batch())["kl"].detach())
    for _ in range(30):
        optimizer.zero_grad()
        sum(method.losses(batch()).values()).backward()
        optimizer.step()
    assert float(method.losses(batch())["kl"].detach()) < before / 2


@pytest.mark.parametrize("make", [good, source])
def test_sampling_follows_seed_and_class(make):
    method = make()
    method.networks["autoencoder"].eval()
    noise = method.noise(torch.arange(3))
    first = method.sample(noise, torch.zeros(3, dtype=torch.long))
    assert first.shape == (3, 3, 32, 32)
    assert not torch.equal(first, method.sample(noise, torch.ones(3, dtype=torch.long)))
    assert not torch.equal(first[0], first[1])


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="multiple of 16"):
        SourceCVAE(SourceCVAEConfig(), DataShape(40, ("a",)))
    with pytest.raises(ConfigError, match="32, 64, 128 or 256"):
        CVAE(CVAEConfig(), DataShape(48, ("a",)))
