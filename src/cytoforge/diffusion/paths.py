"""How much of the image is left at each time of the way from image to noise."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_alpha_bar(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Share of the image's variance that is left after each step when noise grows linearly.

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) e with alpha_bar_t = prod_{s <= t} (1 - beta_s).

    Args:
        steps: number of steps, at least 1.
        first: beta of the first step.
        last: beta of the last step.

    Returns:
        (steps,) float64, falling from nearly 1 to nearly 0.

    Example:
        >>> [round(float(linear_alpha_bar()[step]), 7) for step in (0, 499)]
        [0.9999, 0.0785872]

    Reference:
        Ho, Jain and Abbeel, Denoising diffusion probabilistic models, 2020, section 2 and 4.
        https://arxiv.org/abs/2006.11239
    """
    return torch.cumprod(1 - torch.linspace(first, last, steps, dtype=torch.float64), dim=0)
