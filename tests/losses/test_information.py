import math

import pytest
import torch

from cytoforge.losses.information import categorical_information, continuous_information


def test_a_sure_recogniser_finds_all_of_the_category():
    categories = torch.tensor([0, 2, 1])
    logits = 50 * torch.nn.functional.one_hot(categories, 3).float()
    assert float(categorical_information(logits, categories)) == pytest.approx(math.log(3), abs=1e-5)
    assert float(categorical_information(-logits, categories)) < 0


def test_continuous_by_hand():
    """Deviation 1/4, codes one deviation off: ln 2 - 1/2 + ln 4 - ln(2 pi) / 2, twice."""
    codes = torch.tensor([[0.25, -0.5]])
    means, logs = torch.tensor([[0.0, -0.25]]), torch.full((1, 2), math.log(0.25))
    expected = 2 * (math.log(2) - 0.5 + math.log(4) - math.log(2 * math.pi) / 2)
    assert float(continuous_information(means, logs, codes)) == pytest.approx(expected, rel=1e-5)


def test_sharper_and_right_is_more_information():
    codes = torch.linspace(-1, 1, 9)[:, None]
    blunt, sharp = (continuous_information(codes, torch.full((9, 1), math.log(d)), codes) for d in (0.5, 0.1))
    assert sharp > blunt
