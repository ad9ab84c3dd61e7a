import pytest
import torch

from cytoforge.core.errors import ConfigError
from cytoforge.networks.efficientnet_lite import efficientnet_lite0, standardise
from cytoforge.networks.feature_discriminator import LiteFeatures
from cytoforge.networks.feature_pyramid import efficientnet_pyramid, vgg16_pyramid
from cytoforge.networks.torchvision_cpu import prepare_torchvision


def test_scales_are_those_of_the_whole_network():
    """The last scale equals what the unfolded network computes up to there, from 0..255."""
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    network = efficientnet_lite0()
    with torch.no_grad():
        features = network.bn1(network.conv_stem(standardise((images + 1) * 127.5)))
        expected = network.blocks[:5](features)
        scales = efficientnet_pyramid()(images)
    assert [tuple(scale.shape[1:]) for scale in scales] == [
        (16, 32, 32),
        (24, 16, 16),
        (40, 8, 8),
        (80, 4, 4),
        (112, 4, 4),
    ]
    torch.testing.assert_close(scales[-1], expected, rtol=1e-3, atol=1e-4)


def test_frozen_but_differentiable():
    pyramid = efficientnet_pyramid()
    assert not any(parameter.requires_grad for parameter in pyramid.parameters())
    images = (torch.rand(1, 3, 32, 32) * 2 - 1).requires_grad_()
    sum(scale.square().mean() for scale in pyramid(images)).backward()
    assert images.grad.isfinite().all()
    assert images.grad.any()


@pytest.mark.slow
def test_vgg16_scales():
    pyramid = vgg16_pyramid(pretrained=False)
    scales = pyramid(torch.zeros(1, 3, 32, 32))
    assert [tuple(scale.shape[1:]) for scale in scales] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
    ]
    assert all((scale >= 0).all() for scale in scales)


def test_vgg16_without_a_network_says_what_to_do(monkeypatch):
    def offline(*_args, **_settings):
        raise OSError("no route to host")

    prepare_torchvision()
    import timm

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match="perceptual_network=efficientnet-lite0"):
        vgg16_pyramid()


def test_larger_images_are_smoothed_before_they_are_shrunk():
    """Stripes of four pixels at a quarter of their size are grey; two pixels of each alone are black."""
    stripes = torch.tensor([1.0, -1.0, -1.0, 1.0]).repeat(32).expand(1, 3, 128, 128)
    features = LiteFeatures(32)
    with torch.no_grad():
        seen, grey, black = (
            features(images)[0].mean(dim=(2, 3))
            for images in (stripes, torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), -1.0))
        )
    assert (seen - grey).norm() < 0.2 * (seen - black).norm()
