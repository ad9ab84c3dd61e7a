import pytest
import torch

from cytoforge.diffusion.paths import VariancePreserving, denoising_error


def test_the_linear_schedule_keeps_the_published_share_of_the_image():
    """ORACLES.md: what is left of the variance after steps 0, 499 and 999 of Ho, Jain and Abbeel's 1,000."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    path = VariancePreserving(torch.cumprod(1 - betas, dim=0))
    assert (path.sigmas.diff() > 0).all()
    for step, expected in ((0, 0.99990), (499, 0.0785872), (999, 4.03583e-05)):
        sigma = path.sigmas[step]
        assert float(1 / (1 + sigma.square())) == pytest.approx(expected, rel=1e-5)
        assert float(path.steps(sigma[None])) == pytest.approx(step, abs=0.01)


@pytest.mark.parametrize("answer", ["noise", "velocity"])
def test_loss_is_the_squared_error_of_what_the_network_answers(answer):
    """The answer is off by 1/2; where 0.36 is left, x = 0.6 x_0 + 0.8 e and v = 0.6 e - 0.8 x_0."""
    path = VariancePreserving(torch.tensor([0.99, 0.36, 0.01], dtype=torch.float64), answer)
    generator = torch.Generator().manual_seed(0)
    images, noise = torch.randn(2, 3, 3, 4, 4, generator=generator)
    alpha, sigma = (
        share.sqrt().float()[:, None, None, None] for share in (path.alpha_bar, 1 - path.alpha_bar)
    )
    truth = {"noise": noise, "velocity": alpha * noise - sigma * images}[answer]

    def network(scaled, steps):
        torch.testing.assert_close(scaled, alpha * images + sigma * noise)
        torch.testing.assert_close(steps, torch.arange(3.0), atol=1e-4, rtol=0)
        return truth + 0.5

    error = denoising_error(path, network, images, noise, path.sigmas)
    torch.testing.assert_close(error, torch.full((3,), 0.25))


def test_a_last_step_without_any_image_counts_as_2_to_the_minus_24():
    path = VariancePreserving(torch.tensor([0.99, 0.5, 0.0], dtype=torch.float64), "velocity")
    schedule = path.schedule(4)
    assert float(schedule[0]) == pytest.approx((2**24 - 1) ** 0.5)
    assert (schedule.diff() < 0).all()
    assert path.steps(schedule[:1]).tolist() == [2]
