import pytest
import torch

from cytoforge.networks.resnet_generator import ResNetGenerator


@pytest.mark.parametrize("resize", [False, True])
def test_parameters_of_the_papers_network(resize):
    network = ResNetGenerator(resize=resize)
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_378_179


@pytest.mark.parametrize("resize", [False, True])
def test_size_and_range(resize):
    network = ResNetGenerator(inputs=2, channels=4, blocks=1, resize=resize)
    images = network(torch.rand(2, 2, 24, 32))
    assert images.shape == (2, 3, 24, 32)
    assert images.abs().max() <= 1


def test_an_image_does_not_depend_on_its_batch():
    network = ResNetGenerator(channels=4, blocks=1)
    images = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), atol=1e-5, rtol=1e-4)
