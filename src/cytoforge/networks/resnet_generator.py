"""The residual image-to-image network of Johnson et al. that CycleGAN uses."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) stays of that size."""
        refined: Tensor = features + self.body(features)
        return refined


class ResNetGenerator(nn.Module):
    """An image becomes an image of the same size: two downsamplings, residual blocks, two upsamplings.

    With three channels, 64 filters and nine blocks it has 11,378,179 parameters.

    Args:
        inputs: channels of the image that goes in.
        outputs: channels of the image that comes out.
        channels: filters of the first convolution.
        blocks: residual blocks; the paper has 6 for 128 px and 9 for 256 px.
        resize: upsample bilinearly and convolve, in place of the paper's transposed convolutions, which leave
            checkerboards. As many parameters.

    Reference:
        Zhu et al., CycleGAN, 2017, section 7.2. https://arxiv.org/abs/1703.10593
        Johnson, Alahi and Fei-Fei, 2016. https://arxiv.org/abs/1603.08155
    """

    def __init__(
        self, inputs: int = 3, outputs: int = 3, channels: int = 64, blocks: int = 9, resize: bool = False
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(inputs, channels, 7),
            *_normalised(channels),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            *_normalised(2 * channels),
            nn.Conv2d(2 * channels, 4 * channels, 3, stride=2, padding=1),
            *_normalised(4 * channels),
            *(ResidualBlock(4 * channels) for _ in range(blocks)),
            *_doubled(4 * channels, 2 * channels, resize),
            *_doubled(2 * channels, channels, resize),
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels, outputs, 7),
            nn.Tanh(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, inputs, H, W) in [-1, 1], H and W multiples of 4, become (N, outputs, H, W)."""
        translated: Tensor = self.body(images)
        return translated


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU()]


def _doubled(inputs: int, outputs: int, resize: bool) -> list[nn.Module]:
    if resize:
        upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
        return [upsample, convolution, *_normalised(outputs)]
    transposed = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
    return [transposed, *_normalised(outputs)]
