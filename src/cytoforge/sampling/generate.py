"""A run becomes a synthetic set on disk, and goes on where an earlier call stopped."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from cytoforge.core.checkpoint import Checkpoint, load_checkpoint
from cytoforge.core.device import computing_threads
from cytoforge.core.errors import CheckpointError, ConfigError, DataError
from cytoforge.core.executors import Executor
from cytoforge.core.files import sha256_bytes, write_atomic
from cytoforge.core.jobs import Job, run_jobs
from cytoforge.core.png import encode_png
from cytoforge.core.progress import progress
from cytoforge.core.run import Run, require_empty
from cytoforge.data.transform import Preparation
from cytoforge.sampling.companions import companions
from cytoforge.sampling.conditions import Conditions, open_edges, open_masks
from cytoforge.sampling.generator import MICRO_BATCH, Generator, micro_batches, restored
from cytoforge.sampling.provenance import (
    CARD,
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
    place_of,
    read_manifest,
    write_manifest,
)
from cytoforge.sampling.sealed import MANIFEST

Hashes = tuple[str, str | None]
"""SHA-256 of an image file and of its mask's."""

PART = 256
"""Images that one job of an executor makes."""

_JOBS = ".jobs"


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


def generate(
    run: Run,
    out: Path,
    wanted: Sequence[tuple[str, int]],
    *,
    truncation: float = 1.0,
    checkpoint: str = "best",
    device: str = "cpu",
    masks: Path | None = None,
    edges: Path | None = None,
    executor: Executor = "serial",
    workers: int | None = None,
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
        edges: folder with images of each class whose edges are to be followed, see `conditions.open_edges`;
            None leaves outlines to the method.
        executor: where images are made; see `core.jobs`. A set that is begun by another than "serial" is
            computed with one thread a process, and whatever adds to it too: bits depend on their number.
        workers: processes at once; None takes what the executor offers.

    Raises:
        CheckpointError: the run has no usable checkpoint.
        ConfigError: `wanted` or `truncation` make no sense, the method takes no masks or edges, `out` holds
            something else, or the executor cannot be used.
        DataError: the disk is full or the folder cannot be written; what is finished is kept.
    """
    loaded = load_checkpoint(run.checkpoints, checkpoint)
    generator = restored(run, loaded, device)
    folders = (masks, edges)
    source = _source(run, *folders)
    header = _header(
        run, out, loaded, truncation=truncation, checkpoint=checkpoint, device=device, source=source
    )
    if executor != "serial":
        header = header.model_copy(update={"threads": 1})
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
    with computing_threads(header.threads):
        missing = [entry for file, entry in planned.items() if file not in kept]
        if executor == "serial":
            made = _make(generator, header, out, missing, source)
        else:
            made = _make_elsewhere(run, header, out, missing, folders, executor, workers)
        images = tuple(_hashed(planned, {**kept, **made}))
        written = companions(generator, run, out, Manifest(header, images), source)
    for name, content in written.items():
        _write(out / name, content)
    beside = tuple(Companion(file=name, sha256=sha256_bytes(content)) for name, content in written.items())
    write_manifest(out, Manifest(header, images, beside))
    return Made(out, len(images), len(made), len(kept))


def _source(run: Run, masks: Path | None, edges: Path | None) -> Conditions | None:
    method = run.config["method"]
    if masks is not None and not run.config["mask_channels"]:
        raise ConfigError(f"--masks: {method} draws no images from masks; leave it out.")
    if edges is not None and run.config["settings"].get("condition") != "edges":
        raise ConfigError(
            f"--edges: this {method} was not trained to follow edges; leave it out, or train diffusion with "
            "--set condition=edges."
        )
    classes, preparation = run.config["classes"], Preparation.model_validate(run.config["preparation"])
    if masks is not None:
        return open_masks(masks, classes, preparation)
    return None if edges is None else open_edges(edges, classes, preparation)


def drawing_versions() -> dict[str, str]:
    """Package -> version of everything that the bits of an image depend on."""
    packages = ("cytoforge", "torch", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _header(
    run: Run,
    out: Path,
    loaded: Checkpoint,
    *,
    truncation: float,
    checkpoint: str,
    device: str,
    source: Conditions | None,
) -> Header:
    classes = tuple(run.config["classes"])
    given = {} if source is None else {source.kind: source.sha256}
    return Header(
        method=run.config["method"],
        config_sha256=run.config_hash,
        checkpoint=checkpoint,
        checkpoint_sha256=loaded.sha256,
        seen=int(loaded.state["seen"]),
        truncation=truncation,
        preparation=run.config["preparation"],
        classes=classes,
        folders=class_folders(classes),
        run=place_of(run.path, out),
        split_sha256=run.config.get("split_sha256"),
        versions=drawing_versions(),
        threads=torch.get_num_threads(),
        device=device,
        masks_sha256=given.get("masks"),
        edges_sha256=given.get("edges"),
    )


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
    if not (out / MANIFEST).is_file():
        require_empty(out, advice="It is no synthetic set either. Give --out a new or empty folder.")
        return Manifest(header, ())
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
    generator: Generator, header: Header, out: Path, entries: Sequence[Entry], source: Conditions | None
) -> dict[str, Hashes]:
    """Make and write images and masks; file -> hashes."""
    hashes: dict[str, Hashes] = {}
    with progress("cells", len(entries)) as advance:
        for batch in micro_batches([entry.seed % MICRO_BATCH for entry in entries]):
            group = [entries[index] for index in batch.values()]
            labels = [header.classes.index(entry.label) for entry in group]
            given = None
            if source is not None:
                given = torch.stack([source.of(entry.label, entry.seed) for entry in group])
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


def _make_elsewhere(
    run: Run,
    header: Header,
    out: Path,
    entries: Sequence[Entry],
    folders: Sequence[Path | None],
    executor: Executor,
    workers: int | None,
) -> dict[str, Hashes]:
    """The same by jobs of neighbouring seeds, so that micro-batches are full; file -> hashes."""
    common = {
        "run": str(run.path.resolve()),
        "out": str(out.resolve()),
        "folders": [None if folder is None else str(folder.resolve()) for folder in folders],
        "header": header.model_dump(mode="json"),
    }
    ordered = sorted(entries, key=lambda entry: entry.seed)
    parts = [ordered[start : start + PART] for start in range(0, len(ordered), PART)]
    jobs = [
        Job({**common, "entries": [entry.model_dump(mode="json", by_alias=True) for entry in part]})
        for part in parts
    ]
    found = run_jobs(make_part, jobs, out / _JOBS, executor, workers, f"cells, by {PART}", header.threads)
    shutil.rmtree(out / _JOBS, ignore_errors=True)
    return {file: (image, mask) for result in found for file, (image, mask) in result["hashes"].items()}


def make_part(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """One job of `generate`: some images of a set, in the worker.

    Args:
        parameters: run, set, folders of masks and edges, header of the set, and the entries to make.
        folder: of the job; unused, images go into the set.

    Returns:
        "hashes": file -> SHA-256 of image and mask.

    Raises:
        CheckpointError: the checkpoint is another than when the set was begun.
    """
    header = Header.model_validate(parameters["header"])
    generator, source = _reopened(
        parameters["run"], header.checkpoint, header.checkpoint_sha256, header.device, *parameters["folders"]
    )
    entries = [Entry.model_validate(entry) for entry in parameters["entries"]]
    return {"hashes": _make(generator, header, Path(parameters["out"]), entries, source)}


@lru_cache(maxsize=1)
def _reopened(
    run: str, checkpoint: str, sha256: str, device: str, *folders: str | None
) -> tuple[Generator, Conditions | None]:
    opened = Run.open(Path(run))
    loaded = load_checkpoint(opened.checkpoints, checkpoint)
    if loaded.sha256 != sha256:
        raise CheckpointError(f"{run} has a new checkpoint since the set was begun; give another --out.")
    masks, edges = (None if folder is None else Path(folder) for folder in folders)
    return restored(opened, loaded, device), _source(opened, masks, edges)


def _written(path: Path, content: bytes) -> str:
    _write(path, content)
    return sha256_bytes(content)


def _write(path: Path, content: bytes) -> None:
    if path.is_symlink() or path.parent.is_symlink():
        raise DataError(f"{path} is reached through a link; a set holds none. Remove it and run again.")
    write_atomic(path, content)


def _hashed(planned: dict[str, Entry], hashes: dict[str, Hashes]) -> Iterator[Entry]:
    for file, entry in sorted(planned.items()):
        image, mask = hashes.get(file, (None, None))
        yield entry.model_copy(update={"sha256": image, "mask_sha256": mask})


def _remove_leftovers(out: Path) -> None:
    """Temporary files of a process that was killed while it wrote."""
    shutil.rmtree(out / _JOBS, ignore_errors=True)
    for path in [
        *out.glob(".*.png.*"),
        *out.glob("*/.*.png.*"),
        *out.glob("masks/*/.*.png.*"),
        *out.glob(f".{MANIFEST}.*"),
        *out.glob(f".{CARD}.*"),
    ]:
        path.unlink(missing_ok=True)
