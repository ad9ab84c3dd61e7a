"""What two players minimise: functions of the scores (logits) of real and fake images.

Each family is a pair (discriminator loss, generator loss); both take scores of any shape and return a scalar.
Adding a family is two functions and one line in `FAMILIES` and a word in `Family`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
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


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[(real - 1)^2] / 2 + E[fake^2] / 2.

    Example:
        >>> import torch
        >>> float(least_squares_discriminator(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 2.0])))
        2.0

    Reference:
        Mao et al., Least squares generative adversarial networks, 2017, equation 9 (labels 0 and 1).
        https://arxiv.org/abs/1611.04076
    """
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E[(fake - 1)^2] / 2; reference as for the discriminator.

    Example:
        >>> import torch
        >>> float(least_squares_generator(torch.zeros(2), torch.tensor([3.0, 1.0])))
        1.0
    """
    return (fake - 1).square().mean() / 2


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


def relativistic_hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 - (real - fake))] over pairs.

    Example:
        >>> import torch
        >>> float(relativistic_hinge_discriminator(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])))
        1.0

    Reference:
        Jolicoeur-Martineau, The relativistic discriminator, 2018, section 4 (pairs).
        https://arxiv.org/abs/1807.00734
    """
    return F.relu(1 - (real - fake)).mean()


def relativistic_hinge_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 - (fake - real))] over pairs; reference as for the discriminator."""
    return relativistic_hinge_discriminator(fake, real)


def relativistic_least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[(real - fake - 1)^2] over pairs; reference as for the hinge.

    Example:
        >>> import torch
        >>> float(relativistic_least_squares_discriminator(torch.tensor([3.0]), torch.tensor([0.0])))
        4.0
    """
    return (real - fake - 1).square().mean()


