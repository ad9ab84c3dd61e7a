"""Losses of segmentation that count areas."""

from __future__ import annotations

from torch import Tensor


def soft_dice(probabilities: Tensor, masks: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - Dice of probabilities and masks, averaged over images and parts.

        1 - (2 sum(p m) + s) / (sum(p) + sum(m) + s)

    Args:
        probabilities: (N, C, H, W) in [0, 1].
        masks: (N, C, H, W) in {0, 1}.
        smooth: s, in pixels; keeps absent parts from dividing by 0.

    Returns:
        Scalar in [0, 1].

    Example:
        >>> import torch
        >>> round(float(soft_dice(torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[1.0, 0.0]]]]))), 4)
        0.3333

    Reference:
        Milletari, Navab and Ahmadi, V-Net, 2016, section 3 (here with plain sums in the denominator).
        https://arxiv.org/abs/1606.04797
    """
    common = (probabilities * masks).sum((2, 3))
    both = probabilities.sum((2, 3)) + masks.sum((2, 3))
    return 1 - ((2 * common + smooth) / (both + smooth)).mean()
