"""A run becomes a synthetic set; the image of a class and a seed is always the same image."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.core.batch import DataShape, to_uint8
from cytoforge.core.checkpoint import Checkpoint, load_checkpoint
from cytoforge.core.errors import CheckpointError, ConfigError, DataError
from cytoforge.core.files import sha256_bytes, sha256_file, write_atomic
from cytoforge.core.method import Method
from cytoforge.core.png import decode_png, encode_png
from cytoforge.core.progress import progress
from cytoforge.core.run import Run
from cytoforge.methods.catalogue import rebuild
from cytoforge.sampling.card import card
from cytoforge.sampling.pictures import labelled_rows, slerp
from cytoforge.sampling.provenance import (
    CARD,
    CONTACT,
    INTERPOLATION,
    MANIFEST,
    Companion,
    Entry,
    Header,
    Manifest,
    class_folders,
    image_file,
    image_marks,
    mark_fault,
    read_manifest,
    set_marks,
    write_manifest,
)
from cytoforge.training.state import load_modules

MICRO_BATCH = 8
"""Images that are always computed together; see `Generator.images`."""

SEEDS_PER_CLASS = 1_000_000
"""Class k takes its default seeds from k times this number, so that no two images share their noise."""

_MOST_SEEDS = 10_000_000
_CONTACT_COLUMNS = 10
_STEPS = 4


@dataclass(frozen=True)
class Generator:
    """A trained method, ready to sample.

    Attributes:
        method: with the averaged weights where the run keeps an average, float32, in evaluation mode.
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
        self, label: int | Sequence[int], seeds: Sequence[int], truncation: float = 1.0
    ) -> NDArray[np.uint8]:
        """The images of a class (or of one class each) and some seeds.

        Each image is bit-equal alone, in any company and after a restart: it is computed in a batch of
        `MICRO_BATCH` images and always in the same place of it, seed modulo `MICRO_BATCH`. (Convolutions give
        other last bits in batches of another size, and may do so in another place of one batch.)

        Args:
            label: index of the class, or (N,) of them.
            seeds: (N,) non-negative integers.
            truncation: factor in (0, 1] on the noise; below 1, images are more alike and more typical.

        Returns:
            (N, R, R, 3)
        """
        if not len(seeds):
            return np.zeros((0, self.shape.resolution, self.shape.resolution, 3), np.uint8)
        labels = np.broadcast_to(np.asarray(label, np.int64), len(seeds))
        noise = self.method.noise(np.asarray(seeds, np.int64)) * truncation
        return self.from_noise(noise, labels, [int(seed) % MICRO_BATCH for seed in seeds])

    def from_noise(
        self, noise: Tensor, labels: NDArray[np.int64], places: Sequence[int] | None = None
    ) -> NDArray[np.uint8]:
        """Images from noise that no seed gives, such as a blend of two.

        Args:
            noise: (N, ...) as the method draws it.
            labels: (N,)
            places: (N,) place of each image in its micro-batch; in turn where not given.

        Returns:
            (N, R, R, 3)
        """
        places = places or [index % MICRO_BATCH for index in range(len(labels))]
        images = np.empty((len(labels), self.shape.resolution, self.shape.resolution, 3), np.uint8)
        for batch in _batches(places):
            rows = [batch.get(place, next(iter(batch.values()))) for place in range(MICRO_BATCH)]
            made = self._sample(noise[rows], torch.from_numpy(labels[rows]))
            for place, index in batch.items():
                images[index] = made[place]
        return images

    def _sample(self, noise: Tensor, labels: Tensor) -> NDArray[np.uint8]:
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            made = self.method.sample(noise.to(self.device), labels.to(self.device))
        if not torch.isfinite(made).all():
            raise CheckpointError(
                "the network gives NaN or infinite pixels: its training had diverged. Use another checkpoint "
                "(--checkpoint best or newest), or train again."
            )
        return to_uint8(made)


@dataclass(frozen=True)
class Made:
    """What `generate` did.

    Attributes:
        folder: the set.
        images: in the set now.
        made: of them, by this call.
        kept: of them, intact from before.
    """

    folder: Path
    images: int
    made: int
    kept: int


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
    return _generator(run, load_checkpoint(run.checkpoints, checkpoint), device)


