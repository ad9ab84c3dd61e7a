"""What every network that names classes looks like: maps, what the head sees of them, and a linear head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cytoforge.core.errors import ConfigError
from cytoforge.data.augment import square_views

EXPLAINABLE = "only convolutional networks and transformers like ViT and Swin can be explained."


class ImageClassifier(nn.Module, ABC):
    """Images -> feature maps -> features -> logits.

    Attributes:
        head: last layer, from features (N, D) to logits (N, K).
        width: D.
        frozen: names of the parameters that training leaves as they are.
    """

    head: nn.Module
    width: int
    frozen: frozenset[str] = frozenset()

    @abstractmethod
    def maps(self, images: Tensor) -> Tensor:
        """The last feature maps of images (N, 3, R, R) in [-1, 1]; `grid` makes them (N, C, h, w)."""

    @abstractmethod
    def pooled(self, maps: Tensor) -> Tensor:
        """What the head sees (N, D) of feature maps as `maps` gives them."""

    def explained(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The last activations that differ by place, and the logits (N, K) as a function of them alone.

        Args:
            images: (N, 3, R, R) in [-1, 1].

        Raises:
            ConfigError: the network keeps them in more than one tensor.
        """
        with torch.no_grad():
            maps: Any = self.maps(images)
        if not isinstance(maps, Tensor):
            raise ConfigError(f"{type(self).__name__} has features of several kinds: {EXPLAINABLE}")
        maps = maps.detach().requires_grad_()
        logits: Tensor = self.head(self.pooled(maps))
        return maps, logits

    def grid(self, activations: Tensor) -> Tensor:
        """What `explained` gives, or its slopes, as maps (N, C, h, w)."""
        return activations

    def features(self, images: Tensor) -> Tensor:
        """What the head sees (N, D) of images (N, 3, R, R) in [-1, 1]."""
        return self.pooled(self.maps(images))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, 3, R, R) in [-1, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits


def over_views(network: Callable[[Tensor], Tensor], images: Tensor, views: int) -> Tensor:
    """What a network says of images (N, 3, R, R), as they are or in the mean over flips and quarter turns.

    Args:
        network: as it is called.
        images: square.
        views: 1, or 8 for all flips and turns.
    """
    if views == 1:
        return network(images)
    return torch.stack([network(view) for view in square_views(images)]).mean(0)


class StandardisedLinear(nn.Module):
    """A linear layer on features that were brought to mean 0 and deviation 1.

    Attributes:
        mean: (D,) of the training features.
        deviation: (D,) likewise.
        linear: from standardised features (N, D) to logits (N, K).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", self.linear.weight.new_zeros(width))
        self.register_buffer("deviation", self.linear.weight.new_ones(width))

    def fit_scale(self, features: Tensor) -> None:
        """Take mean and deviation from features (N, D); weights change with them, so that logits do not."""
        mean, deviation = features.mean(0), features.std(0).clamp(min=1e-3)
        with torch.no_grad():
            self.linear.bias.add_(self.linear.weight @ ((mean - self.mean) / self.deviation))
            self.linear.weight.mul_(deviation / self.deviation)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        logits: Tensor = self.linear((features - self.mean) / self.deviation)
        return logits
