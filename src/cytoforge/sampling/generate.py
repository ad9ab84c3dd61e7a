"""A run becomes a synthetic set; the image of a class and a seed is always the same image."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Literal

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
from cytoforge.data.cache import mask_channels, mask_levels
from cytoforge.data.transform import Preparation
from cytoforge.methods.catalogue import rebuild
from cytoforge.sampling.card import card
from cytoforge.sampling.conditions import MaskFolder, open_masks
from cytoforge.sampling.pictures import labelled_rows, painted_masks, slerp
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
    mask_file,
    mask_marks,
    read_manifest,
    set_marks,
    write_manifest,
)
from cytoforge.training.state import load_modules

MICRO_BATCH = 8
"""Images that are always computed together; see `Generator.images`."""

SEEDS_PER_CLASS = 1_000_000
"""Class k takes its default seeds from k times this number, so that no two images share their noise."""

Hashes = tuple[str, str | None]
"""SHA-256 of an image file and of its mask's."""

_MOST_SEEDS = 10_000_000
_CONTACT_COLUMNS = 10
_STEPS = 4


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
        self,
        label: int | Sequence[int],
        seeds: Sequence[int],
        truncation: float = 1.0,
        masks: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """The images of a class (or of one class each) and some seeds.

        Each image is bit-equal alone, in any company and after a restart: it is computed in a batch of
        `MICRO_BATCH` images and always in the same place of it, seed modulo `MICRO_BATCH`. (Convolutions give
        other last bits in batches of another size, and may do so in another place of one batch.)

        Args:
            label: index of the class, or (N,) of them.
            seeds: (N,) non-negative integers.
            truncation: factor in (0, 1] on the noise; below 1, images are more alike and more typical.
            masks: (N, R, R) to draw from; 0 background, 1 cytoplasm, 2 nucleus. None asks the
                method.

        Returns:
            (N, R, R, 3)

        Raises:
            ConfigError: the method needs masks, draws none itself and was given none.
        """
        return self.draw(label, seeds, truncation, masks).images

    def draw(
        self,
        label: int | Sequence[int],
        seeds: Sequence[int],
        truncation: float = 1.0,
        masks: NDArray[np.uint8] | None = None,
    ) -> Drawn:
        """As `images`, with the masks that they were drawn from."""
        if not len(seeds):
            side = self.shape.resolution
            none = np.zeros((0, side, side), np.uint8) if self.shape.mask_channels else None
            return Drawn(np.zeros((0, side, side, 3), np.uint8), none)
        labels = np.broadcast_to(np.asarray(label, np.int64), len(seeds))
        noise = self.method.noise(np.asarray(seeds, np.int64)) * truncation
        return self._from_noise(noise, labels, [int(seed) % MICRO_BATCH for seed in seeds], masks)

    def from_noise(
        self,
        noise: Tensor,
        labels: NDArray[np.int64],
        places: Sequence[int] | None = None,
        masks: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Images from noise that no seed gives, such as a blend of two.

        Args:
            noise: (N, ...) as the method draws it.
            labels: (N,)
            places: (N,) place of each image in its micro-batch; in turn where not given.
            masks: as for `images`.

        Returns:
            (N, R, R, 3)
        """
        places = places or [index % MICRO_BATCH for index in range(len(labels))]
        return self._from_noise(noise, labels, places, masks).images

    def _from_noise(
        self,
        noise: Tensor,
        labels: NDArray[np.int64],
        places: Sequence[int],
        masks: NDArray[np.uint8] | None,
    ) -> Drawn:
        side = self.shape.resolution
        images = np.empty((len(labels), side, side, 3), np.uint8)
        drawn = np.empty((len(labels), side, side), np.uint8) if self.shape.mask_channels else None
        for batch in _batches(places):
            rows = [batch.get(place, next(iter(batch.values()))) for place in range(MICRO_BATCH)]
            given = None if masks is None else mask_channels(masks[rows])
            made = self._sample(noise[rows], torch.from_numpy(labels[rows]), given)
            for place, index in batch.items():
                images[index] = made.images[place]
                if drawn is not None and made.masks is not None:
                    drawn[index] = made.masks[place]
        return Drawn(images, drawn)

    def _sample(self, noise: Tensor, labels: Tensor, masks: Tensor | None) -> Drawn:
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            noise, labels = noise.to(self.device), labels.to(self.device)
            condition = self.method.masks(noise, labels) if masks is None else masks.to(self.device)
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
        return Drawn(to_uint8(made), None if condition is None else mask_levels(condition))


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
    masks: Path | None = None,
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
        masks: folder with masks of each class to draw from, see `conditions.open_masks`; None leaves them to
            the method.

    Raises:
        CheckpointError: the run has no usable checkpoint.
        ConfigError: `wanted` or `truncation` make no sense, or `out` holds something else.
        DataError: the disk is full or the folder cannot be written; what is finished is kept.
    """
    loaded = load_checkpoint(run.checkpoints, checkpoint)
    generator = _generator(run, loaded, device)
    source = _source(run, masks)
    header = _header(
        run, out, loaded, truncation=truncation, checkpoint=checkpoint, device=device, source=source
    )
    _check_wanted(wanted, truncation, header)
    before = _earlier(out, header)
    header = before.header
    asked = {image_file(header.folders, label, seed): (label, seed) for label, seed in wanted}
    asked |= {entry.file: (entry.label, entry.seed) for entry in before.images}
    masked = bool(generator.shape.mask_channels)
    planned = {file: _entry(header, *pair, masked) for file, pair in asked.items()}
    planned |= {entry.file: entry for entry in before.images}
    _remove_leftovers(out)
    kept = {
        file: hashes for file, entry in planned.items() if (hashes := _intact(out, header, entry)) is not None
    }
    write_manifest(out, Manifest(header, tuple(_hashed(planned, kept))))
    with _threads(header.threads):
        missing = [entry for file, entry in planned.items() if file not in kept]
        made = _make(generator, header, out, missing, source)
        images = tuple(_hashed(planned, {**kept, **made}))
        companions = _companions(generator, run, out, Manifest(header, images), source)
    write_manifest(out, Manifest(header, images, companions))
    return Made(out, len(images), len(made), len(kept))


def interpolation(
    generator: Generator, truncation: float = 1.0, source: MaskFolder | None = None
) -> dict[str, NDArray[np.uint8]]:
    """How images change between three seeds, the same noise in each class.

    Args:
        generator: a trained method.
        truncation: as for `Generator.images`.
        source: where masks come from; the first mask of each class stays the same.

    Returns:
        class -> (9, R, R, 3); images 0, 4 and 8 are those of seeds 0, 1 and 2.
    """
    keys = generator.method.noise(np.arange(3)) * truncation
    shares = torch.linspace(0, 1, _STEPS + 1)
    ways = [slerp(start, end, shares)[:-1] for start, end in pairwise(keys)]
    noise = torch.cat([*ways, keys[-1:]])
    return {
        name: generator.from_noise(
            noise, np.full(len(noise), label), masks=_same_mask(source, name, len(noise))
        )
        for label, name in enumerate(generator.classes)
        if source is None or source.files[name]
    }


def _same_mask(source: MaskFolder | None, label: str, count: int) -> NDArray[np.uint8] | None:
    return None if source is None else np.repeat(source.of(label, 0)[None], count, axis=0)


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


def _source(run: Run, masks: Path | None) -> MaskFolder | None:
    if masks is None:
        return None
    if not run.config["mask_channels"]:
        raise ConfigError(f"--masks: {run.config['method']} draws no images from masks; leave it out.")
    preparation = Preparation.model_validate(run.config["preparation"])
    return open_masks(masks, run.config["classes"], preparation)


def _header(
    run: Run,
    out: Path,
    loaded: Checkpoint,
    *,
    truncation: float,
    checkpoint: str,
    device: str,
    source: MaskFolder | None,
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
        masks_sha256=None if source is None else source.sha256,
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


def _entry(header: Header, label: str, seed: int, masked: bool) -> Entry:
    file = image_file(header.folders, label, seed)
    return Entry.model_validate(
        {
            "file": file,
            "class": label,
            "seed": seed,
            "truncation": header.truncation,
            "sha256": None,
            "mask": mask_file(file) if masked else None,
        }
    )


def _intact(out: Path, header: Header, entry: Entry) -> Hashes | None:
    """Hashes of image and mask where both are what they should be, None where they must be made (again)."""
    marks = image_marks(header, entry.label, entry.seed)
    image = _intact_file(out / entry.file, entry.sha256, marks, "RGB")
    if entry.mask is None or image is None:
        return None if image is None else (image, None)
    marks = mask_marks(header, entry.label, entry.seed)
    mask = _intact_file(out / entry.mask, entry.mask_sha256, marks, "L")
    return None if mask is None else (image, mask)


def _intact_file(
    path: Path, stated: str | None, marks: Mapping[str, str], mode: Literal["RGB", "L"]
) -> str | None:
    if path.is_symlink() or not path.is_file():
        return None
    content = path.read_bytes()
    sha256 = sha256_bytes(content)
    if stated is not None:
        return sha256 if sha256 == stated else None
    return None if mark_fault(content, marks, mode) else sha256


def _make(
    generator: Generator, header: Header, out: Path, entries: Sequence[Entry], source: MaskFolder | None
) -> dict[str, Hashes]:
    """Make and write images and masks; file -> hashes."""
    hashes: dict[str, Hashes] = {}
    with progress("cells", len(entries)) as advance:
        for batch in _batches([entry.seed % MICRO_BATCH for entry in entries]):
            group = [entries[index] for index in batch.values()]
            labels = [header.classes.index(entry.label) for entry in group]
            given = (
                None if source is None else np.stack([source.of(entry.label, entry.seed) for entry in group])
            )
            drawn = generator.draw(labels, [entry.seed for entry in group], header.truncation, given)
            for row, entry in enumerate(group):
                mask = None
                if entry.mask is not None and drawn.masks is not None:
                    content = encode_png(drawn.masks[row], mask_marks(header, entry.label, entry.seed))
                    mask = _written(out / entry.mask, content)
                content = encode_png(drawn.images[row], image_marks(header, entry.label, entry.seed))
                hashes[entry.file] = (_written(out / entry.file, content), mask)
            advance(len(group))
    return hashes


def _written(path: Path, content: bytes) -> str:
    _write(path, content)
    return sha256_bytes(content)


def _write(path: Path, content: bytes) -> None:
    if path.is_symlink() or path.parent.is_symlink():
        raise DataError(f"{path} is reached through a link; a set holds none. Remove it and run again.")
    write_atomic(path, content)


def _companions(
    generator: Generator, run: Run, out: Path, manifest: Manifest, source: MaskFolder | None
) -> tuple[Companion, ...]:
    """Write the pictures and the card."""
    header = manifest.header
    pictures = {
        CONTACT: labelled_rows(_first_images(out, manifest)),
        INTERPOLATION: labelled_rows(interpolation(generator, header.truncation, source)),
    }
    contents = {name: encode_png(image, set_marks(header)) for name, image in pictures.items()}
    contents[CARD] = card(manifest, run).encode()
    for name, content in contents.items():
        _write(out / name, content)
    return tuple(Companion(file=name, sha256=sha256_bytes(content)) for name, content in contents.items())


def _first_images(out: Path, manifest: Manifest) -> dict[str, NDArray[np.uint8]]:
    """The images with the lowest seeds of each class that has some, as files hold them; masks below them."""
    rows = {}
    for name in manifest.header.classes:
        entries = sorted(
            (entry for entry in manifest.images if entry.label == name), key=lambda entry: entry.seed
        )
        if entries:
            shown = entries[:_CONTACT_COLUMNS]
            rows[name] = np.stack([decode_png((out / entry.file).read_bytes())[0] for entry in shown])
            masks = [(out / entry.mask).read_bytes() for entry in shown if entry.mask is not None]
            if masks:
                rows[f"masks: {name}"] = painted_masks(
                    np.stack([decode_png(content, "L")[0] for content in masks])
                )
    return rows


def _hashed(planned: dict[str, Entry], hashes: dict[str, Hashes]) -> Iterator[Entry]:
    for file, entry in sorted(planned.items()):
        image, mask = hashes.get(file, (None, None))
        yield entry.model_copy(update={"sha256": image, "mask_sha256": mask})


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
        *out.glob("masks/*/.*.png.*"),
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
