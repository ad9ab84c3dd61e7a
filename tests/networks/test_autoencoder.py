import pytest
import torch

from cytoforge.networks.autoencoder import convolutional_autoencoder, source_autoencoder


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_of_the_sources_layers_by_hand():
    network = source_autoencoder(64, 5)
    convolutions = sum(9 * a * b + b + 2 * b for a, b in ((3, 64), (64, 128), (128, 256), (256, 512)))
    dense = (512 * 16 + 5) * 256 + 256
    code = 2 * (256 * 64 + 64)
    assert count(network.encoder) == convolutions + dense + code == 3_684_480
    start = (64 + 5) * 16 * 16 * 512 + 16 * 16 * 512
    transposed = sum(9 * a * b + b for a, b in ((512, 512), (512, 256), (256, 128), (128, 64)))
    assert count(network.decoder) == start + transposed + (9 * 64 * 3 + 3) == 13_085_315


@pytest.mark.parametrize("build", [convolutional_autoencoder, source_autoencoder])
@pytest.mark.parametrize("side", [32, 64])
def test_shapes_and_range(build, side):
    network = build(side, 2, latent=8)
    images, labels = torch.rand(4, 3, side, side) * 2 - 1, torch.tensor([0, 1, 0, 1])
    made, mean, log_variance = network(images, labels, torch.zeros(4, 8))
    assert made.shape == images.shape
    assert made.abs().max() <= 1
    assert mean.shape == log_variance.shape == (4, 8)


def test_the_code_is_mean_plus_deviation_times_noise():
    network = convolutional_autoencoder(32, 2, latent=8, channels=4, most_channels=8).eval()
    images, labels = torch.rand(2, 3, 32, 32) * 2 - 1, torch.tensor([0, 1])
    noise = torch.randn(2, 8)
    made, mean, log_variance = network(images, labels, noise)
    code = mean + (log_variance / 2).exp() * noise
    torch.testing.assert_close(made, network.decoder(code, labels))


@pytest.mark.parametrize("build", [convolutional_autoencoder, source_autoencoder])
def test_class_enters_both_halves(build):
    network = build(32, 2, latent=8).eval()
    images, noise = torch.rand(1, 3, 32, 32), torch.ones(1, 8)
    first, second = torch.tensor([0]), torch.tensor([1])
    assert not torch.allclose(network.encoder(images, first), network.encoder(images, second), atol=1e-5)
    assert not torch.allclose(network.decoder(noise, first), network.decoder(noise, second), atol=1e-5)


def test_an_image_does_not_depend_on_its_batch():
    network = convolutional_autoencoder(32, 2, latent=8)
    images, labels = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 0])
    alone = network(images[:1], labels[:1], torch.zeros(1, 8))[0]
    torch.testing.assert_close(network(images, labels, torch.zeros(3, 8))[0][:1], alone, atol=1e-5, rtol=1e-4)
