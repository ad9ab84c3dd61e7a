import math

import pytest
import torch

from cytoforge.losses.adversarial import (
    FAMILIES,
    hinge_discriminator,
    minimax_discriminator,
    non_saturating_generator,
    relativistic_discriminator,
    relativistic_generator,
    wasserstein_critic,
    wasserstein_generator,
)

ONES = torch.ones(4)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (non_saturating_generator, 0.3133),
        (minimax_discriminator, 1.6265),
        (hinge_discriminator, 2.0),
        (wasserstein_generator, -1.0),
        (wasserstein_critic, 0.0),
        (relativistic_discriminator, math.log(2)),
        (relativistic_generator, math.log(2)),
    ],
)
def test_all_scores_one(loss, expected):
    assert float(loss(ONES, ONES)) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_discriminator_wants_real_up_and_fake_down(family):
    discriminator, _ = FAMILIES[family]
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    discriminator(real, fake).backward()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_generator_wants_fake_up(family):
    _, generator = FAMILIES[family]
    fake = torch.zeros(3, requires_grad=True)
    generator(torch.zeros(3), fake).backward()
    assert (fake.grad < 0).all()


def test_by_hand():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 1.0])
    assert float(hinge_discriminator(real, fake)) == pytest.approx((0 + 1) / 2 + (0 + 2) / 2)
    expected = (math.log1p(math.exp(-4)) + math.log1p(math.exp(1))) / 2
    assert float(relativistic_discriminator(real, fake)) == pytest.approx(expected, rel=1e-6)
