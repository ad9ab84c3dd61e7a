"""How far a reconstruction is from its image, and a latent distribution from the standard normal one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pixel_error(images: Tensor, targets: Tensor) -> Tensor:
    """Squared difference summed over the values of an image, mean over images; light counted from 0 to 1.

    The sum, not the mean over values: beside it the divergence of the latent code has its natural weight.

    Args:
        images: (N, C, H, W) in [-1, 1].
        targets: (N, C, H, W) in [-1, 1].

    Returns:
        Scalar float32.

    Example:
        Two images of two values, black against mid-grey and equal ones, (2 * 0.5^2 + 0) / 2:

        >>> images = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 1, 2)
        >>> float(pixel_error(images, torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 1, 2)))
        0.25
    """
    return (images.float() - targets.float()).square().flatten(1).sum(dim=1).mean() / 4


def perceptual_distance(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Squared difference of feature vectors of length 1, mean over places and images, summed over scales.

    Args:
        features: for each scale (N, C, H, W), what a frozen network sees in the reconstructions.
        targets: the same of the images; no gradient flows into them.

    Returns:
        Scalar float32, 0 to 4 for each scale.

    Example:
        Vectors at a right angle are sqrt(2) apart, whatever their lengths:

        >>> one, other = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> round(float(perceptual_distance([one.reshape(1, 2, 1, 1)], [other.reshape(1, 2, 1, 1)])), 4)
        2.0

    Reference:
        Johnson, Alahi and Fei-Fei, Perceptual losses, 2016, equation 2. https://arxiv.org/abs/1603.08155
        Zhang et al., The unreasonable effectiveness of deep features (LPIPS), 2018, equation 1: unit length.
        https://arxiv.org/abs/1801.03924
    """
    scales = [
        (_unit(seen) - _unit(wanted).detach()).square().sum(dim=1).mean()
        for seen, wanted in zip(features, targets, strict=True)
    ]
    return torch.stack(scales).sum()


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) summed over dimensions, mean over images, in nats.

    Args:
        mean: (N, D).
        log_variance: (N, D).

    Returns:
        Scalar float32, 0 where every distribution is standard normal.

    Example:
        >>> float(kl_to_standard_normal(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)))  # (1 + 4) / 2
        2.5

    Reference:
        Kingma and Welling, Auto-encoding variational Bayes, 2014, appendix B. https://arxiv.org/abs/1312.6114
    """
    mean, log_variance = mean.float(), log_variance.float()
    each = mean.square() + log_variance.exp() - 1 - log_variance
    return each.sum(dim=1).mean() / 2


def cycle_error(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of a value, E[|images - targets|].

    Args:
        images: (N, C, H, W), there and back again.
        targets: (N, C, H, W), where they started.

    Returns:
        Scalar float32.

    Example:
        >>> float(cycle_error(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 1.0])))
        0.25

    Reference:
        Zhu et al., CycleGAN, 2017, equation 2; also its identity loss, section 5.2.
        https://arxiv.org/abs/1703.10593
    """
    return (images.float() - targets.float()).abs().mean()


def _unit(features: Tensor) -> Tensor:
    """Feature vectors of length 1; a vector of zeros stays."""
    features = features.float()
    return features / (features.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
