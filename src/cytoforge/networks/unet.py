"""U-Net that knows the noise level and the class, and a branch that lets masks or edges steer it.

Light enough for a CPU: images are folded into patches first, so that no convolution runs at full resolution,
and attention works on the coarsest map only. Nothing mixes the images of a batch.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
"""Groups of the group norms; every width is a multiple."""


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the code scales and shifts between them.

    The last convolution starts at 0, so that the block starts as its shortcut.

    Reference:
        Dhariwal and Nichol, Diffusion models beat GANs, 2021, section 3 (adaptive group norm).
        https://arxiv.org/abs/2105.05233
    """

    def __init__(self, inputs: int, outputs: int, code: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(GROUPS, inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(code, 2 * outputs)
        self.second_norm = nn.GroupNorm(GROUPS, outputs)
        self.second = _zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        """Features (N, C, H, W) and code (N, K) become (N, C', H, W)."""
        inner = self.first(F.silu(self.first_norm(features)))
        scale, shift = self.modulation(code)[:, :, None, None].chunk(2, dim=1)
        inner = F.silu(self.second_norm(inner) * (1 + scale) + shift)
        result: Tensor = self.shortcut(features) + self.second(inner)
        return result


class Attention(nn.Module):
    """Every place looks at every other, beside a shortcut; starts as the shortcut alone.

    Args:
        channels: of the features.
        head: least channels of a head, if there are so many; more where `channels` is no multiple.

    Reference:
        Vaswani et al., Attention is all you need, 2017, equation 1. https://arxiv.org/abs/1706.03762
    """

    def __init__(self, channels: int, head: int = 32) -> None:
        super().__init__()
        most = max(1, channels // head)
        self.heads = max(heads for heads in range(1, most + 1) if channels % heads == 0)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.output = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C, H, W) become (N, C, H, W)."""
        size = features.shape[2:]
        parts = self.project(self.norm(features)).reshape(len(features), 3, self.heads, -1, size.numel())
        query, key, value = parts.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = features + self.output(mixed.transpose(-1, -2).reshape(features.shape))
        return result


class Code(nn.Module):
    """Noise level and class as one vector.

    Args:
        classes: number of classes; the label after the last means "no class".
        length: of the vector.
    """

    def __init__(self, classes: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.embedding = nn.Embedding(classes, length)
        self.no_class = nn.Parameter(torch.zeros(1, length))
        self.layers = nn.Sequential(
            nn.Linear(length, length), nn.SiLU(), nn.Linear(length, length), nn.SiLU()
        )
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, levels: Tensor, labels: Tensor) -> Tensor:
        """Levels (N,) and labels (N,) become (N, length)."""
        classes = F.embedding(labels, torch.cat([self.embedding.weight, self.no_class]))
        code: Tensor = self.layers(waves(levels, self.length) + classes)
        return code


def waves(levels: Tensor, length: int) -> Tensor:
    """Cosines and sines of levels at frequencies from 1 to 1000 (radians for one unit of level).

    Args:
        levels: (N,) of size about 1.
        length: even.

    Returns:
        (N, length)

    Example:
        >>> waves(torch.tensor([0.0]), 4)
        tensor([[1., 1., 0., 0.]])

    Reference:
        Vaswani et al., Attention is all you need, 2017, section 3.5. https://arxiv.org/abs/1706.03762
    """
    exponents = torch.linspace(0, math.log(1000), length // 2, device=levels.device)
    angles = levels[:, None].float() * exponents.exp()
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Encoder(nn.Module):
    """The half of the U-Net that goes down, with its middle.

    Args:
        inputs: channels of the folded images.
        widths: channels at each resolution, finest first.
        blocks: residual blocks at each resolution.
        code: length of the code.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], blocks: int, code: int) -> None:
        super().__init__()
        self.input = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        self.reduce = nn.ModuleList()
        for index, width in enumerate(widths):
            before = widths[max(0, index - 1)]
            sizes = [before, *[width] * blocks]
            self.levels.append(nn.ModuleList(Residual(*pair, code) for pair in pairwise(sizes)))
            last = index == len(widths) - 1
            self.reduce.append(nn.Identity() if last else nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.middle_first = Residual(widths[-1], widths[-1], code)
        self.middle_attention = Attention(widths[-1])
        self.middle_second = Residual(widths[-1], widths[-1], code)

    def forward(self, folded: Tensor, code: Tensor, hint: Tensor | None = None) -> list[Tensor]:
        """Feature maps for the way up, finest first, the middle last.

        Args:
            folded: (N, inputs, H, W).
            code: (N, K).
            hint: (N, widths[0], H, W), added to the first features.
        """
        features = self.input(folded)
        if hint is not None:
            features = features + hint
        maps = [features]
        for level, reduce in zip(self.levels, self.reduce, strict=True):
            for block in level:  # type: ignore[attr-defined]
                features = block(features, code)
                maps.append(features)
            if not isinstance(reduce, nn.Identity):
                features = reduce(features)
                maps.append(features)
        features = self.middle_attention(self.middle_first(features, code))
        return [*maps, self.middle_second(features, code)]

    @staticmethod
    def map_widths(widths: tuple[int, ...], blocks: int) -> list[int]:
        """Channels of the maps that `forward` returns, in its order.

        Example:
            >>> Encoder.map_widths((8, 16), 1)
            [8, 8, 8, 16, 16]
        """
        maps = [widths[0]]
        for index, width in enumerate(widths):
            maps += [width] * (blocks + (index < len(widths) - 1))
        return [*maps, widths[-1]]


class UNet(nn.Module):
    """Noisy images, their noise levels and classes become a picture of the same size.

    Args:
        resolution: side of the images.
        classes: number of classes; label `classes` means "no class".
        channels: width at the finest map, a multiple of 8; doubled once, then tripled.
        blocks: residual blocks at each resolution.
        patch: side of the patches that images are folded into.
        hints: channels of a condition that is read along with the images, 0 for none.

    Reference:
        Ronneberger, Fischer and Brox, U-Net, 2015. https://arxiv.org/abs/1505.04597
        Ho, Jain and Abbeel, Denoising diffusion probabilistic models, 2020, appendix B.
        https://arxiv.org/abs/2006.11239
    """

    def __init__(
        self,
        resolution: int,
        classes: int,
        channels: int = 64,
        blocks: int = 2,
        patch: int = 2,
        hints: int = 0,
    ) -> None:
        super().__init__()
        self.patch, self.classes, self.hints = patch, classes, hints
        count = max(2, round(math.log2(resolution / patch / 8)) + 1)
        self.widths = tuple(channels * min(level + 1, 3) for level in range(count))
        self.blocks, length = blocks, 4 * channels
        self.code = Code(classes, length)
        self.encoder = Encoder((3 + hints) * patch**2, self.widths, blocks, length)
        self.levels = nn.ModuleList()
        waiting = Encoder.map_widths(self.widths, blocks)[:-1]
        features = self.widths[-1]
        for width in reversed(self.widths):
            level = nn.ModuleList()
            for _ in range(blocks + 1):
                level.append(Residual(features + waiting.pop(), width, length))
                features = width
            self.levels.append(level)
        self.norm = nn.GroupNorm(GROUPS, features)
        self.output = nn.Conv2d(features, 3 * patch**2, 3, padding=1)

    def forward(
        self,
        images: Tensor,
        levels: Tensor,
        labels: Tensor,
        hints: Tensor | None = None,
        steering: list[Tensor] | None = None,
    ) -> Tensor:
        """Raw output (N, 3, H, W).

        Args:
            images: noisy, (N, 3, H, W).
            levels: (N,) of size about 1.
            labels: (N,), `classes` for no class.
            hints: (N, hints, H, W); left out means zeros.
            steering: what a `Control` adds to each map of the encoder.
        """
        if self.hints:
            hints = images.new_zeros(len(images), self.hints, *images.shape[2:]) if hints is None else hints
            images = torch.cat([images, hints], dim=1)
        code = self.code(levels, labels)
        maps = self.encoder(F.pixel_unshuffle(images, self.patch), code)
        if steering is not None:
            maps = [own + other for own, other in zip(maps, steering, strict=True)]
        features = maps.pop()
        for position, level in enumerate(self.levels):
            for block in level:  # type: ignore[attr-defined]
                features = block(torch.cat([features, maps.pop()], dim=1), code)
            if position < len(self.levels) - 1:
                features = F.interpolate(features, scale_factor=2.0, mode="nearest")
        output: Tensor = self.output(F.silu(self.norm(features)))
        return F.pixel_shuffle(output, self.patch)


class Control(nn.Module):
    """A copy of a U-Net's encoder that also sees masks or edges and adds to the U-Net's maps.

    Every way into the U-Net and the condition's way into the copy start at 0: at first the branch changes
    nothing, and its encoder works as the one it is a copy of.

    Args:
        unet: the model to steer; its encoder is copied with its weights.
        hints: channels of the condition.

    Reference:
        Zhang, Rao and Agrawala, Adding conditional control to text-to-image diffusion models (ControlNet),
        2023, equation 2. https://arxiv.org/abs/2302.05543
    """

    def __init__(self, unet: UNet, hints: int) -> None:
        super().__init__()
        self.patch = unet.patch
        self.code = copy.deepcopy(unet.code)
        self.encoder = copy.deepcopy(unet.encoder)
        first = unet.widths[0]
        self.hint = nn.Sequential(
            nn.Conv2d(hints * unet.patch**2, first, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(first, first, 3, padding=1),
            nn.SiLU(),
            _zero(nn.Conv2d(first, first, 3, padding=1)),
        )
        self.started: Tensor
        self.register_buffer("started", torch.tensor(data=False))
        self.gates = nn.ModuleList(
            _zero(nn.Conv2d(width, width, 1)) for width in Encoder.map_widths(unet.widths, unet.blocks)
        )

    def forward(self, images: Tensor, levels: Tensor, labels: Tensor, hints: Tensor) -> list[Tensor]:
        """What to add to each map: arguments as for `UNet`, with hints (N, hints, H, W)."""
        hint = self.hint(F.pixel_unshuffle(hints, self.patch))
        maps = self.encoder(F.pixel_unshuffle(images, self.patch), self.code(levels, labels), hint)
        return [gate(features) for gate, features in zip(self.gates, maps, strict=True)]

    def start_from(self, unet: UNet) -> None:
        """Take over code and encoder of a U-Net that has been trained since; everything else stays."""
        self.code.load_state_dict(unet.code.state_dict())
        self.encoder.load_state_dict(unet.encoder.state_dict())
        self.started.fill_(value=True)


def edges(images: Tensor, threshold: float = 0.25) -> Tensor:
    """Outlines: where brightness changes by more than `threshold` from pixel to pixel, by Sobel's operator.

    Args:
        images: (N, 3, H, W) in [-1, 1].
        threshold: in units of [-1, 1] for one pixel.

    Returns:
        (N, 1, H, W) in {0, 1}.

    Example:
        >>> step = torch.tensor([-1.0, -1.0, 1.0, 1.0]).expand(1, 3, 4, 4)
        >>> edges(step)[0, 0, 1]
        tensor([0., 1., 1., 0.])

    Reference:
        Sobel and Feldman, A 3x3 isotropic gradient operator for image processing, 1968.
    """
    kernel = images.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    grey = F.pad(images.float().mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None].to(grey.dtype))
    return (slopes.square().sum(dim=1, keepdim=True) > threshold**2).float()


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
