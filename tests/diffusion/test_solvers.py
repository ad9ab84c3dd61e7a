import math

import pytest
import torch

from cytoforge.core.randomness import normal
from cytoforge.diffusion.paths import Karras, RectifiedFlow, denoising_error
from cytoforge.diffusion.solvers import SOLVERS, guided

PATHS = [RectifiedFlow(), Karras()]


def gaussian(path, mean, deviation):
    """The exact denoiser of images whose pixels are normal: E[x_0 | x]."""

    def denoise(noisy, level):
        share = 1 - level if isinstance(path, RectifiedFlow) else 1.0
        gain = share * deviation**2 / (share**2 * deviation**2 + level**2)
        return mean + gain * (noisy - share * mean)

    return denoise


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_exact_denoiser_of_one_image_returns_it(path, solver):
    """A model that knows one image only draws that image from any noise."""
    image = torch.rand(1, 3, 4, 4)
    levels = path.schedule(4)
    drawn = SOLVERS[solver](
        lambda noisy, level: image.expand_as(noisy), torch.randn(5, 3, 4, 4) * levels[0], levels
    )
    torch.testing.assert_close(drawn, image.expand_as(drawn))


@pytest.mark.parametrize("path", PATHS)
def test_solvers_reach_the_data_distribution_and_second_order_sooner(path):
    """From the exact denoiser of N(0.3, 0.2^2): every path ends at mean + deviation * noise."""
    noise = normal(range(64), (3, 4, 4), "test")
    wanted, error = 0.3 + 0.2 * noise, {}
    for name, solver in SOLVERS.items():
        for steps in (16, 64):
            levels = path.schedule(steps)
            drawn = solver(gaussian(path, 0.3, 0.2), noise * levels[0], levels)
            error[name, steps] = float((drawn - wanted).square().mean().sqrt())
    assert error["euler", 64] < 0.011
    assert 3 < error["euler", 16] / error["euler", 64] < 6
    for name in ("heun", "multistep"):
        assert error[name, 64] < 0.0025, name
        assert error[name, 16] / error[name, 64] > 8, name


@pytest.mark.parametrize("path", PATHS)
def test_schedule_falls_to_zero(path):
    levels = path.schedule(10)
    assert levels.shape == (11,)
    assert levels[-1] == 0
    assert (levels[1:] < levels[:-1]).all()


def test_karras_schedule_is_the_papers():
    """Equation 5 worked out for the middle of three steps."""
    middle = ((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    torch.testing.assert_close(Karras().schedule(3), torch.tensor([80.0, middle, 0.002, 0.0]))
    assert math.isclose(middle, 2.5152, rel_tol=1e-3)


def test_flow_error_is_the_squared_error_of_the_slope():
    images, noise = torch.rand(6, 3, 2, 2), torch.randn(6, 3, 2, 2)
    levels, answer = torch.linspace(0.1, 0.9, 6), torch.randn(6, 3, 2, 2)
    error = denoising_error(RectifiedFlow(), lambda noisy, level: answer, images, noise, levels)
    noisy = RectifiedFlow().disturb(images, noise, levels)
    slope = (noisy - answer) / levels[:, None, None, None]
    torch.testing.assert_close(error, (slope - (noise - images)).square().mean((1, 2, 3)))


def test_karras_error_is_the_papers():
    """Equation 8: weight c_out^2 cancels, the network's own target is (x - c_skip noisy) / c_out."""
    path, images, noise = Karras(), torch.rand(6, 3, 2, 2), torch.randn(6, 3, 2, 2)
    sigma = torch.linspace(0.1, 5, 6)[:, None, None, None]
    skip, out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / (sigma**2 + 0.25).sqrt()
    target = (images - skip * (images + sigma * noise)) / out
    error = denoising_error(
        path, lambda noisy, level: torch.zeros_like(noisy), images, noise, sigma.flatten()
    )
    torch.testing.assert_close(error, target.square().mean((1, 2, 3)))
    seen = []
    path.denoise(lambda noisy, level: seen.append((noisy, level)) or noisy, images * 2, sigma.flatten())
    torch.testing.assert_close(seen[0][0], images * 2 / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(seen[0][1], sigma.flatten().log() / 4)


def test_karras_input_and_target_have_unit_variance():
    noise, images = torch.randn(20_000, 3, 1, 1), 0.5 * torch.randn(20_000, 3, 1, 1)
    for sigma in (0.05, 1.0, 20.0):
        seen = []

        def silent(noisy, _, seen=seen):
            seen.append(noisy)
            return torch.zeros_like(noisy)

        error = denoising_error(Karras(), silent, images, noise, torch.full((20_000,), sigma))
        assert float(seen[0].var()) == pytest.approx(1, abs=0.03)
        assert float(error.mean()) == pytest.approx(1, abs=0.03)


def test_guidance_by_hand():
    free, conditional = torch.tensor([1.0]), torch.tensor([2.0])
    for scale, wanted in ((0.0, 1.0), (1.0, 2.0), (2.5, 3.5)):
        assert float(guided(free, conditional, scale)) == wanted
