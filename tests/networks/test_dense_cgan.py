import torch

from cytoforge.networks.dense_cgan import DenseCGANDiscriminator, DenseCGANGenerator


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_of_the_sources_layers_by_hand():
    def convolution(inputs, outputs):
        return 9 * inputs * outputs + outputs

    dense = 100 * 256 * 64 + 256 * 64
    body = convolution(256, 256) + convolution(256, 128) + convolution(128, 64) + convolution(64, 3)
    assert count(DenseCGANGenerator(64, 5)) == 5 * 100 + dense + body == 2_615_927
    values = 64 * 64 * 3
    layers = (values * 512 + 512) + 2 * (512 * 512 + 512) + (512 + 1)
    assert count(DenseCGANDiscriminator(64, 5)) == 5 * values + layers == 6_879_233


def test_shapes_and_range_at_other_sizes():
    for side in (32, 64):
        images = DenseCGANGenerator(side, 2)(torch.randn(3, 100), torch.tensor([0, 1, 1]))
        assert images.shape == (3, 3, side, side)
        assert images.abs().max() <= 1
        assert DenseCGANDiscriminator(side, 2)(images, torch.tensor([0, 1, 1])).shape == (3,)


def test_labels_multiply():
    """An embedding of zeros wipes out noise and image."""
    generator, discriminator = DenseCGANGenerator(32, 2), DenseCGANDiscriminator(32, 2).eval()
    for network in (generator, discriminator):
        torch.nn.init.zeros_(network.embedding.weight)
    labels = torch.zeros(2, dtype=torch.long)
    images = generator(torch.randn(2, 100), labels)
    assert torch.equal(images[0], images[1])
    scores = discriminator(torch.randn(2, 3, 32, 32), labels)
    assert torch.equal(scores[0], scores[1])
