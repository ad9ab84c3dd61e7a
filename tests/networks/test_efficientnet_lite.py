from __future__ import annotations

import pytest
import torch
from skimage import data
from skimage.transform import resize

from cytoforge.networks.efficientnet_lite import efficientnet_lite0, fold_batch_norm, standardise


def photo(array) -> torch.Tensor:
    side = min(array.shape[:2])
    top, left = (array.shape[0] - side) // 2, (array.shape[1] - side) // 2
    square = resize(array[top : top + side, left : left + side], (224, 224), anti_aliasing=True) * 255
    return torch.from_numpy(square).permute(2, 0, 1).float()[None]


@pytest.mark.parametrize(
    ("picture", "classes"), [(data.chelsea, range(281, 286)), (data.coffee, (504, 967, 968))]
)
def test_published_weights_name_a_cat_and_a_cup(picture, classes) -> None:
    with torch.inference_mode():
        logits = efficientnet_lite0(classes=1000)(standardise(photo(picture())))
    assert int(logits.argmax()) in classes


def test_features_are_1280_wide_and_folding_keeps_them() -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    network = efficientnet_lite0()
    with torch.inference_mode():
        plain = network(standardise(images))
        folded = fold_batch_norm(network)(standardise(images))
    assert plain.shape == (2, 1280)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_a_new_classifier_keeps_the_trained_body() -> None:
    network, published = efficientnet_lite0(classes=5), efficientnet_lite0(classes=1000)
    assert network.classifier.weight.shape == (5, 1280)
    assert torch.equal(network.conv_head.weight, published.conv_head.weight)
