import pytest
import torch

from cytoforge.diffusion.paths import VariancePreserving


def test_the_linear_schedule_keeps_the_published_share_of_the_image():
    """ORACLES.md: what is left of the variance after steps 0, 499 and 999 of Ho, Jain and Abbeel's 1,000."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    path = VariancePreserving(torch.cumprod(1 - betas, dim=0))
    assert (path.sigmas.diff() > 0).all()
    for step, expected in ((0, 0.99990), (499, 0.0785872), (999, 4.03583e-05)):
        sigma = path.sigmas[step]
        assert float(1 / (1 + sigma.square())) == pytest.approx(expected, rel=1e-5)
        assert float(path.steps(sigma[None])) == pytest.approx(step, abs=0.01)
