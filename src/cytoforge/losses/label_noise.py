"""Soft and wrong targets that keep a discriminator from becoming too sure."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cytoforge.core.randomness import uniform


def noisy_targets(seeds: Tensor, smoothing: float, flips: float, stream: str) -> tuple[Tensor, Tensor]:
    """Targets (N,) for real and for fake images: smoothed at random, exchanged for some images.

    Args:
        seeds: (N,) image seeds.
        smoothing: real targets are uniform in [1 - smoothing, 1], fake ones in [0, smoothing].
        flips: probability that an image's real and fake target are exchanged.
        stream: other names give independent draws.

    Example:
        >>> import torch
        >>> real, fake = noisy_targets(torch.arange(1000), 0.1, 0.0, "labels")
        >>> bool((real >= 0.9).all() and (real <= 1).all() and (fake >= 0).all() and (fake <= 0.1).all())
        True

    Reference:
        Salimans et al., Improved techniques for training GANs, 2016, section 3.4.
        https://arxiv.org/abs/1606.03498
        Dey et al., SynCGAN, 2020, section 3.4 (ranges and flips). https://arxiv.org/abs/2003.05712
    """
    draws = uniform(seeds, (3,), stream)
    real, fake = 1 - smoothing * draws[:, 0], smoothing * draws[:, 1]
    flipped = draws[:, 2] < flips
    return real.where(~flipped, fake), fake.where(~flipped, real)


def cross_entropy_discriminator(
    real: Tensor, fake: Tensor, real_targets: Tensor, fake_targets: Tensor
) -> Tensor:
    """Cross-entropy of scores and soft targets; targets 1 and 0 give the minimax loss.

    Args:
        real: (N, ...) scores of real images.
        fake: (N, ...) scores of generated images.
        real_targets: (N,) in [0, 1].
        fake_targets: (N,) in [0, 1].

    Returns:
        Scalar.

    Example:
        >>> import torch
        >>> ones = torch.ones(2)
        >>> round(float(cross_entropy_discriminator(ones, ones, ones, torch.zeros(2))), 4)
        1.6265
    """
    return _cross_entropy(real, real_targets) + _cross_entropy(fake, fake_targets)


def _cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    wanted = targets.to(scores).reshape(-1, *[1] * (scores.ndim - 1)).expand_as(scores)
    return F.binary_cross_entropy_with_logits(scores, wanted)
