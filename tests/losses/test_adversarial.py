import math

import pytest
import torch

from cytoforge.losses.adversarial import (
    DIVERGENCES,
    FAMILIES,
    FREE,
    TARGETED,
    cross_entropy_to,
    hinge_discriminator,
    least_squares_discriminator,
    least_squares_generator,
    minimax_discriminator,
    non_saturating_generator,
    relativistic_discriminator,
    relativistic_generator,
    soft_labels,
    squares_to,
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
        (FAMILIES["hinge"][1], -1.0),
        (wasserstein_generator, -1.0),
        (wasserstein_critic, 0.0),
        (relativistic_discriminator, math.log(2)),
        (relativistic_generator, math.log(2)),
        (FAMILIES["relativistic-hinge"][0], 1.0),
        (FAMILIES["relativistic-least-squares"][1], 1.0),
        (least_squares_discriminator, 0.5),
        (least_squares_generator, 0.0),
        # -g(1) + f*(g(1)), from table 6 of the f-GAN paper
        (FAMILIES["f-kl"][0], 0.0),
        (FAMILIES["f-reverse-kl"][0], math.exp(-1)),
        (FAMILIES["f-pearson"][0], 0.25),
        (FAMILIES["f-squared-hellinger"][0], math.exp(-1) + math.e - 2),
        (FAMILIES["f-jensen-shannon"][0], 1.626523 - 2 * math.log(2)),
    ],
)
def test_all_scores_one(loss, expected):
    assert float(loss(ONES, ONES)) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_discriminator_wants_real_up_and_fake_down(family):
    discriminator, _ = FAMILIES[family]
    real, fake = torch.full((3,), 0.5, requires_grad=True), torch.full((3,), 0.5, requires_grad=True)
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


CONJUGATES = {
    "kl": lambda t: torch.exp(t - 1),
    "reverse-kl": lambda t: -1 - torch.log(-t),
    "pearson": lambda t: t.square() / 4 + t,
    "squared-hellinger": lambda t: t / (1 - t),
    "jensen-shannon": lambda t: -torch.log(2 - torch.exp(t)),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_conjugates_are_those_of_the_table(name):
    """f*(g(v)) as it is written in the paper, over scores where its logarithms can be taken."""
    scores = torch.linspace(-3, 3, 25, dtype=torch.float64)
    found = DIVERGENCES[name]
    torch.testing.assert_close(found.conjugate(scores), CONJUGATES[name](found.activation(scores)))


# f(u) of the density ratio u = p / q; the divergence is E_q[f(u)].
GENERATORS = {
    "kl": lambda u: u * u.log(),
    "reverse-kl": lambda u: -u.log(),
    "pearson": lambda u: (u - 1).square(),
    "squared-hellinger": lambda u: (u.sqrt() - 1).square(),
    "jensen-shannon": lambda u: -(u + 1) * ((1 + u) / 2).log() + u * u.log(),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_best_discriminator_finds_the_divergence(name):
    """On two coins, (0.8, 0.2) and (0.5, 0.5), the trained bound is the divergence computed by hand."""
    p, q = torch.tensor([0.8, 0.2], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    found = DIVERGENCES[name]
    scores = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe")

    def bound():
        optimizer.zero_grad()
        loss = (q * found.conjugate(scores)).sum() - (p * found.activation(scores)).sum()
        loss.backward()
        return loss

    optimizer.step(bound)
    expected = (q * GENERATORS[name](p / q)).sum()
    assert -float(bound().detach()) == pytest.approx(float(expected), rel=1e-4)


def test_relativistic_families_count_differences_only():
    real, fake = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    for name in ("relativistic", "relativistic-hinge", "relativistic-least-squares"):
        for loss in FAMILIES[name]:
            torch.testing.assert_close(loss(real, fake), loss(real + 7, fake + 7))


def test_targets_without_smoothing_give_the_family_back():
    scores, ones, zeros = torch.randn(5), torch.ones(5), torch.zeros(5)
    other = torch.randn(5)
    torch.testing.assert_close(
        cross_entropy_to(scores, ones) + cross_entropy_to(other, zeros), minimax_discriminator(scores, other)
    )
    torch.testing.assert_close(
        squares_to(scores, ones) + squares_to(other, zeros), least_squares_discriminator(scores, other)
    )
    assert set(TARGETED) <= set(FAMILIES)


def test_soft_labels_stay_in_the_sources_ranges():
    spread, flips = torch.linspace(0, 0.99, 100), torch.full((100,), 0.5)
    real, fake = (soft_labels(truth, spread, flips, 0.1, 0.05) for truth in (True, False))
    assert 0.9 <= float(real.min()) <= float(real.max()) <= 1
    assert 0 <= float(fake.min()) <= float(fake.max()) <= 0.1
    flipped = soft_labels(True, spread, torch.linspace(0, 0.99, 100), 0.1, 0.045)
    assert int((flipped < 0.5).sum()) == 5


def test_free_scores_add_nothing():
    """A family's loss is then that of the other side alone, and neither side costs anything with both."""
    assert FREE.keys() == {name for name in FAMILIES if not name.startswith("relativistic")}
    for name, free in FREE.items():
        real, fake = (torch.tensor(score) for score in free)
        told = FAMILIES[name][0]
        assert float(told(real, fake)) == 0, name
        first, second = torch.tensor([0.3, -2.0]), torch.tensor([1.5, 0.1])
        torch.testing.assert_close(told(first, fake) + told(real, second), told(first, second))
