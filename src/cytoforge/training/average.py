"""Exponential moving average of a network's parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

RAMP = 0.1
"""The half-life is at most this share of the images seen: an early average forgets the random start."""


def decay(count: int, half_life: float, seen: int) -> float:
    """What is kept of the average after `count` more images.

    Args:
        count: images since the last update.
        half_life: images after which half of the average is new.
        seen: images seen so far.

    Returns:
        0.5 ** (count / min(half_life, RAMP * seen)), 0 at the start.

    Example:
        >>> decay(1000, half_life=1000, seen=100_000)
        0.5

    Reference:
        Karras et al., EDM, 2022, the training loop's "ema_halflife" with ramp-up. https://arxiv.org/abs/2206.00364
    """
    span = min(half_life, RAMP * seen)
    return 0.0 if span <= 0 else float(0.5 ** (count / span))


class Average:
    """Copies of networks whose parameters trail the trained ones.

    Attributes:
        networks: name -> averaged module in evaluation mode, without gradients.
    """

    def __init__(self, networks: Mapping[str, nn.Module], half_life: float) -> None:
        self.half_life = half_life
        self.networks = {name: copy.deepcopy(network).eval() for name, network in networks.items()}
        for network in self.networks.values():
            network.requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self, networks: Mapping[str, nn.Module], count: int, seen: int) -> None:
        """Move towards `networks` after `count` more images, `seen` in all; buffers are copied."""
        weight = 1 - decay(count, self.half_life, seen)
        for name, average in self.networks.items():
            current = networks[name]
            averages: list[Tensor] = list(average.parameters())
            torch._foreach_lerp_(averages, list(current.parameters()), weight)
            for kept, buffer in zip(average.buffers(), current.buffers(), strict=True):
                kept.copy_(buffer)
