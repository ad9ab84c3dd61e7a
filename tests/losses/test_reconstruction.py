import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cytoforge.losses.reconstruction import (
    cycle_error,
    kl_to_standard_normal,
    perceptual_distance,
    pixel_error,
)


def test_pixel_error_sums_over_an_image_and_averages_over_images():
    targets = torch.zeros(2, 3, 4, 4)
    images = torch.full((2, 3, 4, 4), 1.0)  # half of the range of light away
    torch.testing.assert_close(pixel_error(images, targets), torch.tensor(0.25 * 48))
    assert pixel_error(images, images) == 0


def test_divergence_equals_torchs():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator)
    posterior = Normal(mean, (log_variance / 2).exp())
    expected = kl_divergence(posterior, Normal(torch.zeros(6, 5), torch.ones(6, 5))).sum(1).mean()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_divergence_grows_on_both_sides_of_the_standard_deviation():
    zero = torch.zeros(1, 1)
    at = [float(kl_to_standard_normal(zero, torch.full((1, 1), value))) for value in (-1.0, 0.0, 1.0)]
    assert at[1] == 0
    assert min(at[0], at[2]) > 0


def test_perceptual_distance_does_not_see_lengths_and_leaves_the_targets_alone():
    generator = torch.Generator().manual_seed(0)
    seen = torch.randn(2, 4, 3, 3, generator=generator, requires_grad=True)
    wanted = torch.randn(2, 4, 3, 3, generator=generator, requires_grad=True)
    distance = perceptual_distance([seen, seen], [wanted, 5 * wanted])
    cosine = torch.nn.functional.cosine_similarity(seen, wanted, dim=1).mean()
    torch.testing.assert_close(distance, 2 * (2 - 2 * cosine), rtol=1e-4, atol=1e-5)
    distance.backward()
    assert seen.grad is not None
    assert wanted.grad is None


def test_perceptual_distance_of_empty_features_has_a_finite_gradient():
    seen = torch.zeros(1, 4, 2, 2, requires_grad=True)
    perceptual_distance([seen], [torch.ones(1, 4, 2, 2)]).backward()
    assert seen.grad.isfinite().all()


def test_numbers_of_scales_must_agree():
    with pytest.raises(ValueError, match="shorter"):
        perceptual_distance([torch.ones(1, 1, 1, 1)], [])


def test_cycle_error_is_the_mean_absolute_difference():
    assert cycle_error(torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 1.0])) == 1
