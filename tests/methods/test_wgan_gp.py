import pytest
import torch
from pydantic import ValidationError

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.methods.catalogue import METHODS, method_type, rebuild
from cytoforge.methods.wgan_gp import WGANGP, WGANGPConfig

SHAPE = DataShape(32, ("a", "b"))
SMALL = {"latent": 8, "generator_channels": 4, "critic_channels": 8, "most_channels": 16}


def make(**settings):
    torch.manual_seed(0)
    return WGANGP(WGANGPConfig(**{**SMALL, **settings}), SHAPE)


def batch(count=8):
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch(images, torch.arange(count) % 2, torch.arange(count))


def test_defaults_are_the_papers():
    config = WGANGPConfig()
    assert (config.penalty, config.critic_steps, config.learning_rate, config.betas) == (
        10,
        5,
        1e-4,
        (0.0, 0.9),
    )
    assert config.penalty_every == 1
    assert not any(
        isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        for module in make().networks["critic"].modules()
    )


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize(
    "settings",
    [{}, {"augment": "color,translation,cutout"}, {"augment": "cutout", "sobolev": 1.0, "pixel_noise": True}],
)
def test_finite_gradients_for_the_right_network_only(turn, settings):
    method = make(**settings)
    move = method.turns()[turn]
    for name, network in method.networks.items():
        network.requires_grad_(name == move.network)
    sum(move.losses(batch()).values()).backward()
    for name, network in method.networks.items():
        for key, parameter in network.named_parameters():
            if name == move.network:
                assert parameter.grad is not None, key
                assert parameter.grad.isfinite().all(), key
                # a constant added to all scores cancels out of the distance
                assert parameter.grad.any() or key == "score.bias", key
            else:
                assert parameter.grad is None, key


@pytest.mark.parametrize("sobolev", [0.0, 1.0])
def test_critic_turn_widens_the_gap_and_generator_turn_narrows_it(sobolev):
    method = make(learning_rate=1e-3, sobolev=sobolev)
    optimizers = method.optimizers()
    critic, generator = method.turns()

    def gap():
        with torch.no_grad():
            return -float(method.critic_losses(Batch(*vars(batch()).values()))["wasserstein"])

    def take(turn):
        for name, network in method.networks.items():
            network.requires_grad_(name == turn.network)
        optimizers[turn.network].zero_grad()
        sum(turn.losses(batch()).values()).backward()
        optimizers[turn.network].step()

    method.config = method.config.model_copy(update={"penalty": 0.0})
    before = gap()
    for _ in range(5):
        take(critic)
    trained = gap()
    assert trained > before
    scores = float(generator.losses(batch())["generator"].detach())
    for _ in range(5):
        take(generator)
    assert float(generator.losses(batch())["generator"].detach()) < scores


def test_penalty_is_logged_with_its_weight():
    torch.manual_seed(0)
    weighed = make(penalty=10).critic_losses(batch())["penalty"]
    single = make(penalty=1).critic_losses(batch())["penalty"]
    torch.testing.assert_close(weighed, 10 * single)


def test_penalty_on_every_second_image_uses_those():
    """With a share of the images the penalty is the penalty of that share."""
    full, half = batch(8), batch(8)
    alone = Batch(full.images[::2], full.labels[::2], full.seeds[::2])
    torch.testing.assert_close(
        make(penalty_every=2).critic_losses(half)["penalty"], make().critic_losses(alone)["penalty"]
    )


def test_sampling_follows_seed_and_class():
    method = make()
    noise = method.noise(torch.arange(3))
    first = method.sample(noise, torch.zeros(3, dtype=torch.long))
    assert torch.equal(first, method.sample(noise, torch.zeros(3, dtype=torch.long)))
    assert not torch.allclose(first, method.sample(noise, torch.ones(3, dtype=torch.long)), atol=1e-3)
    assert not torch.allclose(first[0], first[1], atol=1e-3)


def test_catalogue_rebuilds_and_suggests():
    config = {
        "method": "wgan-gp",
        "settings": SMALL,
        "preparation": {"resolution": 32},
        "classes": ["a", "b"],
        "mask_channels": 0,
    }
    assert rebuild(config).config == make().config
    assert all(name == kind.name for name, kind in METHODS.items())
    with pytest.raises(ConfigError, match='Did you mean "wgan-gp"'):
        method_type("wgan-pg")
    with pytest.raises(ConfigError, match="Did you mean"):
        rebuild({**config, "settings": {"latnt": 3}})
    with pytest.raises(ConfigError, match="32, 64, 128 or 256"):
        rebuild({**config, "preparation": {"resolution": 48}})


def test_settings_refuse_nonsense():
    with pytest.raises(ValidationError, match='Did you mean "color"'):
        make(augment="colour")
    with pytest.raises(ValidationError, match="greater than"):
        make(learning_rate=0)
