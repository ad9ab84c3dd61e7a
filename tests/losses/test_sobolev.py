import math
from itertools import pairwise

import pytest
import torch

from cytoforge.losses.sobolev import sobolev


def wave(cycles, side=64):
    """A horizontal cosine of so many cycles across the image."""
    positions = (torch.arange(side) + 0.5) / side
    return torch.cos(2 * math.pi * cycles * positions).expand(1, 3, side, side)


def test_order_zero_is_the_pixel_norm():
    images = torch.rand(2, 3, 32, 32)
    assert sobolev(images, 0.0) is images


def test_images_are_only_reweighted_where_all_octaves_weigh_the_same():
    """With order near 0 the pyramid is put together again without loss."""
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(sobolev(images, 1e-7), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", [0.5, 1.0])
def test_each_octave_is_amplified_by_the_same_factor(order):
    """Octaves of the pyramid overlap: a pure wave gains about 0.7 of what an octave does."""
    gains = [float(sobolev(wave(cycles), order).std() / wave(cycles).std()) for cycles in (2, 4, 8, 16)]
    steps = [math.log2(high / low) / order for low, high in pairwise(gains)]
    assert all(0.5 < step < 0.9 for step in steps), steps


def test_linear():
    first, second = torch.rand(2, 1, 3, 32, 32)
    whole = sobolev(2 * first - second, 1.0)
    torch.testing.assert_close(whole, 2 * sobolev(first, 1.0) - sobolev(second, 1.0))


def test_a_flat_image_stays_flat_to_the_edge():
    assert float(sobolev(torch.full((1, 3, 32, 32), 0.7), 1.0).std()) < 1e-6


def test_differentiable_and_float32_under_autocast():
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        result = sobolev(images, 1.0)
    assert result.dtype == torch.float32
    result.square().sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.any()
