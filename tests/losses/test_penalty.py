import pytest
import torch

from cytoforge.losses.penalty import (
    clip_weights,
    gradient_norms,
    gradient_penalty,
    interpolate,
    zero_centred_penalty,
)


def linear(weights):
    return lambda images: (images * weights).flatten(1).sum(dim=1)


def test_linear_critic_for_any_interpolation():
    weights = torch.randn(3, 4, 4)
    real, fake = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    for fraction in (torch.zeros(5), torch.ones(5), torch.rand(5)):
        penalty = gradient_penalty(linear(weights), real, fake, fraction)
        assert float(penalty) == pytest.approx(float((weights.norm() - 1) ** 2), rel=1e-5)
    assert float(zero_centred_penalty(linear(weights), real)) == pytest.approx(
        float(weights.norm() ** 2), rel=1e-5
    )


def test_norm_runs_over_all_dimensions_of_one_image():
    images = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
    norms = gradient_norms(lambda x: x.square().flatten(1).sum(1), images)
    torch.testing.assert_close(norms, torch.tensor([2 * 5**0.5, 2 * 5.0]))


def test_interpolation_ends():
    real, fake = torch.ones(2, 3, 1, 1), torch.zeros(2, 3, 1, 1)
    mixed = interpolate(real, fake, torch.tensor([0.25, 1.0]))
    assert mixed[:, 0, 0, 0].tolist() == [0.25, 1.0]


def test_gradient_reaches_the_critic():
    """d/dw of (|w| - 1)^2 at w = 3 is 4."""
    weight = torch.tensor(3.0, requires_grad=True)
    gradient_penalty(
        lambda x: (x * weight).sum(1), torch.rand(4, 1), torch.rand(4, 1), torch.rand(4)
    ).backward()
    assert float(weight.grad) == pytest.approx(4.0)


def test_clipping_leaves_small_weights():
    critic = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(critic.bias, -5.0)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[0.005, 0.5]]))
    clip_weights(critic, 0.01)
    torch.testing.assert_close(critic.weight.detach(), torch.tensor([[0.005, 0.01]]))
    assert float(critic.bias.detach()) == pytest.approx(-0.01)
