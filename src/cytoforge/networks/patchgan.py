"""Discriminators that look at an image together with its condition: patch by patch, or as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Norm = Literal["batch", "instance", "group", "none", "spectral"]

_GROUPS = 4


def normalised(convolution: nn.Module, channels: int, norm: Norm) -> list[nn.Module]:
    """A convolution and its norm: batch, instance or group norm, none, or a bound on the weights."""
    if norm == "spectral":
        return [spectral_norm(convolution)]
    if norm == "none":
        return [convolution]
    if norm == "group":
        return [convolution, nn.GroupNorm(min(_GROUPS, channels), channels)]
    return [convolution, nn.BatchNorm2d(channels) if norm == "batch" else nn.InstanceNorm2d(channels)]


class PatchGAN(nn.Module):
    """A score for each patch of an image; with three halvings a patch is 70 px wide.

    At 256 px it gives 30 x 30 scores. With batch norm and 6 channels it has 2,768,705 trainable parameters;
    with 7 channels and no bias in the first convolution 2,771,457, statistics counted, as source 003 prints.

    Args:
        channels: of image and condition together.
        width: channels after the first convolution; doubled with each halving, at most eightfold.
        halvings: convolutions of stride 2.
        norm: after every convolution but the first and the last.
        first_bias: whether the first convolution has a bias.

    Reference:
        Isola et al., Image-to-image translation with conditional adversarial networks, 2017, section 6.1.2.
        https://arxiv.org/abs/1611.07004
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        halvings: int = 3,
        norm: Norm = "batch",
        first_bias: bool = True,
    ) -> None:
        super().__init__()
        sizes = [min(width << level, 8 * width) for level in range(halvings + 1)]
        first = nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=first_bias)
        strides = [2] * (halvings - 1) + [1]
        last = nn.Conv2d(sizes[-1], 1, 4, padding=1)
        self.body = _initialised([*_narrowing(first, sizes, strides, norm), *_plain(last, norm)])

    def forward(self, images: Tensor) -> Tensor:
        """Images with their condition (N, channels, H, W) become scores (N, 1, h, w)."""
        scores: Tensor = self.body(images)
        return scores.float()


class VanillaDiscriminator(nn.Module):
    """One score for an image: stride-2 convolutions down to 4 x 4, then a dense layer.

    Source 003's table stops at 8 x 8; its count of 3,816,961 (7 channels, 256 px, batch norm with statistics)
    is met only with the sixth halving, to 4 x 4.

    Args:
        channels: of image and condition together.
        resolution: side of the image, a power of two.
        width: channels after the first convolution; doubled with each halving, at most fourfold.
        norm: after every convolution but the first.
    """

    def __init__(self, channels: int, resolution: int = 256, width: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        halvings = resolution.bit_length() - 3
        sizes = [min(width << level, 4 * width) for level in range(halvings)]
        first = nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=_biased(norm))
        strides = [2] * (halvings - 1)
        last = nn.Linear(16 * sizes[-1], 1)
        self.body = _initialised(
            [*_narrowing(first, sizes, strides, norm), nn.Flatten(), *_plain(last, norm)]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images with their condition (N, channels, R, R) become scores (N, 1)."""
        scores: Tensor = self.body(images)
        return scores.float()


def _biased(norm: Norm) -> bool:
    """A bias in front of a norm has no effect."""
    return norm in ("none", "spectral")


def _plain(layer: nn.Module, norm: Norm) -> list[nn.Module]:
    """A layer without norm behind it, its weights bounded where all are."""
    return [spectral_norm(layer)] if norm == "spectral" else [layer]


def _narrowing(first: nn.Module, sizes: Sequence[int], strides: Sequence[int], norm: Norm) -> list[nn.Module]:
    """The first convolution without norm, then one with norm from each size to the next."""
    layers: list[nn.Module] = [*_plain(first, norm), nn.LeakyReLU(0.2)]
    for (before, after), stride in zip(pairwise(sizes), strides, strict=True):
        convolution = nn.Conv2d(before, after, 4, stride, padding=1, bias=_biased(norm))
        layers += [*normalised(convolution, after, norm), nn.LeakyReLU(0.2)]
    return layers


def _initialised(layers: Sequence[nn.Module]) -> nn.Sequential:
    """The layers in a row, with normal weights of deviation 0.02, as in the paper's section 6.2."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear) and not hasattr(layer, "parametrizations"):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
