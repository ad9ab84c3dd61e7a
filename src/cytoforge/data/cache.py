"""Every cell decoded once, kept on disk as plain bytes and read through a memory map."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.core.batch import Batch, DataShape, to_float
from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json, sha256_bytes, sha256_file, write_json
from cytoforge.core.progress import progress
from cytoforge.data.cells import Cell, CellSet, Fault
from cytoforge.data.contours import CYTOPLASM, NUCLEUS, UNKNOWN
from cytoforge.data.folder import mask_files, read_image, read_mask
from cytoforge.data.images import decode_bytes, quiet_decoders, read_bytes
from cytoforge.data.transform import Preparation, prepare, prepare_mask

MASK_CHANNELS = (CYTOPLASM, NUCLEUS)
_FORMAT = 1
_CHUNK = 64
_DAY = 86_400.0


@dataclass(frozen=True)
class CachedCells:
    """Prepared cells on disk; only what is asked for comes into memory.

    Attributes:
        shape: resolution, classes and mask channels.
        preparation: how the pictures were prepared.
        labels: (N,) int64.
        names: (N) as in the data set.
        groups: (N).
        hashes: (N) SHA-256 of each image file (of the pixels, for rows of an archive).
        faults: files that were left out, and files that were converted.
        stored_images: (M, R, R, 3) uint8, a memory map of all images in the cache.
        stored_masks: (M, R, R) uint8, likewise, or None.
        rows: (N,) where each cell lies in the stored arrays.
    """

    shape: DataShape
    preparation: Preparation
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    hashes: tuple[str, ...]
    faults: tuple[Fault, ...]
    stored_images: NDArray[np.uint8]
    stored_masks: NDArray[np.uint8] | None
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, R, R, 3) uint8: the memory map itself where all cells are kept in order, else a copy."""
        return self.stored_images if self._is_whole else self.stored_images[self.rows]

    @property
    def masks(self) -> NDArray[np.uint8] | None:
        """(N, R, R) uint8, 0 background, 1 cytoplasm, 2 nucleus, 3 unknown; None where no cell has a mask."""
        if self.stored_masks is None or self._is_whole:
            return self.stored_masks
        return self.stored_masks[self.rows]

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (n, R, R, 3) uint8, without keeping any of the file in memory."""
        images = self.stored_images[self.rows[indices]]
        _release(self.stored_images)
        return images

    def batch(self, indices: NDArray[np.int64], seeds: NDArray[np.int64]) -> Batch:
        """The cells at `indices` (n,) as a batch, with one random seed (n,) for each."""
        labels = torch.from_numpy(self.labels[indices])
        masks = None
        if self.stored_masks is not None:
            masks = mask_channels(self.stored_masks[self.rows[indices]])
            _release(self.stored_masks)
        return Batch(
            to_float(self.read(indices)), labels, torch.from_numpy(np.asarray(seeds, np.int64)), masks
        )

    def select(self, names: Iterable[str]) -> CachedCells:
        """The cells with these names, in this order of the cache; nothing is copied.

        Raises:
            DataError: none of the names is here.
        """
        wanted = set(names)
        kept = np.array([index for index, name in enumerate(self.names) if name in wanted], np.int64)
        if len(kept) == 0:
            raise DataError(
                f"none of the {len(wanted)} named images is in the data set; is it the right folder?"
            )
        return replace(
            self,
            labels=self.labels[kept],
            names=tuple(self.names[index] for index in kept),
            groups=tuple(self.groups[index] for index in kept),
            hashes=tuple(self.hashes[index] for index in kept),
            rows=self.rows[kept],
        )

    def without_masks(self) -> CachedCells:
        """The same cells for a method that uses no masks; nothing is copied."""
        return replace(self, stored_masks=None, shape=replace(self.shape, mask_channels=0))

    def with_masks(self) -> CachedCells:
        """The cells whose mask is known in at least one pixel; nothing is copied.

        Raises:
            DataError: no cell has a mask, or none of some class.
        """
        known = np.zeros(len(self), bool)
        if self.stored_masks is not None:
            known[:] = [(self.stored_masks[row] != UNKNOWN).any() for row in self.rows]
            _release(self.stored_masks)
        for label, name in enumerate(self.shape.classes):
            if (self.labels == label).any() and not known[self.labels == label].any():
                raise DataError(
                    f"no cell of class {name!r} has a mask. Make masks first: cytoforge mask DATA --out DIR, "
                    "then use DIR as the data."
                )
        return self.select(name for name, has in zip(self.names, known, strict=True) if has)

    @property
    def _is_whole(self) -> bool:
        return len(self.rows) == len(self.stored_images) and bool((np.diff(self.rows) == 1).all())


class _Prepared(NamedTuple):
    """One cell, ready to store; `image` is None where it could not be decoded."""

    image: NDArray[np.uint8] | None
    mask: NDArray[np.uint8] | None
    digest: str
    remarks: list[tuple[str, str, bool]]  # ("image" or "mask", reason, used all the same)


def open_cache(cells: CellSet, preparation: Preparation, directory: Path | None = None) -> CachedCells:
    """The prepared cells, from the cache where their content is known, else decoded now.

    The cache is found by the content of all files and the preparation, so a changed file or setting is never
    confused with an old one. It is built under another name and renamed when whole; several processes may do
    so at once. A damaged cache is built again.

    Args:
        cells: what `open_cells` found.
        preparation: size, fit and noise reduction.
        directory: where caches lie; by default `cache_directory()`.

    Raises:
        DataError: no cell could be decoded, the disk is full, or `directory` cannot be written.
    """
    place = cache_directory() if directory is None else directory
    with quiet_decoders():
        digests = _digests(cells.cells)
        folder = place / f"cells-{_key(digests, preparation)[:32]}"
        index = _intact_index(folder)
        if index is None:
            index = _build(cells, digests, preparation, folder)
    return _open(cells, digests, preparation, folder, index)


def cache_directory() -> Path:
    """A folder that can be written: `CYTOFORGE_CACHE`, the user's cache folder, or a temporary one."""
    stated = os.environ.get("CYTOFORGE_CACHE")
    usual = (_user_caches() / "cytoforge", Path(tempfile.gettempdir()) / f"cytoforge-{_user()}")
    for place in (Path(stated), *usual) if stated else usual:
        if _writable(place):
            return place
    return Path(tempfile.mkdtemp(prefix="cytoforge-"))


