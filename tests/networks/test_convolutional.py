import pytest
import torch

from cytoforge.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator, _at_side


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_shapes_and_range(resolution):
    generator = ConvolutionalGenerator(resolution, classes=3, latent=8, channels=4, most_channels=8)
    critic = ConvolutionalCritic(resolution, classes=3, channels=4, most_channels=8)
    images = generator(torch.randn(2, 8), torch.tensor([0, 2]))
    assert images.shape == (2, 3, resolution, resolution)
    assert images.abs().max() <= 1
    assert critic(images, torch.tensor([0, 2])).shape == (2,)


def test_class_and_noise_change_the_image_and_the_score():
    torch.manual_seed(0)
    generator = ConvolutionalGenerator(32, classes=2, latent=8, channels=8, most_channels=16)
    critic = ConvolutionalCritic(32, classes=2, channels=8, most_channels=16)
    noise = torch.randn(2, 8)
    first, second = generator(noise, torch.tensor([0, 0])), generator(noise, torch.tensor([1, 1]))
    assert (first - second).abs().mean() > 1e-2
    assert (first[0] - first[1]).abs().mean() > 1e-2
    assert not torch.allclose(critic(first, torch.tensor([0, 0])), critic(first, torch.tensor([1, 1])))


def test_no_image_depends_on_its_neighbours():
    torch.manual_seed(0)
    generator = ConvolutionalGenerator(32, classes=2, latent=8, channels=8, most_channels=16)
    critic = ConvolutionalCritic(32, classes=2, channels=8, most_channels=16)
    noise, labels = torch.randn(4, 8), torch.tensor([0, 1, 0, 1])
    images = generator(noise, labels)
    torch.testing.assert_close(images[2:3], generator(noise[2:3], labels[2:3]))
    torch.testing.assert_close(critic(images, labels)[2:3], critic(images[2:3], labels[2:3]))


def test_pixel_noise_gives_grain_that_truncation_keeps():
    torch.manual_seed(0)
    generator = ConvolutionalGenerator(
        32, classes=2, latent=8, channels=8, most_channels=16, pixel_noise=True
    )
    assert generator.noise_length == 8 + 32 * 32
    noise, labels = torch.randn(2, generator.noise_length), torch.tensor([0, 0])
    noise[1, :8] = noise[0, :8]
    first, second = generator(noise, labels)
    assert (first - second).abs().mean() > 1e-3
    halved = noise.clone()
    halved[:, 8:] /= 2
    torch.testing.assert_close(generator(halved, labels), generator(noise, labels), atol=1e-5, rtol=0)


def test_pixel_noise_is_white_at_every_side():
    pixels = torch.randn(16, 1, 64, 64)
    for side in (4, 16, 64):
        assert abs(float(_at_side(pixels, side).std()) - 1) < 0.1
