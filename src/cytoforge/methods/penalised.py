"""Penalties and bounds of a discriminator, as settings: what methods with any loss family share."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from cytoforge.core.errors import ConfigError
from cytoforge.core.method import MethodConfig
from cytoforge.losses.penalty import Critic, clip_weights, gradient_penalty, zero_centred_penalty


class PenaltyConfig(MethodConfig):
    """Weights of the penalties; 0 leaves one out."""

    gradient_penalty: float = Field(0.0, ge=0, description="weight of (gradient length - 1)^2, as in WGAN-GP")
    r1: float = Field(
        0.0, ge=0, description="weight of half the discriminator's squared gradient at real images"
    )
    r2: float = Field(0.0, ge=0, description="weight of half the squared gradient at generated images")


class BoundedConfig(PenaltyConfig):
    """The penalties, and a bound on the weights themselves."""

    weight_clip: float | None = Field(None, gt=0, description="bound of each weight of the discriminator")


def clip_after_each_step(optimizer: Optimizer, network: nn.Module, bound: float | None) -> None:
    """Let an optimizer put its network's weights back into [-bound, bound]; without a bound, nothing.

    Reference:
        Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017, algorithm 1. https://arxiv.org/abs/1701.07875
    """
    if bound is not None:
        optimizer.register_step_post_hook(lambda *_: clip_weights(network, bound))


def require_bound(loss: str, bounds: Mapping[str, object], setting: str = "loss") -> None:
    """Refuse the Wasserstein distance without a bound on the discriminator.

    Args:
        loss: loss family.
        bounds: settings as they are written -> whether each is on; one is enough.
        setting: name of the loss family's.

    Raises:
        ConfigError: the loss is "wasserstein" and none is on: it would fall without end.

    Reference:
        Arjovsky, Chintala and Bottou, Wasserstein GAN, 2017, section 3. https://arxiv.org/abs/1701.07875
    """
    if loss == "wasserstein" and not any(bounds.values()):
        raise ConfigError(
            f"{setting}=wasserstein needs a bound on the discriminator, or its loss falls without end; add "
            f"one of {', '.join(bounds)}."
        )


def penalties(
    config: PenaltyConfig, critic: Critic, real: Tensor, fake: Tensor, fraction: Tensor
) -> dict[str, Tensor]:
    """The penalties that have a weight, weighed; see `losses.penalty`.

    Args:
        config: the weights.
        critic: images (N, C, H, W) -> scores (N,).
        real: (N, C, H, W) in [-1, 1].
        fake: (N, C, H, W) in [-1, 1].
        fraction: (N,) in [0, 1], the point between fake (0) and real (1) of each pair.

    Returns:
        Name of the setting -> scalar.
    """
    found = {}
    if config.gradient_penalty:
        found["gradient_penalty"] = config.gradient_penalty * gradient_penalty(critic, real, fake, fraction)
    if config.r1:
        found["r1"] = config.r1 / 2 * zero_centred_penalty(critic, real)
    if config.r2:
        found["r2"] = config.r2 / 2 * zero_centred_penalty(critic, fake)
    return found
