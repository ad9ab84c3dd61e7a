"""Learning rates that change while training, without a word of it in the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW

Rate = Callable[[float], float]
"""Share of the training that is done, 0 to 1 -> factor of the learning rate."""


def one_cycle(share: float, rise: float = 0.2) -> float:
    """Up along a cosine during the first `rise` of the training, then down to 0 along another.

    Example:
        >>> [round(one_cycle(share), 3) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
        [0.04, 0.52, 1.0, 0.5, 0.0]

    Reference:
        Smith and Topin, Super-convergence, 2018. https://arxiv.org/abs/1708.07120
    """
    if share < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * share / rise)) / 2
    return cosine((share - rise) / (1 - rise))


def cosine(share: float) -> float:
    """From 1 to 0 along half a cosine.

    Example:
        >>> cosine(0.0), round(cosine(0.5), 3), cosine(1.0)
        (1.0, 0.5, 0.0)

    Reference:
        Loshchilov and Hutter, SGDR, 2017. https://arxiv.org/abs/1608.03983
    """
    return (1 + math.cos(math.pi * min(share, 1.0))) / 2


def constant(share: float) -> float:
    """1 throughout."""
    return 1.0


def delayed(rate: Rate, start: float) -> Rate:
    """0 until `start`, then `rate` over what is left.

    Example:
        >>> later = delayed(cosine, 0.5)
        >>> later(0.4), later(0.5), round(later(0.75), 3)
        (0.0, 1.0, 0.5)
    """

    def later(share: float) -> float:
        return 0.0 if share < start else rate((share - start) / (1 - start))

    return later


class ScheduledAdamW(AdamW):
    """AdamW whose rates follow the number of its own steps, which checkpoints hold anyway.

    Args:
        groups: parameters, their learning rate and how it changes.
        steps: of the whole training.
        weight_decay: of parameters with two axes or more; biases and norms have none.
    """

    def __init__(
        self, groups: Sequence[tuple[Iterable[nn.Parameter], float, Rate]], steps: int, weight_decay: float
    ) -> None:
        settings: list[dict[str, Any]] = []
        self._plan: list[tuple[float, Rate]] = []
        for parameters, rate, schedule in groups:
            own = list(parameters)
            matrices = [parameter for parameter in own if parameter.ndim > 1]
            others = [parameter for parameter in own if parameter.ndim <= 1]
            for chosen, decay in ((matrices, weight_decay), (others, 0.0)):
                if chosen:
                    settings.append({"params": chosen, "lr": rate, "weight_decay": decay})
                    self._plan.append((rate, schedule))
        self._steps = steps
        super().__init__(settings, fused=True)

    def step(self, closure: Any = None) -> Any:
        """One step at the rates of this moment."""
        share = min(self._taken() / self._steps, 1.0)
        for group, (rate, schedule) in zip(self.param_groups, self._plan, strict=True):
            group["lr"] = rate * schedule(share)
        return super().step(closure)

    def _taken(self) -> float:
        """Steps taken so far, from the state of the first parameter, which is saved and restored."""
        state = self.state.get(self.param_groups[0]["params"][0], {})
        return float(state["step"]) if "step" in state else 0.0
