import pytest
import torch

from cytoforge.losses.energy import margin_discriminator, repelling


def test_an_energy_above_the_margin_is_left_alone():
    fake = torch.tensor([0.5, 4.0], requires_grad=True)
    margin_discriminator(torch.ones(2), fake, margin=3.0).backward()
    assert fake.grad.tolist() == [-0.5, 0.0]


def test_repelling_by_hand():
    """Codes at 60 degrees: cosine 1/2, its square 1/4."""
    codes = torch.tensor([[1.0, 0.0], [1.0, 3**0.5]])
    assert float(repelling(codes)) == pytest.approx(0.25)
    assert float(repelling(torch.ones(4, 7))) == pytest.approx(1.0)
    torch.testing.assert_close(repelling(codes * 5), repelling(codes))


def test_repelling_is_exact_in_a_training_in_bfloat16():
    codes = torch.randn(16, 7, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = repelling(codes)
    assert torch.equal(found, repelling(codes))
