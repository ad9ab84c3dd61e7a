from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from cytoforge.core.errors import ConfigError
from cytoforge.evaluation.gradcam import (
    enlarged,
    follows_weights,
    grad_cam,
    overlay,
    randomisation_test,
    randomised,
)
from cytoforge.networks.backbones import LITE0, Backbone
from cytoforge.networks.basic_cnn import BasicCNN
from cytoforge.networks.image_classifier import ImageClassifier


class Spots(ImageClassifier):
    """Two feature maps, red and blue; the classes are "more red" and "more blue"."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 2
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(2))

    def maps(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images[:, [0, 2]] + 1, 4)

    def pooled(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class Edges(ImageClassifier):
    """One feature map, the strength of edges: heat shows the same whatever the weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 1
        self.head = nn.Linear(1, 5)

    def maps(self, images: Tensor) -> Tensor:
        steps = images.diff(dim=3)[:, :, 1:].abs() + images.diff(dim=2)[:, :, :, 1:].abs()
        return nn.functional.adaptive_avg_pool2d(steps.mean(1, keepdim=True), 4)

    def pooled(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


def trained() -> tuple[BasicCNN, Tensor, Tensor]:
    """A network that tells pictures with a red spot (0) from those with a blue one; all have a green one."""
    torch.manual_seed(0)
    labels = torch.arange(64) % 2
    images = 0.1 * torch.randn(64, 3, 32, 32)
    for index, label in enumerate(labels):
        spot, other = (4, 20) if _on_the_left(index) else (20, 4)
        images[index, 2 * int(label), 12:20, spot : spot + 8] += 1
        images[index, 1, 12:20, other : other + 8] += 1
    network = BasicCNN(2, 32, dropout=0.0)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network, images, labels


def _on_the_left(index: int) -> bool:
    return index // 2 % 2 == 0


@pytest.fixture(scope="module")
def learned() -> tuple[BasicCNN, Tensor, Tensor]:
    return trained()


def test_the_heat_is_where_the_class_is():
    images = torch.full((1, 3, 8, 8), -1.0)
    images[0, 0, :4, :4] = 1
    images[0, 2, 4:, 4:] = 1
    red, blue = (grad_cam(Spots(), images, torch.tensor([label]))[0] for label in (0, 1))
    # slope of a pooled value in each of four places is 1/4, the map is 2 at the spot: heat 1/2
    assert red.tolist() == [[0.5, 0], [0, 0]]
    assert blue.tolist() == [[0, 0], [0, 0.5]]


def test_heat_equals_captums(learned):
    network, images, labels = learned
    network.eval()
    theirs = LayerGradCam(network, network.body).attribute(images, labels, relu_attributions=True)[:, 0]
    torch.testing.assert_close(grad_cam(network, images, labels), theirs.detach(), atol=1e-6, rtol=1e-4)


def test_heat_of_the_default_network_equals_captums():
    torch.manual_seed(0)
    network = Backbone(LITE0, 5, 128).eval()
    images, labels = torch.rand(3, 3, 128, 128) * 2 - 1, torch.tensor([0, 2, 4])
    theirs = LayerGradCam(network, network.body.bn2).attribute(images, labels, relu_attributions=True)[:, 0]
    ours = grad_cam(network, images, labels)
    assert ours.shape == (3, 4, 4)
    assert ours.max() > 0
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=1e-4)


def test_the_heat_of_a_vit_is_a_grid_of_its_patches():
    network = Backbone("vit_tiny_patch16_224", 2, 224, "none")
    images = torch.randn(1, 3, 224, 224)
    heat = grad_cam(network, images, torch.tensor([1]))
    assert heat.shape == (1, 14, 14)
    assert 0 < heat.max() < float("inf")
    tokens, logits = network.explained(images)
    torch.testing.assert_close(logits, network.eval()(images))
    numbered = torch.arange(197.0).reshape(1, 197, 1).expand_as(tokens)
    assert network.grid(numbered)[0, 0, :2, :2].tolist() == [[1, 2], [15, 16]]  # 0 is the class token


