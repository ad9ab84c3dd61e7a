"""What two players minimise whose discriminator gives energies: low for what looks real."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def margin_discriminator(real: Tensor, fake: Tensor, margin: float) -> Tensor:
    """E[real] + E[max(0, margin - fake)], where scores are energies: low for what looks real.

    Args:
        real: (N,) energies of real images, from 0.
        fake: (N,) energies of generated images, from 0.
        margin: energy beyond which a generated image need not be pushed up.

    Returns:
        Scalar.

    Example:
        >>> import torch
        >>> float(margin_discriminator(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0]), margin=3.0))
        2.75

    Reference:
        Zhao, Mathieu and LeCun, Energy-based GAN, 2017, equation 1. https://arxiv.org/abs/1609.03126
    """
    return real.mean() + F.relu(margin - fake).mean()


def repelling(codes: Tensor) -> Tensor:
    """Mean squared cosine between the codes of different images of a batch: 0 at right angles, 1 where alike.

    Args:
        codes: (N, D), N at least 2.

    Returns:
        Scalar in [0, 1].

    Example:
        >>> import torch
        >>> round(float(repelling(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))), 4)
        0.3333

    Reference:
        Zhao, Mathieu and LeCun, 2017, equation 4 (pulling-away term). https://arxiv.org/abs/1609.03126
    """
    count = len(codes)
    with torch.autocast(codes.device.type, enabled=False):  # in bfloat16 the squares of 1 are not `count`
        unit = F.normalize(codes.float(), dim=1)
        return ((unit @ unit.T).square().sum() - count) / (count * (count - 1))
