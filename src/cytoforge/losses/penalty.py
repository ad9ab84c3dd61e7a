"""Penalties on the gradient of a critic with respect to its input images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Critic = Callable[[Tensor], Tensor]


def gradient_norms(critic: Critic, images: Tensor) -> Tensor:
    """Length of the critic's gradient at each image, over all of the image's dimensions.

    Args:
        critic: images (N, ...) -> scores (N,) or (N, ...); no score may depend on another image.
        images: (N, ...), where the gradient is taken.

    Returns:
        (N,) float32, differentiable with respect to the critic's parameters.
    """
    images = images.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(critic(images).float().sum(), images, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(gradients.float().flatten(1), dim=1)
    return norms


def interpolate(real: Tensor, fake: Tensor, fraction: Tensor) -> Tensor:
    """Points on the straight lines between real and generated images.

    Args:
        real: (N, C, H, W).
        fake: (N, C, H, W).
        fraction: (N,) in [0, 1]; 0 gives the fake image, 1 the real one.

    Returns:
        (N, C, H, W).
    """
    weight = fraction.reshape(-1, *[1] * (real.ndim - 1)).to(real)
    return fake + weight * (real - fake)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, fraction: Tensor) -> Tensor:
    """E[(||grad critic(x)||_2 - 1)^2] at points x between real and generated images.

    Args:
        critic: images (N, C, H, W) -> scores (N,).
        real: (N, C, H, W) in [-1, 1].
        fake: (N, C, H, W) in [-1, 1].
        fraction: (N,) uniform in [0, 1], where on the line each point lies.

    Returns:
        Scalar; the paper weighs it with 10.

    Example:
        A linear critic w.x has the same gradient everywhere; here its length is 5:

        >>> weights = torch.tensor([3.0, 4.0])
        >>> float(gradient_penalty(lambda x: x @ weights, torch.rand(8, 2), torch.rand(8, 2), torch.rand(8)))
        16.0

    Reference:
        Gulrajani et al., Improved training of Wasserstein GANs, 2017, equation 3 and algorithm 1.
        https://arxiv.org/abs/1704.00028
    """
    return (gradient_norms(critic, interpolate(real, fake, fraction)) - 1).square().mean()


def zero_centred_penalty(critic: Critic, images: Tensor) -> Tensor:
    """E[||grad critic(x)||_2^2]: R1 at real images, R2 at generated ones; weigh with gamma / 2.

    Example:
        >>> weights = torch.tensor([3.0, 4.0])
        >>> float(zero_centred_penalty(lambda x: x @ weights, torch.rand(8, 2)))
        25.0

    Reference:
        Mescheder, Geiger and Nowozin, Which training methods for GANs do actually converge?, 2018, equations
        9 and 10. https://arxiv.org/abs/1801.04406
    """
    return gradient_norms(critic, images).square().mean()


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Put every weight of a critic back into [-bound, bound], in place; do it after each of its steps.

    Example:
        >>> critic = nn.Linear(1, 1)
        >>> _ = nn.init.constant_(critic.weight, 3.0)
        >>> clip_weights(critic, 0.01)
        >>> round(float(critic.weight.detach()), 4)
        0.01

    Reference:
        Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017, algorithm 1 (bound 0.01).
        https://arxiv.org/abs/1701.07875
    """
    for parameter in network.parameters():
        parameter.clamp_(-bound, bound)