def relativistic_least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E[(fake - real - 1)^2] over pairs."""
    return relativistic_least_squares_discriminator(fake, real)


@dataclass(frozen=True)
class Divergence:
    """An f-divergence as two functions of a score v.

    Attributes:
        activation: g(v), which brings a score into the domain of the conjugate f*.
        conjugate: f*(g(v)), written out so that no logarithm of an exponential is taken.

    Reference:
        Nowozin, Cseke and Tomioka, f-GAN, 2016, tables 2 and 6. https://arxiv.org/abs/1606.00709
    """

    activation: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-E[g(real)] + E[f*(g(fake))]: minus the lower bound of the divergence, equations 6 and 7.

        Example:
            Kullback-Leibler: g(v) = v, f*(t) = exp(t - 1).

            >>> import torch
            >>> float(DIVERGENCES["kl"].discriminator(torch.tensor([3.0]), torch.tensor([1.0])))
            -2.0
        """
        return self.conjugate(fake).mean() - self.activation(real).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-E[g(fake)], section 3.2: its gradient does not vanish when the discriminator is sure.

        Example:
            >>> import torch
            >>> float(DIVERGENCES["pearson"].generator(torch.zeros(1), torch.tensor([3.0])))
            -3.0
        """
        return -self.activation(fake).mean()


_LN2 = math.log(2)

DIVERGENCES: dict[str, Divergence] = {
    "kl": Divergence(lambda v: v, lambda v: torch.exp(v - 1)),
    "reverse-kl": Divergence(lambda v: -torch.exp(-v), lambda v: v - 1),
    "pearson": Divergence(lambda v: v, lambda v: v.square() / 4 + v),
    "squared-hellinger": Divergence(lambda v: 1 - torch.exp(-v), lambda v: torch.exp(v) - 1),
    "jensen-shannon": Divergence(lambda v: _LN2 - F.softplus(-v), lambda v: F.softplus(v) - _LN2),
}

Family = Literal[
    "minimax",
    "non-saturating",
    "least-squares",
    "hinge",
    "wasserstein",
    "relativistic",
    "relativistic-hinge",
    "relativistic-least-squares",
    "f-kl",
    "f-reverse-kl",
    "f-pearson",
    "f-squared-hellinger",
    "f-jensen-shannon",
]

FAMILIES: dict[str, tuple[DiscriminatorLoss, GeneratorLoss]] = {
    "minimax": (minimax_discriminator, minimax_generator),
    "non-saturating": (minimax_discriminator, non_saturating_generator),
    "least-squares": (least_squares_discriminator, least_squares_generator),
    "hinge": (hinge_discriminator, wasserstein_generator),
    "wasserstein": (wasserstein_critic, wasserstein_generator),
    "relativistic": (relativistic_discriminator, relativistic_generator),
    "relativistic-hinge": (relativistic_hinge_discriminator, relativistic_hinge_generator),
    "relativistic-least-squares": (
        relativistic_least_squares_discriminator,
        relativistic_least_squares_generator,
    ),
    **{f"f-{name}": (found.discriminator, found.generator) for name, found in DIVERGENCES.items()},
}


FREE: dict[str, tuple[float, float]] = {
    "minimax": (math.inf, -math.inf),
    "non-saturating": (math.inf, -math.inf),
    "least-squares": (1.0, 0.0),
    "hinge": (1.0, -1.0),
    "wasserstein": (0.0, 0.0),
    "f-kl": (0.0, -math.inf),
    "f-reverse-kl": (math.inf, 1.0),
    "f-pearson": (0.0, 0.0),
    "f-squared-hellinger": (0.0, 0.0),
    "f-jensen-shannon": (0.0, 0.0),
}
"""A score of real and one of generated images that adds nothing to the discriminator's loss, for those that a
batch lacks. Relativistic families have none: they compare pairs."""


def cross_entropy_to(scores: Tensor, targets: Tensor) -> Tensor:
    """E[binary cross-entropy] between scores and targets of one's own, such as smoothed or flipped labels.

    Args:
        scores: (N,) logits.
        targets: (N,) in [0, 1].

    Returns:
        Scalar; with targets 1 for real and 0 for fake the two sum to `minimax_discriminator`.

    Example:
        >>> import torch
        >>> round(float(cross_entropy_to(torch.zeros(2), torch.tensor([0.9, 0.2]))), 6)  # ln 2 at score 0
        0.693147

    Reference:
        Salimans et al., Improved techniques for training GANs, 2016, section 3.4 (label smoothing).
        https://arxiv.org/abs/1606.03498
    """
    return F.binary_cross_entropy_with_logits(scores.float(), targets.float())


def squares_to(scores: Tensor, targets: Tensor) -> Tensor:
    """E[(score - target)^2] / 2, least squares to targets of one's own; arguments as for `cross_entropy_to`.

    Example:
        >>> import torch
        >>> float(squares_to(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])))
        1.0
    """
    return (scores - targets).square().mean() / 2


TARGETED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "minimax": cross_entropy_to,
    "non-saturating": cross_entropy_to,
    "least-squares": squares_to,
}
"""Families whose discriminator has a label for each image, which can be smoothed or flipped."""


def soft_labels(real: bool, smoothing: Tensor, flips: Tensor, most: float, share: float) -> Tensor:
    """Labels for a discriminator that must not be too sure.

    Args:
        real: whether the images are real.
        smoothing: (N,) uniform in [0, 1), how much of the smoothing each label gets.
        flips: (N,) uniform in [0, 1); below `share` the label is exchanged.
        most: largest smoothing; 0.1 gives 0.9 to 1 for real and 0 to 0.1 for fake images.
        share: of labels that are exchanged.

    Returns:
        (N,) in [0, 1].

    Example:
        >>> import torch
        >>> soft_labels(True, torch.tensor([0.0, 0.5, 0.5]), torch.tensor([0.5, 0.5, 0.01]), 0.1, 0.05)
        tensor([1.0000, 0.9500, 0.0500])

    Reference:
        SynCGAN, section on the mask GAN (source 002).
    """
    label = 1 - most * smoothing if real else most * smoothing
    return torch.where(flips < share, 1 - label, label)
