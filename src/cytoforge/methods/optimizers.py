"""The optimizer of nearly every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn
from torch.optim import Adam, Optimizer


def adam_for_each(
    networks: Mapping[str, nn.Module], rate: float | Callable[[str], float], betas: tuple[float, float]
) -> dict[str, Optimizer]:
    """A fresh, fused Adam for each network.

    Args:
        networks: by name.
        rate: learning rate of all, or of a network by its name.
        betas: decay rates of the two moments.

    Example:
        >>> made = adam_for_each({"critic": nn.Linear(1, 1)}, lambda name: len(name) / 1000, (0.5, 0.9))
        >>> made["critic"].defaults["lr"]
        0.006
    """
    return {
        name: Adam(network.parameters(), rate(name) if callable(rate) else rate, betas, fused=True)
        for name, network in networks.items()
    }