def generate(
    run: Run,
    out: Path,
    wanted: Sequence[tuple[str, int]],
    *,
    truncation: float = 1.0,
    checkpoint: str = "best",
    device: str = "cpu",
) -> Made:
    """Write a synthetic set, or add to one that the same generator began.

    Every file appears whole or not at all, and those that are there and intact are kept: after an
    interruption the same call goes on, and what results is the same, byte for byte.

    Args:
        run: an existing run folder.
        out: new, empty, or a set of this very generator.
        wanted: class name and seed of each image.
        truncation: as for `Generator.images`, in (0, 1].
        checkpoint: "best" or "newest".
        device: "cpu" or "cuda".

    Raises:
        CheckpointError: the run has no usable checkpoint.
        ConfigError: `wanted` or `truncation` make no sense, or `out` holds something else.
        DataError: the disk is full or the folder cannot be written; what is finished is kept.
    """
    loaded = load_checkpoint(run.checkpoints, checkpoint)
    generator = _generator(run, loaded, device)
    header = _header(run, out, loaded, truncation=truncation, checkpoint=checkpoint, device=device)
    _check_wanted(wanted, truncation, header)
    before = _earlier(out, header)
    header = before.header
    asked = {image_file(header.folders, label, seed): (label, seed) for label, seed in wanted}
    asked |= {entry.file: (entry.label, entry.seed) for entry in before.images}
    planned = {file: _entry(header, *pair) for file, pair in asked.items()}
    planned |= {entry.file: entry for entry in before.images}
    _remove_leftovers(out)
    kept = {file: sha for file, entry in planned.items() if (sha := _intact(out, header, entry)) is not None}
    write_manifest(out, Manifest(header, tuple(_hashed(planned, kept))))
    with _threads(header.threads):
        made = _make(generator, header, out, [entry for file, entry in planned.items() if file not in kept])
        images = tuple(_hashed(planned, {**kept, **made}))
        companions = _companions(generator, run, out, Manifest(header, images))
    write_manifest(out, Manifest(header, images, companions))
    return Made(out, len(images), len(made), len(kept))


def interpolation(generator: Generator, truncation: float = 1.0) -> dict[str, NDArray[np.uint8]]:
    """How images change between three seeds, the same noise in each class.

    Args:
        generator: a trained method.
        truncation: as for `Generator.images`.

    Returns:
        class -> (9, R, R, 3); images 0, 4 and 8 are those of seeds 0, 1 and 2.
    """
    keys = generator.method.noise(np.arange(3)) * truncation
    shares = torch.linspace(0, 1, _STEPS + 1)
    ways = [slerp(start, end, shares)[:-1] for start, end in pairwise(keys)]
    noise = torch.cat([*ways, keys[-1:]])
    return {
        name: generator.from_noise(noise, np.full(len(noise), label))
        for label, name in enumerate(generator.classes)
    }


def default_seeds(classes: Sequence[str], per_class: int) -> list[tuple[str, int]]:
    """Class and seed of `per_class` images of each class; no two images of the set share a seed.

    Raises:
        ConfigError: `per_class` is out of range.

    Example:
        >>> default_seeds(("Koilocytotic", "Parabasal"), 2)
        [('Koilocytotic', 0), ('Koilocytotic', 1), ('Parabasal', 1000000), ('Parabasal', 1000001)]
    """
    if not 1 <= per_class <= SEEDS_PER_CLASS:
        raise ConfigError(f"--per-class: expected 1 to {SEEDS_PER_CLASS}, got {per_class}.")
    return [
        (name, label * SEEDS_PER_CLASS + number)
        for label, name in enumerate(classes)
        for number in range(per_class)
    ]


def parse_seeds(text: str) -> list[int]:
    """Seeds from numbers and ranges, both ends included, each once.

    Raises:
        ConfigError: it is not such a list, or names more than ten million.

    Example:
        >>> parse_seeds("0-3,7,2")
        [0, 1, 2, 3, 7]
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        low, high = first, last if dash else first
        if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high) < 2**63):
            raise ConfigError(f'--seeds: expected numbers and ranges such as "0-99,200", got {text[:80]!r}.')
        if int(high) - int(low) + len(seeds) >= _MOST_SEEDS:
            raise ConfigError(f"--seeds: more than {_MOST_SEEDS} images at once; ask for fewer.")
        seeds |= dict.fromkeys(range(int(low), int(high) + 1))
    return list(seeds)


def _generator(run: Run, loaded: Checkpoint, device: str) -> Generator:
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


def _header(
    run: Run, out: Path, loaded: Checkpoint, *, truncation: float, checkpoint: str, device: str
) -> Header:
    packages = ("cytoforge", "torch", "numpy", "pillow")
    classes = tuple(run.config["classes"])
    return Header(
        method=run.config["method"],
        config_sha256=run.config_hash,
        checkpoint=checkpoint,
        checkpoint_sha256=sha256_file(loaded.path / "tensors.safetensors"),
        seen=int(loaded.state["seen"]),
        truncation=truncation,
        preparation=run.config["preparation"],
        classes=classes,
        folders=class_folders(classes),
        run=_relative(run.path, out),
        split_sha256=run.config.get("split_sha256"),
        versions={"python": platform.python_version(), **{name: version(name) for name in packages}},
        threads=torch.get_num_threads(),
        device=device,
    )


def _relative(run: Path, out: Path) -> str:
    try:
        return Path(os.path.relpath(run.resolve(), out.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return run.resolve().as_posix()


def _check_wanted(wanted: Sequence[tuple[str, int]], truncation: float, header: Header) -> None:
    if not 0 < truncation <= 1:
        raise ConfigError(f"--truncation: expected more than 0 and at most 1, got {truncation}.")
    if not wanted:
        raise ConfigError("no image was asked for; give --per-class N, or --class NAME with --seeds 0-99.")
    unknown = sorted({label for label, _ in wanted} - set(header.classes))
    if unknown:
        raise ConfigError(
            f"the run has no class {unknown[0]!r}; it has {', '.join(map(repr, header.classes))}."
        )


def _earlier(out: Path, header: Header) -> Manifest:
    """What the same generator left in `out`; its header is kept, but for the place of the run."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return Manifest(header, ())
    if not (out / MANIFEST).is_file():
        raise ConfigError(f"{out} is not empty and is not a synthetic set. Give --out a new or empty folder.")
    before = read_manifest(out)
    movable = {"run": "", "threads": 0}
    old, new = (item.model_dump() | movable for item in (before.header, header))
    differing = [name for name in new if old[name] != new[name]]
    if differing:
        raise ConfigError(
            f"{out} holds images of another generator (different: {', '.join(differing)}). "
            "Give --out a new or empty folder."
        )
    return replace(before, header=before.header.model_copy(update={"run": header.run}))


