"""What two players minimise: functions of the scores (logits) of real and fake images.

Each family is a pair (discriminator loss, generator loss); both take scores of any shape and return a scalar.
Adding a family is two functions and one line in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

DiscriminatorLoss = Callable[[Tensor, Tensor], Tensor]
GeneratorLoss = Callable[[Tensor, Tensor], Tensor]


def minimax_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of telling real from fake: E[softplus(-real)] + E[softplus(fake)].

    Args:
        real: scores of real images, any shape.
        fake: scores of generated images, any shape.

    Returns:
        Scalar.

    Example:
        >>> import torch
        >>> round(float(minimax_discriminator(torch.ones(2), torch.ones(2))), 4)
        1.6265

    Reference:
        Goodfellow et al., Generative adversarial nets, 2014, equation 1. https://arxiv.org/abs/1406.2661
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def minimax_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The saturating generator loss -E[softplus(fake)]; arguments and reference as above."""
    return -F.softplus(fake).mean()


def non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E[softplus(-fake)], whose gradient does not vanish when the discriminator is sure.

    Example:
        >>> import torch
        >>> round(float(non_saturating_generator(torch.ones(2), torch.ones(2))), 4)
        0.3133

    Reference:
        Goodfellow et al., 2014, section 3. https://arxiv.org/abs/1406.2661
    """
    return F.softplus(-fake).mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 - real)] + E[max(0, 1 + fake)].

    Example:
        >>> import torch
        >>> float(hinge_discriminator(torch.ones(2), torch.ones(2)))
        2.0

    Reference:
        Lim and Ye, Geometric GAN, 2017. https://arxiv.org/abs/1705.02894
    """
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[fake] - E[real], minus the critic's estimate of the Wasserstein-1 distance.

    Example:
        >>> import torch
        >>> float(wasserstein_critic(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 0.0])))
        -1.5

    Reference:
        Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017, equation 3. https://arxiv.org/abs/1701.07875
    """
    return fake.mean() - real.mean()


def wasserstein_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E[fake]; also the generator's side of the hinge loss.

    Example:
        >>> import torch
        >>> float(wasserstein_generator(torch.ones(2), torch.ones(2)))
        -1.0
    """
    return -fake.mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[softplus(-(real - fake))] over pairs: how sure it is that the real one of each pair is the real one.

    Example:
        >>> import torch
        >>> round(float(relativistic_discriminator(torch.ones(2), torch.ones(2))), 6)  # ln 2
        0.693147

    Reference:
        Huang et al., The GAN is dead; long live the GAN!, 2024, equation 2. https://arxiv.org/abs/2501.05441
    """
    return F.softplus(fake - real).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E[softplus(-(fake - real))] over pairs; reference as for the discriminator."""
    return F.softplus(real - fake).mean()


FAMILIES: dict[str, tuple[DiscriminatorLoss, GeneratorLoss]] = {
    "minimax": (minimax_discriminator, minimax_generator),
    "non-saturating": (minimax_discriminator, non_saturating_generator),
    "hinge": (hinge_discriminator, wasserstein_generator),
    "wasserstein": (wasserstein_critic, wasserstein_generator),
    "relativistic": (relativistic_discriminator, relativistic_generator),
}
