"""What an autoencoder makes of real cells: reconstructions, and the way from one cell to another."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.core.batch import to_float, to_uint8
from cytoforge.core.errors import ConfigError
from cytoforge.methods.cvae import VariationalAutoencoder
from cytoforge.sampling.generator import Generator

BATCH = 32


def codes(generator: Generator, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The most likely code of each cell.

    Args:
        generator: a trained variational autoencoder.
        images: (N, R, R, 3), N at least 1.
        labels: (N,)

    Returns:
        (N, latent)

    Raises:
        ConfigError: the generator has no way from an image to a code.
    """
    method = generator.method
    if not isinstance(method, VariationalAutoencoder):
        raise ConfigError(
            f"{method.name} cannot reconstruct: it has no way from an image to its code. Train cvae."
        )
    parts = []
    with torch.inference_mode():
        for part in np.array_split(np.arange(len(labels)), -(-len(labels) // BATCH)):
            shown = to_float(images[part]).to(generator.device)
            parts.append(method.encode(shown, torch.from_numpy(labels[part]).to(generator.device)).cpu())
    encoded: NDArray[np.float32] = torch.cat(parts).numpy()
    return encoded


def decoded(
    generator: Generator, encoded: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The image of each code (N, latent) in a class (N,): (N, R, R, 3)."""
    parts = []
    with torch.inference_mode():
        for part in np.array_split(np.arange(len(labels)), -(-len(labels) // BATCH)):
            noise = torch.from_numpy(encoded[part]).to(generator.device)
            chosen = torch.from_numpy(labels[part]).to(generator.device)
            parts.append(to_uint8(generator.method.sample(noise, chosen)))
    return np.concatenate(parts)


def way_between(
    generator: Generator, images: NDArray[np.uint8], label: int, steps: int = 8
) -> NDArray[np.uint8]:
    """The cells between two real ones of a class, on the straight line between their codes.

    A straight line, not a great circle as between two draws of noise: codes of real cells are known points,
    and how long they are means something.

    Args:
        generator: a trained variational autoencoder.
        images: (2, R, R, 3).
        label: their class.
        steps: images of the way, both reconstructions included.

    Returns:
        (steps + 2, R, R, 3), the real cells first and last.
    """
    first, last = codes(generator, images, np.array([label, label]))
    shares = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    between = decoded(generator, first + shares * (last - first), np.full(steps, label))
    return np.concatenate([images[:1], between, images[1:]])
