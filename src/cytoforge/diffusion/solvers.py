"""From noise to images: solvers of d x / d level = (x - D(x, level)) / level, and guidance."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Noisy images (N, 3, H, W) and one level () -> denoised images (N, 3, H, W)."""


def euler(denoise: Denoise, start: Tensor, levels: Tensor) -> Tensor:
    """Straight steps; one call of the network each.

    Args:
        denoise: the model.
        start: (N, 3, H, W) at the first level.
        levels: (S + 1,) falling, the last is 0.

    Returns:
        (N, 3, H, W), not clipped.

    Example:
        >>> centre = lambda noisy, level: torch.zeros_like(noisy)  # every image is 0
        >>> float(euler(centre, torch.ones(1), torch.tensor([1.0, 0.5])))
        0.5
    """
    images = start
    for now, then in pairwise(levels):
        images = images + (then - now) * _slope(denoise, images, now)
    return images


def heun(denoise: Denoise, start: Tensor, levels: Tensor) -> Tensor:
    """Second order: each step but the last (to 0) is corrected by the slope at its end; 2 S - 1 calls.

    Arguments as for `euler`.

    Reference:
        Karras et al., EDM, 2022, algorithm 1. https://arxiv.org/abs/2206.00364
    """
    images = start
    for now, then in pairwise(levels):
        slope = _slope(denoise, images, now)
        guess = images + (then - now) * slope
        if then > 0:
            guess = images + (then - now) * (slope + _slope(denoise, guess, then)) / 2
        images = guess
    return images


def multistep(denoise: Denoise, start: Tensor, levels: Tensor) -> Tensor:
    """Second order at one call a step: the slope before tells how the slope bends (Adams-Bashforth).

    Arguments as for `euler`; the last step (to 0) is straight, which gives the denoised image.

    Example:
        >>> halfway = lambda noisy, level: noisy - level * (2 * level)  # the slope is 2 level, so x = level^2
        >>> levels = torch.tensor([1.0, 0.75, 0.5])
        >>> float(multistep(halfway, torch.ones(1), levels))  # 1 - 0.5, then - 0.25 (1.5 + 0.5 (1.5 - 2))
        0.1875

    Reference:
        Hairer, Norsett and Wanner, Solving ordinary differential equations I, 1993, section III.5
        (variable steps).
    """
    images, before, size_before = start, None, None
    for now, then in pairwise(levels):
        size, slope = then - now, _slope(denoise, images, now)
        bent = slope
        if before is not None and size_before is not None and then > 0:
            bent = slope + size / (2 * size_before) * (slope - before)
        images = images + size * bent
        before, size_before = slope, size
    return images


SOLVERS: dict[str, Callable[[Denoise, Tensor, Tensor], Tensor]] = {
    "euler": euler,
    "heun": heun,
    "multistep": multistep,
}
"""Solver by name."""


def guided(free: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Away from what the model draws without a condition: free + scale (conditional - free).

    Args:
        free: denoised (N, 3, H, W) without condition.
        conditional: denoised (N, 3, H, W) with it.
        scale: 1 is plain conditional sampling, 0 none, above 1 more typical and less varied.

    Example:
        >>> guided(torch.tensor(0.0), torch.tensor(1.0), 3.0)
        tensor(3.)

    Reference:
        Ho and Salimans, Classifier-free diffusion guidance, 2022, equation 6 (their w is scale - 1).
        https://arxiv.org/abs/2207.12598
    """
    return torch.lerp(free, conditional, scale)


def _slope(denoise: Denoise, images: Tensor, level: Tensor) -> Tensor:
    return (images - denoise(images, level)) / level