def _writable(place: Path) -> bool:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine = not hasattr(os, "getuid") or place.stat().st_uid in (os.getuid(), 0)
    except OSError:
        return False
    return mine and os.access(place, os.W_OK | os.X_OK)


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _user_caches() -> Path:
    """Where programs of this system keep what can be made again."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() fails where no home is known
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


def _threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 8)


def _digests(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Of each cell, SHA-256 of its image file (with the row, in an archive) and of its mask files."""
    archives: dict[Path, str] = {cell.path: "" for cell in cells if cell.row is not None}
    archives = {path: _digest(path) for path in archives}

    def of(cell: Cell) -> tuple[str, str]:
        image = _digest(cell.path) if cell.row is None else f"{archives[cell.path]}{cell.name}"
        return image, " ".join(_digest(path) for path in mask_files(cell))

    with ThreadPoolExecutor(_threads()) as pool:
        return list(pool.map(of, cells))


def _digest(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _key(digests: Sequence[tuple[str, str]], preparation: Preparation) -> str:
    key = hashlib.sha256(f"{_FORMAT} {preparation.model_dump_json()}".encode())
    for image, mask in digests:
        key.update(f"\n{image}\t{mask}".encode())
    return key.hexdigest()


def _build(
    cells: CellSet, digests: Sequence[tuple[str, str]], preparation: Preparation, folder: Path
) -> dict[str, Any]:
    """Decode all cells into `folder`, which appears only when it is whole; returns its index."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
        try:
            index = _fill(building, cells, digests, preparation)
            _move_into_place(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"cannot write the image cache at {folder}: {error.strerror}. Free some space, or point "
            "CYTOFORGE_CACHE to a folder that you may write."
        ) from error
    return index


def _fill(
    building: Path, cells: CellSet, digests: Sequence[tuple[str, str]], preparation: Preparation
) -> dict[str, Any]:
    kept: list[int] = []
    hashes: list[str] = []
    faults: list[tuple[int, str, str, bool]] = []
    with_masks = any(cell.mask is not None for cell in cells.cells)
    todo = list(enumerate(cells.cells))
    in_archive = any(cell.row is not None for cell in cells.cells)
    with (
        (building / "images.bin").open("wb") as images,
        (building / "masks.bin").open("wb") as masks,
        ThreadPoolExecutor(1 if in_archive else _threads()) as pool,  # archives are read from front to back
        progress("reading cells", len(todo)) as advance,
    ):
        for start in range(0, len(todo), _CHUNK):
            part = todo[start : start + _CHUNK]
            work = partial(_prepare_cell, preparation=preparation)
            for (position, _), result in zip(part, pool.map(work, (cell for _, cell in part)), strict=True):
                faults += [(position, *remark) for remark in result.remarks]
                if result.image is None:
                    continue
                kept.append(position)
                hashes.append(result.digest)
                images.write(result.image.tobytes())
                if with_masks:
                    unknown = np.full(result.image.shape[:2], UNKNOWN, np.uint8)
                    masks.write((unknown if result.mask is None else result.mask).tobytes())
            advance(len(part))
        for file in (images, masks):
            file.flush()
            os.fsync(file.fileno())
    index = {"format": _FORMAT, "kept": kept, "hashes": hashes, "faults": faults, "masks": with_masks}
    index["sha256"] = {name: sha256_file(building / name) for name in ("images.bin", "masks.bin")}
    content = json.dumps(index)
    write_json(building / "index.json", {"content": content, "sha256": sha256_bytes(content.encode())})
    written: dict[str, Any] = json.loads(content)
    return written


def _prepare_cell(cell: Cell, preparation: Preparation) -> _Prepared:
    remarks: list[tuple[str, str, bool]] = []
    try:
        if cell.row is None:
            content = read_bytes(cell.path)
            digest = sha256_bytes(content)
            decoded, notes = decode_bytes(content, cell.path)
            remarks += [("image", note, True) for note in notes]
        else:
            decoded = read_image(cell)
            digest = sha256_bytes(decoded.tobytes())
        image = prepare(decoded, preparation)
    except DataError as error:
        return _Prepared(None, None, "", [("image", _without_path(error, cell.path), False)])
    mask = None
    try:
        full_mask = read_mask(cell)
        mask = None if full_mask is None else prepare_mask(full_mask, preparation)
    except DataError as error:
        reason = f"mask left out, its image is used: {_without_path(error, cell.mask)}"
        remarks.append(("mask", reason, True))
    return _Prepared(image, mask, digest, remarks)


def _without_path(error: DataError, path: Path | None) -> str:
    return str(error).removeprefix(f"{path}: ")


def _sweep(place: Path) -> None:
    """Remove what builds that were killed more than a day ago left behind."""
    for left in place.glob(".building-*"):
        try:
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue


def _move_into_place(building: Path, folder: Path) -> None:
    """Rename a whole cache to its name; where another process was first, keep the other one's."""
    for _ in range(3):
        try:
            building.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            if _intact_index(folder) is not None:
                return
            damaged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
            try:
                folder.rename(damaged / "damaged")
            except FileNotFoundError:
                pass  # another process moved it
            finally:
                shutil.rmtree(damaged, ignore_errors=True)
        else:
            return
    raise OSError(0, f"{folder} cannot be replaced; remove it")


def _intact_index(folder: Path) -> dict[str, Any] | None:
    """The index of a cache whose every byte is as it was written, or None."""
    try:
        wrapped = read_json(folder / "index.json")
        if sha256_bytes(wrapped["content"].encode()) != wrapped["sha256"]:
            return None
        index: dict[str, Any] = json.loads(wrapped["content"])
        intact = all(sha256_file(folder / name) == digest for name, digest in index["sha256"].items())
    except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return index if intact else None


def _open(
    cells: CellSet,
    digests: Sequence[tuple[str, str]],
    preparation: Preparation,
    folder: Path,
    index: dict[str, Any],
) -> CachedCells:
    faults = [_fault(cells.cells[position], *remark) for position, *remark in index["faults"]]
    kept = [cells.cells[position] for position in index["kept"]]
    if not kept:
        listed = "".join(f"\n  {fault.path}: {fault.reason}" for fault in faults[:5])
        raise DataError(f"{cells.root}: none of the {len(cells)} images can be decoded.{listed}")
    side = preparation.resolution
    masks = _map(folder / "masks.bin", (len(kept), side, side)) if index["masks"] else None
    return CachedCells(
        shape=DataShape(side, cells.classes, len(MASK_CHANNELS) if masks is not None else 0),
        preparation=preparation,
        labels=cells.labels[index["kept"]],
        names=tuple(cell.name for cell in kept),
        groups=tuple(cell.group for cell in kept),
        hashes=tuple(index["hashes"]),
        faults=cells.faults + tuple(faults),
        stored_images=_map(folder / "images.bin", (len(kept), side, side, 3)),
        stored_masks=masks,
        rows=np.arange(len(kept)),
    )


def _fault(cell: Cell, which: str, reason: str, used: bool) -> Fault:
    return Fault(cell.mask if which == "mask" and cell.mask is not None else cell.path, reason, used)


def _map(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(content, np.uint8).reshape(shape)


def _release(stored: NDArray[np.uint8]) -> None:
    """Give back the pages that were read: they stay in the system's file cache, not in this process."""
    owner: Any = stored
    while isinstance(owner, (np.ndarray, memoryview)):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def mask_channels(masks: NDArray[np.uint8]) -> Tensor:
    """Masks (n, R, R) as one channel for each of `MASK_CHANNELS`: (n, C, R, R) float32 in {0, 1}.

    Example:
        >>> mask_channels(np.array([[[0, 1], [2, 3]]], np.uint8)).tolist()
        [[[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]]
    """
    return torch.from_numpy(np.stack([masks == value for value in MASK_CHANNELS], axis=1).astype(np.float32))


def mask_levels(channels: Tensor) -> NDArray[np.uint8]:
    """The inverse of `mask_channels`: (n, 2, R, R), above 0.5 or not, becomes (n, R, R) of 0, 1 and 2.

    Example:
        >>> mask_levels(torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 1.0]).reshape(1, 2, 1, 3)).tolist()
        [[[1, 2, 2]]]
    """
    present = channels.detach().float().cpu().numpy() > 0.5
    levels: NDArray[np.uint8] = np.where(
        present[:, 1], NUCLEUS, np.where(present[:, 0], CYTOPLASM, 0)
    ).astype(np.uint8)
    return levels
