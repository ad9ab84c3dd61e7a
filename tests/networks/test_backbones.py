from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from cytoforge.core.batch import to_float
from cytoforge.core.errors import ConfigError
from cytoforge.networks.backbones import LITE0, Backbone
from cytoforge.networks.basic_cnn import BasicCNN
from cytoforge.networks.efficientnet_lite import efficientnet_lite0, standardise
from cytoforge.networks.image_classifier import StandardisedLinear


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("architecture", "head", "parameters"),
    [
        ("resnet152", "native", 58_154_053),
        ("densenet161", "native", 26_483_045),
        ("vgg16", "native", 134_281_029),
        ("resnet50", "native", 23_518_277),
        # by hand: 14,714,688 of the convolutions, 2 x 2 x 512 values to 1,024, 1,024 to 5
        ("vgg16", "flatten", 14_714_688 + 2048 * 1024 + 1024 + 1024 * 5 + 5),
        ("vgg19", "flatten", 20_024_384 + 2048 * 1024 + 1024 + 1024 * 5 + 5),
        # 23,508,032 without its last layer, 2 x 2 x 2,048 values to 1,024, 1,024 to 5
        ("resnet50", "flatten", 23_508_032 + 8192 * 1024 + 1024 + 1024 * 5 + 5),
    ],
)
def test_parameter_counts(architecture: str, head: Any, parameters: int) -> None:
    with torch.device("meta"):
        assert count(Backbone(architecture, 5, 64, "none", head)) == parameters


def test_the_basic_network_has_the_parameters_that_its_layers_give() -> None:
    network = BasicCNN(5)
    assert count(network) == 286_117
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    assert network.features(torch.zeros(2, 3, 64, 64)).shape == (2, 64)


def test_trained_features_are_those_of_the_extractor() -> None:
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    network = Backbone(LITE0, 5, 64).eval()
    levels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        found, wanted = network.features(to_float(images)), efficientnet_lite0()(standardise(levels))
        maps = network.maps(to_float(images))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert maps.shape == (2, 1280, 2, 2)


def test_batch_norm_stays_where_it_is_told_to() -> None:
    images = torch.randn(4, 3, 32, 32)
    for frozen in (True, False):
        network = Backbone("resnet18", 2, 32, "none", frozen_norm=frozen).train()
        before = network.body.bn1.running_mean.clone()  # type: ignore[union-attr,operator]
        network(images)
        assert torch.equal(before, network.body.bn1.running_mean) == frozen  # type: ignore[arg-type,union-attr]


def test_frozen_stages_keep_weights_and_statistics() -> None:
    network = Backbone("resnet18", 2, 32, "none", frozen_stages=2).train()
    assert {name.split(".")[1] for name in network.frozen} == {"conv1", "bn1", "layer1"}
    before = copy.deepcopy(network.body.state_dict())
    network(torch.randn(4, 3, 32, 32))
    after = network.body.state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"layer2", "layer3", "layer4"}
    assert Backbone("resnet18", 2, 32, "none").frozen == frozenset()
    with pytest.raises(ConfigError, match="choose 0 to 4"):
        Backbone("resnet18", 2, 32, "none", frozen_stages=5)


def test_weights_come_from_a_file_and_must_fit(tmp_path: Any) -> None:
    body = Backbone("resnet18", 2, 32, "none").body
    path = tmp_path / "weights.safetensors"
    state = {**body.state_dict(), "fc.weight": torch.zeros(3, 512), "fc.bias": torch.zeros(3)}
    safetensors.torch.save_file(state, path)
    loaded = Backbone("resnet18", 2, 32, str(path)).body.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in body.state_dict().items())
    with pytest.raises(ConfigError, match="does not hold the weights of resnet34"):
        Backbone("resnet34", 2, 32, str(path))
    with pytest.raises(ConfigError, match="can run code"):
        Backbone("resnet18", 2, 32, "weights.pt")


def test_faults_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match='Did you mean "resnet50"'):
        Backbone("resnet5O", 2, 32, "none")
    with pytest.raises(ConfigError, match="choose a larger resolution"):
        Backbone("inception_v3", 2, 32, "none")
    with pytest.raises(ConfigError, match="set resolution=224"):
        Backbone("vit_tiny_patch16_224", 2, 128, "none")

    import timm

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ConfigError, match=r"weights=FILE\.safetensors"):
        Backbone("resnet50", 2, 64)


def test_a_new_scale_does_not_change_what_a_standardised_layer_says() -> None:
    """Weights 3 and 2 at deviations sqrt 2 and 0.001 are 6 and 2 at deviations 2 sqrt 2 and 0.001."""
    layer = StandardisedLinear(2, 1)
    layer.fit_scale(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    layer.linear.weight.data.copy_(torch.tensor([[3.0, 2.0]]))
    asked = torch.tensor([[2.5, 0.001]])
    before = layer(asked).item()
    layer.fit_scale(torch.tensor([[4.0, 0.0], [8.0, 0.0]]))
    assert layer.linear.weight.tolist() == [pytest.approx([6.0, 2.0])]
    assert layer.linear.bias.item() == pytest.approx(3 * 4 / 2**0.5)
    assert layer(asked).item() == pytest.approx(before)
    assert before == pytest.approx(3 * 0.5 / 2**0.5 + 2)


def test_a_standardised_layer_takes_its_scale_from_the_features() -> None:
    layer = StandardisedLinear(2, 1)
    layer.fit_scale(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    torch.nn.init.ones_(layer.linear.weight)
    found = layer(torch.tensor([[2.0 + 2**0.5, 0.0]]))  # mean 2, deviation sqrt 2; the constant gives 0
    assert found.item() == pytest.approx(1.0)
