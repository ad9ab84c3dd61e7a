"""Which image comes at which position of training: a pure function of seed and position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import DataError
from cytoforge.core.randomness import derive


class Sampler:
    """An endless order of images that can be entered anywhere.

    Balanced, every class comes once in each cycle of as many positions as there are classes, and each class
    goes through all its images before one comes again. Otherwise each epoch is one permutation of all images.

    Args:
        labels: (N,) int64 class of each image; classes without images are passed over.
        seed: the run's seed.
        balanced: each class equally often, whatever its size.
    """

    def __init__(self, labels: NDArray[np.int64], seed: int, balanced: bool = True) -> None:
        if len(labels) == 0:
            raise DataError("no images to sample from; check the split: its training part is empty.")
        self._seed = seed
        pools = [np.flatnonzero(labels == value) for value in np.unique(labels)]
        self._pools = pools if balanced else [np.arange(len(labels))]
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def indices(self, start: int, count: int) -> NDArray[np.int64]:
        """The images at positions `start` to `start + count`: (count,) indices into the labels.

        Example:
            >>> sampler = Sampler(np.array([0, 0, 0, 1]), seed=0)
            >>> sorted(np.array([0, 0, 0, 1])[sampler.indices(0, 4)].tolist())
            [0, 0, 1, 1]
        """
        cycles, slots = np.divmod(np.arange(start, start + count), len(self._pools))
        result = np.empty(count, np.int64)
        for cycle in np.unique(cycles):
            chosen = cycles == cycle
            classes = self._permutation(len(self._pools), "classes", int(cycle))[slots[chosen]]
            result[chosen] = [self._nth(int(pool), int(cycle)) for pool in classes]
        return result

    def _nth(self, pool: int, turn: int) -> np.int64:
        """The image that class `pool` gives when its turn comes for the `turn`-th time."""
        members = self._pools[pool]
        epoch, offset = divmod(turn, len(members))
        known, order = self._orders.get(pool, (-1, members))
        if known != epoch:
            order = members[self._permutation(len(members), f"pool {pool}", epoch)]
            self._orders[pool] = (epoch, order)
        picked: np.int64 = order[offset]
        return picked

    def _permutation(self, count: int, name: str, number: int) -> NDArray[np.int64]:
        return np.random.default_rng(derive(self._seed, "sampler", name, number)).permutation(count)
