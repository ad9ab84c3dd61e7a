"""A trained method, ready to draw: the image of a class and a seed is always the same image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.core.batch import DataShape, to_uint8
from cytoforge.core.checkpoint import Checkpoint, load_checkpoint
from cytoforge.core.errors import CheckpointError, ConfigError
from cytoforge.core.method import Method
from cytoforge.core.run import Run
from cytoforge.data.cache import mask_levels
from cytoforge.methods.catalogue import rebuild
from cytoforge.training.state import load_modules

MICRO_BATCH = 8
"""Images that are always computed together; see `Generator.images`."""


@dataclass(frozen=True)
class Drawn:
    """Images and what they were drawn from.

    Attributes:
        images: (N, R, R, 3) uint8.
        masks: (N, R, R) uint8, 0 background, 1 cytoplasm, 2 nucleus; None for methods without masks.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Generator:
    """A trained method, ready to sample.

    Attributes:
        method: with the averaged weights where the run keeps an average, in evaluation mode; float32, but for
            the frozen weights of `text-to-image`, which are bfloat16 unless its settings say otherwise.
        shape: of the images.
        device: where it computes.
    """

    method: Method
    shape: DataShape
    device: torch.device

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; a label is an index into them."""
        return self.shape.classes

    def images(
        self,
        label: int | Sequence[int],
        seeds: Sequence[int],
        truncation: float = 1.0,
        condition: Tensor | None = None,
    ) -> NDArray[np.uint8]:
        """The images of a class (or of one class each) and some seeds.

        Each image is bit-equal alone, in any company and after a restart: it is computed in a batch of
        `MICRO_BATCH` images and always in the same place of it, seed modulo `MICRO_BATCH`. (Convolutions give
        other last bits in batches of another size, and may do so in another place of one batch.)

        Args:
            label: index of the class, or (N,) of them.
            seeds: (N,) non-negative integers.
            truncation: factor in (0, 1] on the noise; below 1, images are more alike and more typical.
            condition: (N, C, R, R) to draw from, as `Method.sample` takes it. None takes the masks that the
                method draws itself, if it does.

        Returns:
            (N, R, R, 3)

        Raises:
            ConfigError: the method needs masks, draws none itself and was given none.
        """
        return self.draw(label, seeds, truncation, condition).images

    def draw(
        self,
        label: int | Sequence[int],
        seeds: Sequence[int],
        truncation: float = 1.0,
        condition: Tensor | None = None,
    ) -> Drawn:
        """As `images`, with the masks that they were drawn from."""
        if not len(seeds):
            side = self.shape.resolution
            none = np.zeros((0, side, side), np.uint8) if self.shape.mask_channels else None
            return Drawn(np.zeros((0, side, side, 3), np.uint8), none)
        labels = np.broadcast_to(np.asarray(label, np.int64), len(seeds))
        noise = self.method.noise(np.asarray(seeds, np.int64)) * truncation
        return self._from_noise(noise, labels, [int(seed) % MICRO_BATCH for seed in seeds], condition)

    def from_noise(
        self,
        noise: Tensor,
        labels: NDArray[np.int64],
        places: Sequence[int] | None = None,
        condition: Tensor | None = None,
    ) -> NDArray[np.uint8]:
        """Images from noise that no seed gives, such as a blend of two.

        Args:
            noise: (N, ...) as the method draws it.
            labels: (N,)
            places: (N,) place of each image in its micro-batch; in turn where not given.
            condition: as for `images`.

        Returns:
            (N, R, R, 3)
        """
        places = places or [index % MICRO_BATCH for index in range(len(labels))]
        return self._from_noise(noise, labels, places, condition).images

    def _from_noise(
        self,
        noise: Tensor,
        labels: NDArray[np.int64],
        places: Sequence[int],
        condition: Tensor | None,
    ) -> Drawn:
        side = self.shape.resolution
        images = np.empty((len(labels), side, side, 3), np.uint8)
        drawn = np.empty((len(labels), side, side), np.uint8) if self.shape.mask_channels else None
        for batch in micro_batches(places):
            rows = [batch.get(place, next(iter(batch.values()))) for place in range(MICRO_BATCH)]
            given = None if condition is None else condition[rows]
            made = self._sample(noise[rows], torch.from_numpy(labels[rows]), given)
            for place, index in batch.items():
                images[index] = made.images[place]
                if drawn is not None and made.masks is not None:
                    drawn[index] = made.masks[place]
        return Drawn(images, drawn)

    def _sample(self, noise: Tensor, labels: Tensor, given: Tensor | None) -> Drawn:
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            noise, labels = noise.to(self.device), labels.to(self.device)
            condition = self.method.masks(noise, labels) if given is None else given.to(self.device)
            if condition is None and self.shape.mask_channels:
                raise ConfigError(
                    f"{self.method.name} draws images from masks and makes none itself; add --masks FOLDER: "
                    "a data set in the paired layout, or a synthetic set with masks."
                )
            made = self.method.sample(noise, labels, condition)
        if not torch.isfinite(made).all():
            raise CheckpointError(
                "the network gives NaN or infinite pixels: its training had diverged. Use another checkpoint "
                "(--checkpoint best or newest), or train again."
            )
        masks = None if condition is None or not self.shape.mask_channels else mask_levels(condition)
        return Drawn(to_uint8(made), masks)


def open_generator(run: Run, checkpoint: str = "best", device: str = "cpu") -> Generator:
    """The trained method of a run.

    Args:
        run: an existing run folder.
        checkpoint: "best" by the score measured while training, or "newest".
        device: "cpu" or "cuda".

    Raises:
        CheckpointError: there is no intact checkpoint, or it does not fit the configuration.
        ConfigError: this version does not know the run's method, or there is no such device.
    """
    return restored(run, load_checkpoint(run.checkpoints, checkpoint), device)


def restored(run: Run, loaded: Checkpoint, device: str = "cpu") -> Generator:
    """As `open_generator`, from a checkpoint that is already read."""
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(
            f"--device: {device!r} is not usable on this machine; leave it out to compute on the CPU."
        )
    method = rebuild(run.config)
    for kind in ("network", "average"):
        names = [name for name in method.networks if (name in method.averaged) == (kind == "average")]
        load_modules(loaded.tensors, kind, {name: method.networks[name] for name in names})
    for network in method.networks.values():
        network.eval().to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    shape = DataShape(
        run.config["preparation"]["resolution"], tuple(run.config["classes"]), run.config["mask_channels"]
    )
    return Generator(method, shape, torch.device(device))


def micro_batches(places: Sequence[int]) -> list[dict[int, int]]:
    """Deal images to micro-batches: each batch maps a place to the index of the image in it.

    Example:
        >>> micro_batches([0, 1, 0, 2])
        [{0: 0, 1: 1, 2: 3}, {0: 2}]
    """
    batches: list[dict[int, int]] = []
    used = [0] * MICRO_BATCH
    for index, place in enumerate(places):
        if used[place] == len(batches):
            batches.append({})
        batches[used[place]][place] = index
        used[place] += 1
    return batches