def _entry(header: Header, label: str, seed: int) -> Entry:
    file = image_file(header.folders, label, seed)
    return Entry.model_validate(
        {"file": file, "class": label, "seed": seed, "truncation": header.truncation, "sha256": None}
    )


def _intact(out: Path, header: Header, entry: Entry) -> str | None:
    """Hash of the file where it is what it should be, None where it must be made (again)."""
    path = out / entry.file
    if path.is_symlink() or not path.is_file():
        return None
    content = path.read_bytes()
    sha256 = sha256_bytes(content)
    if entry.sha256 is not None:
        return sha256 if sha256 == entry.sha256 else None
    return None if mark_fault(content, image_marks(header, entry.label, entry.seed)) else sha256


def _make(generator: Generator, header: Header, out: Path, entries: Sequence[Entry]) -> dict[str, str]:
    """Make and write the images; file -> hash."""
    hashes: dict[str, str] = {}
    with progress("cells", len(entries)) as advance:
        for batch in _batches([entry.seed % MICRO_BATCH for entry in entries]):
            group = [entries[index] for index in batch.values()]
            labels = [header.classes.index(entry.label) for entry in group]
            images = generator.images(labels, [entry.seed for entry in group], header.truncation)
            for entry, image in zip(group, images, strict=True):
                content = encode_png(image, image_marks(header, entry.label, entry.seed))
                _write(out / entry.file, content)
                hashes[entry.file] = sha256_bytes(content)
            advance(len(group))
    return hashes


def _write(path: Path, content: bytes) -> None:
    if path.is_symlink() or path.parent.is_symlink():
        raise DataError(f"{path} is reached through a link; a set holds none. Remove it and run again.")
    write_atomic(path, content)


def _companions(generator: Generator, run: Run, out: Path, manifest: Manifest) -> tuple[Companion, ...]:
    """Write the pictures and the card."""
    header = manifest.header
    pictures = {
        CONTACT: labelled_rows(_first_images(out, manifest)),
        INTERPOLATION: labelled_rows(interpolation(generator, header.truncation)),
    }
    contents = {name: encode_png(image, set_marks(header)) for name, image in pictures.items()}
    contents[CARD] = card(manifest, run).encode()
    for name, content in contents.items():
        _write(out / name, content)
    return tuple(Companion(file=name, sha256=sha256_bytes(content)) for name, content in contents.items())


def _first_images(out: Path, manifest: Manifest) -> dict[str, NDArray[np.uint8]]:
    """The images with the lowest seeds of each class that has some, as files hold them."""
    rows = {}
    for name in manifest.header.classes:
        entries = sorted(
            (entry for entry in manifest.images if entry.label == name), key=lambda entry: entry.seed
        )
        if entries:
            files = [(out / entry.file).read_bytes() for entry in entries[:_CONTACT_COLUMNS]]
            rows[name] = np.stack([decode_png(content)[0] for content in files])
    return rows


def _hashed(planned: dict[str, Entry], hashes: dict[str, str]) -> Iterator[Entry]:
    for file, entry in sorted(planned.items()):
        yield entry.model_copy(update={"sha256": hashes.get(file)})


def _batches(places: Sequence[int]) -> list[dict[int, int]]:
    """Deal images to micro-batches: each batch maps a place to the index of the image in it.

    Example:
        >>> _batches([0, 1, 0, 2])
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


def _remove_leftovers(out: Path) -> None:
    """Temporary files of a process that was killed while it wrote."""
    for path in [
        *out.glob(".*.png.*"),
        *out.glob("*/.*.png.*"),
        *out.glob(f".{MANIFEST}.*"),
        *out.glob(f".{CARD}.*"),
    ]:
        path.unlink(missing_ok=True)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with as many threads as the set was begun with."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
