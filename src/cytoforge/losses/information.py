"""How much an image tells about the codes that it was made from."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def categorical_information(logits: Tensor, categories: Tensor) -> Tensor:
    """Lower bound of I(c; image) in nats for a uniform category: ln K + E[log Q(c | image)].

    Args:
        logits: (N, K) of the recogniser Q.
        categories: (N,) the codes that the images were made from.

    Returns:
        Scalar, at most ln K, 0 where the recogniser guesses.

    Example:
        >>> import torch
        >>> float(categorical_information(torch.zeros(2, 5), torch.tensor([1, 4])))
        0.0

    Reference:
        Chen et al., InfoGAN, 2016, equation 5. https://arxiv.org/abs/1606.03657
    """
    return math.log(logits.shape[1]) - F.cross_entropy(logits.float(), categories)


def continuous_information(means: Tensor, log_deviations: Tensor, codes: Tensor) -> Tensor:
    """Lower bound of I(c; image) in nats for codes uniform in [-1, 1]: D ln 2 + E[log N(c; mean, deviation)].

    Args:
        means: (N, D) of the recogniser.
        log_deviations: (N, D) logarithm of its standard deviation.
        codes: (N, D) the codes that the images were made from.

    Returns:
        Scalar, summed over the D codes; negative where the recogniser is worse than a guess.

    Example:
        >>> import torch
        >>> exact = torch.zeros(4, 1)
        >>> round(float(continuous_information(exact, exact, exact)), 4)  # ln 2 - ln(2 pi) / 2
        -0.2258

    Reference:
        Chen et al., InfoGAN, 2016, equation 5 and section 6. https://arxiv.org/abs/1606.03657
    """
    error = (codes - means.float()) / log_deviations.float().exp()
    log_density = -error.square() / 2 - log_deviations.float() - math.log(2 * math.pi) / 2
    return codes.shape[1] * math.log(2) + log_density.sum(dim=1).mean()
