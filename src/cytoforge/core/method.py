"""The contract between the loop and every model: a method is networks plus turns.

A GAN has two turns, a variational autoencoder, a diffusion model and a classifier one, a CycleGAN four.
The loop knows nothing else about them.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.record import Record


class MethodConfig(Record):
    """Settings of one method; each method has its own subclass."""


@dataclass(frozen=True)
class Turn:
    """One network's move.

    Attributes:
        network: name of the network that is updated; the others stay as they are.
        losses: batch -> named scalars; their sum is minimised, each is logged under its name.
        every: takes part in every `every`-th step (a generator that moves after five critic steps: 5).
    """

    network: str
    losses: Callable[[Batch], Mapping[str, Tensor]]
    every: int = 1


class Method(ABC):
    """A model that can be trained and sampled.

    Attributes:
        networks: name -> module. The loop may replace a module by a wrapped one, so losses look it up here.
        name: word on the command line.
        config_type: the settings' class.
        presets: name -> settings, of the method or of the loop, that replace defaults.
        averaged: networks of which a moving average is kept and used for sampling; others may be named.
        needs_masks: whether training needs cells with masks.
        frozen_in_refinement: what `train --from` leaves as it is unless told otherwise: patterns of
            `<network>/<parameter>`.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[MethodConfig]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    averaged: ClassVar[tuple[str, ...]] = ()
    needs_masks: ClassVar[bool] = False
    frozen_in_refinement: ClassVar[tuple[str, ...]] = ()

    networks: dict[str, nn.Module]

    @abstractmethod
    def __init__(self, config: MethodConfig, shape: DataShape) -> None: ...

    @abstractmethod
    def turns(self) -> tuple[Turn, ...]:
        """The moves of one step, in order."""

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """A fresh optimizer for each network that has a turn."""

    @abstractmethod
    def noise(self, seeds: NDArray[Any] | Tensor) -> Tensor:
        """What `sample` starts from, one draw for each seed: (N, ...) float32."""

    @abstractmethod
    def sample(self, noise: Tensor, labels: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] from noise (N, ...), labels (N,) and an optional condition."""

    @classmethod
    def uses_masks(cls, config: MethodConfig) -> bool:
        """Whether training with these settings needs masks; `needs_masks` where settings do not matter."""
        return cls.needs_masks

    @classmethod
    def draws_masks(cls) -> bool:
        """Whether the method draws the masks itself that its images are painted onto."""
        return cls.masks is not Method.masks

    @classmethod
    def translates(cls) -> bool:
        """Whether images are made from images of another class, see `source_labels`."""
        return cls.source_labels is not Method.source_labels

    @classmethod
    def opponent(cls, config: MethodConfig) -> str | None:
        """Extractor whose features training uses, so that it must not judge the images; None for none."""
        return None

    @classmethod
    def needs_start(cls, config: MethodConfig) -> str | None:
        """Why training with these settings must start from another run's weights; None where it need not."""
        return None

    def masks(self, noise: Tensor, labels: Tensor) -> Tensor | None:
        """Masks that the method draws itself and `sample` takes for its condition; None where it draws none.

        Args:
            noise: (N, ...) as `noise` gives it.
            labels: (N,).

        Returns:
            (N, 2, H, W) in {0, 1}, cytoplasm and nucleus, or None.
        """
        return None

    def condition(self, cells: Batch) -> Tensor | None:
        """What `sample` takes for its condition, out of real cells.

        Args:
            cells: of the classes to be drawn, or of `source_labels`; with masks where training uses masks.

        Returns:
            (N, C, H, W), by default the masks; None where there is nothing to be steered by.
        """
        return cells.masks

    def source_labels(self, labels: Tensor) -> Tensor | None:
        """For images of these classes, the classes whose images `sample` takes for its condition.

        Args:
            labels: (N,) classes to be drawn.

        Returns:
            (N,), or None for methods that do not translate images.
        """
        return None

    def replaced(self, networks: Mapping[str, nn.Module]) -> Self:
        """This method with some of its networks exchanged; everything else is shared."""
        other = copy.copy(self)
        other.networks = {**self.networks, **networks}
        return other
