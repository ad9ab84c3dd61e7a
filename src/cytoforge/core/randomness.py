"""Random numbers that depend on a seed and a name only, never on batch size, order or process.

Every image, real or synthetic, carries one seed. Whatever is random about it (its noise, its augmentation)
is drawn from the pair (image seed, stream name). Image 7 is the same image alone, in a batch of 64, on the
second of four processes and after a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MASK = (1 << 63) - 1


def derive(*parts: int | str) -> int:
    """A 63-bit seed that depends on all parts and their order.

    Example:
        >>> derive(0, "noise") == derive(0, "noise"), derive(0, "noise") == derive(1, "noise")
        (True, False)
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") & _MASK


def unsigned(seed: int) -> int:
    """The seed itself; in place of a negative or long one, which scikit-learn refuses, one of 31 bits.

    Example:
        >>> unsigned(7), unsigned(-1) == unsigned(-1), unsigned(-1) == unsigned(-2)
        (7, True, False)
    """
    return seed if 0 <= seed < 2**31 else derive(seed) >> 32


def image_seeds(seed: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """One seed for each position in the stream of training images.

    Args:
        seed: the run's seed.
        positions: (N,) how many images had been seen before each.

    Returns:
        (N,) seeds in [0, 2^63).

    Reference:
        Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014 (the mixing function).
    """
    z = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(derive(seed, "image"))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) & np.uint64(_MASK)).astype(np.int64)


def normal(seeds: NDArray[np.int64] | Tensor, shape: Sequence[int], stream: str) -> Tensor:
    """Standard normal numbers, one independent draw for each seed.

    Args:
        seeds: (N,) image seeds.
        shape: shape of one draw.
        stream: what the numbers are for; other names give independent numbers.

    Returns:
        (N, *shape) float32.
    """
    draws = [generator.standard_normal(tuple(shape), np.float32) for generator in _generators(seeds, stream)]
    return torch.from_numpy(np.stack(draws))


def uniform(seeds: NDArray[np.int64] | Tensor, shape: Sequence[int], stream: str) -> Tensor:
    """Uniform numbers in [0, 1), one independent draw for each seed; arguments as for `normal`."""
    draws = [generator.random(tuple(shape), np.float32) for generator in _generators(seeds, stream)]
    return torch.from_numpy(np.stack(draws))


def _generators(seeds: NDArray[np.int64] | Tensor, stream: str) -> list[np.random.Generator]:
    words = derive(stream)
    return [np.random.Generator(np.random.Philox(key=[int(seed), words])) for seed in seeds]
