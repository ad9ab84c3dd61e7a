"""The U-Net that paints an image onto a mask: halved to one pixel, doubled again, with skip connections."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from cytoforge.networks.patchgan import Norm, normalised

Upsampling = Literal["transposed", "bilinear"]


class PaintingUNet(nn.Module):
    """A mask (and noise) become an image of the same size.

    Halved by 4 x 4 convolutions of stride 2 until one pixel is left, then doubled; each doubling sees the
    features of its own size on the way down. At 256 px with 3 channels in and out, batch norm and none at
    the innermost pixel it has 54,413,955 trainable parameters; with 5 channels in, batch norm there too and
    statistics counted, 54,427,907, as source 003 prints.

    Args:
        inputs: channels in.
        outputs: channels out.
        resolution: side of the image, a power of two.
        width: channels after the first halving; doubled with each, at most `most`.
        most: upper bound of the width.
        norm: after every convolution but the first and the last. Instance norm takes away what is the same
            everywhere, such as planes of the class and the innermost pixel; group norm keeps it.
        innermost_norm: whether also at the single innermost pixel, where instance norm is never used.
        dropout: of the three innermost doublings, in training.
        upsampling: how a doubling is done. "bilinear" and a 3 x 3 convolution leave no checkerboard.

    Reference:
        Isola et al., Image-to-image translation with conditional adversarial networks, 2017, section 6.1.1.
        https://arxiv.org/abs/1611.07004
        Odena, Dumoulin and Olah, Deconvolution and checkerboard artifacts, 2016.
        https://distill.pub/2016/deconv-checkerboard/
    """

    def __init__(
        self,
        inputs: int,
        outputs: int = 3,
        resolution: int = 256,
        width: int = 64,
        most: int = 512,
        norm: Norm = "batch",
        innermost_norm: bool = False,
        dropout: float = 0.5,
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        levels = resolution.bit_length() - 1
        sizes = [min(width << level, most) for level in range(levels)]
        self.down = nn.ModuleList(
            _halving(before, after, _norm_at(level, levels, norm, innermost_norm))
            for level, (before, after) in enumerate(pairwise([inputs, *sizes]))
        )
        self.up = nn.ModuleList(
            _doubling(
                sizes[level] if level == levels - 1 else 2 * sizes[level],
                sizes[level - 1],
                norm,
                dropout if level >= levels - 3 else 0.0,
                upsampling,
            )
            for level in reversed(range(1, levels))
        )
        self.output = nn.Sequential(*_enlarge(2 * sizes[0], outputs, upsampling, bias=True), nn.Tanh())
        self.apply(_initialise)

    def forward(self, condition: Tensor) -> Tensor:
        """Condition (N, inputs, R, R) becomes images (N, outputs, R, R) in [-1, 1]."""
        features, skips = condition, []
        for halving in self.down:
            features = halving(features)
            skips.append(features)
        skips.pop()
        for doubling in self.up:
            features = torch.cat([doubling(features), skips.pop()], dim=1)
        images: Tensor = self.output(features)
        return images


def _norm_at(level: int, levels: int, norm: Norm, innermost_norm: bool) -> Norm:
    if level == 0:
        return "none"
    if level == levels - 1 and (not innermost_norm or norm == "instance"):
        return "none"
    return norm


def _halving(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(*normalised(convolution, outputs, norm), nn.LeakyReLU(0.2))


def _doubling(inputs: int, outputs: int, norm: Norm, dropout: float, upsampling: Upsampling) -> nn.Sequential:
    *before, convolution = _enlarge(inputs, outputs, upsampling, bias=False)
    layers = [*before, *normalised(convolution, outputs, norm)]
    return nn.Sequential(*layers, *([nn.Dropout(dropout)] if dropout else []), nn.ReLU())


def _enlarge(inputs: int, outputs: int, upsampling: Upsampling, bias: bool) -> list[nn.Module]:
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)]
    return [
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate", bias=bias),
    ]


def _initialise(layer: nn.Module) -> None:
    """Normal weights of deviation 0.02, as in the paper's section 6.2; norms around 1."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