def test_a_vit_looks_at_the_patch_that_decides():
    network = Backbone("test_vit", 2, 160, "none").eval()
    places = network.grid(network.explained(torch.zeros(1, 3, 160, 160))[0])
    side = places.shape[-1]
    images = torch.zeros(1, 3, 160, 160)
    patch = 160 // side
    images[0, :, 2 * patch : 3 * patch, 5 * patch : 6 * patch] = 1
    changed = network.grid(network.explained(images)[0]) - places
    assert changed.abs().sum(1).argmax() == 2 * side + 5


def test_the_heat_of_a_swin_has_places_before_channels():
    network = Backbone("swin_tiny_patch4_window7_224", 2, 224, "none").eval()
    images = torch.randn(1, 3, 224, 224)
    maps, logits = network.explained(images)
    assert maps.shape == (1, 7, 7, 768)
    heat = grad_cam(network, images, torch.tensor([0]))
    # the head takes the mean over 49 places: slopes are the class's weights / 49 everywhere
    by_hand = (maps[0] @ network.head.weight[0]).clamp(min=0) / 49
    torch.testing.assert_close(heat[0], by_hand.detach(), atol=1e-6, rtol=1e-3)
    assert logits.shape == (1, 2)


@pytest.mark.parametrize("architecture", ["coat_tiny", "crossvit_tiny_240", "efficientvim_m1"])
def test_what_has_no_grid_of_places_says_so(architecture):
    side = 240 if "240" in architecture else 224
    network = Backbone(architecture, 2, side, "none")
    with pytest.raises(ConfigError, match="ViT and Swin"):
        grad_cam(network, torch.zeros(1, 3, side, side), torch.tensor([0]))


def test_heat_lies_on_the_spot_and_is_lost_when_the_network_forgets(learned):
    network, images, labels = learned
    heat = enlarged(grad_cam(network, images, labels), 32)
    halves = heat[:, :, :16].sum((1, 2)), heat[:, :, 16:].sum((1, 2))
    on_the_left = np.array([_on_the_left(index) for index in range(len(labels))])
    assert ((halves[0] > halves[1]) == on_the_left).mean() > 0.9
    found = randomisation_test(network, images, labels, layers=(0, 1, 100))
    assert found[0].mean == pytest.approx(1)
    assert found[100].left_out == 0
    assert follows_weights(found)


def test_maps_that_ignore_the_weights_are_found_out():
    torch.manual_seed(0)
    images = torch.randn(4, 3, 32, 32)
    images[3] = 0.5  # no edge: its map is the same everywhere
    network = Edges()
    found = randomisation_test(network, images, network(images).argmax(1))
    for likeness in found.values():
        assert likeness.mean == pytest.approx(1), "new weights turn signs at most"
        assert likeness.left_out == 0.25
    assert not follows_weights(found)
    nothing = randomisation_test(network, images[3:], torch.tensor([0]))
    assert nothing[1].mean is None
    assert not follows_weights(nothing)


def test_a_forgetful_copy_keeps_the_first_layers_and_leaves_the_network_alone(learned):
    network = learned[0]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    other = randomised(network, 1)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(other.body[0].weight, network.body[0].weight)
    assert not torch.equal(other.head.weight, network.head.weight)


def test_the_network_trains_on_after_it_was_explained(learned):
    network, images, labels = learned
    network.train()
    grad_cam(network, images[:2], labels[:2])
    assert network.training
    assert all(weights.requires_grad for weights in network.parameters())


def test_cold_places_keep_their_colour():
    images = np.full((1, 2, 2, 3), 100, np.uint8)
    heat = np.array([[[0.0, 1.0], [0.5, 0.0]]])
    drawn = overlay(images, heat)
    assert drawn[0, 0, 0].tolist() == [100, 100, 100]
    assert drawn[0, 0, 1, 0] > drawn[0, 0, 1, 2]
