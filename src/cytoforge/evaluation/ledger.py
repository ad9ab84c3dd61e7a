"""Proof by content that nothing which trains or chooses has seen a test cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json, sha256_bytes, write_json
from cytoforge.core.record import Record
from cytoforge.data.cache import CachedCells

_CHUNK = 1024


class Entry(Record):
    """What one piece of work was shown.

    Attributes:
        job: its folder.
        role: "generator", "selection" or "classifier".
        repeat: number of the outer division whose test cells it must not know.
        cells: content hash of each real cell that it was shown.
        groups: their groups.
    """

    job: str
    role: str
    repeat: int
    cells: tuple[str, ...]
    groups: tuple[str, ...]


class Held(Record):
    """The test part of one outer division.

    Attributes:
        repeat: its number.
        cells: content hash of each test cell.
        groups: their groups.
    """

    repeat: int
    cells: tuple[str, ...]
    groups: tuple[str, ...]


class Shown(Record):
    """What a training read, by content: `shown.json` in its run folder.

    Attributes:
        train: content hash of each cell that it learned from, at the run's preparation; sorted.
        val: of each cell that its curve and its best checkpoint were measured with.
    """

    format: Literal[1] = 1
    train: tuple[str, ...]
    val: tuple[str, ...] = ()

    @staticmethod
    def path(run: Path) -> Path:
        """Where the folder of a run keeps it; runs of the first versions have none."""
        return run / "shown.json"

    @staticmethod
    def load(run: Path) -> Shown:
        """Read what the training in the folder `run` read.

        Raises:
            DataError: the file is missing or holds something else.
        """
        try:
            return Shown.model_validate(read_json(Shown.path(run)))
        except ValidationError as error:
            raise DataError(
                f"{Shown.path(run)} does not say what this training read. Remove {run} and train again."
            ) from error


def write_shown(run: Path, train: CachedCells, val: CachedCells | None) -> None:
    """Write down what a training reads; what it read before it was interrupted stays.

    Args:
        run: its folder.
        train: the cells that the loop gets.
        val: the cells that it is measured with, or None.
    """
    before = Shown.load(run) if Shown.path(run).is_file() else Shown(train=())
    shown = Shown(
        train=tuple(sorted({*before.train, *_hashes(train)})),
        val=tuple(sorted({*before.val, *(_hashes(val) if val is not None else ())})),
    )
    write_json(Shown.path(run), shown.model_dump(mode="json"))


def _hashes(cells: CachedCells) -> set[str]:
    """Content hashes of the pixels that these cells give, some at a time."""
    starts = range(0, len(cells), _CHUNK)
    parts = (np.arange(start, min(start + _CHUNK, len(cells))) for start in starts)
    return {digest for part in parts for digest in content_hashes(cells.read(part))}


def content_hashes(images: NDArray[np.uint8]) -> tuple[str, ...]:
    """First 32 digits of the SHA-256 of each image's pixels (N, H, W, 3), so that names do not matter.

    Example:
        >>> same, other = np.zeros((2, 4, 4, 3), np.uint8), np.ones((1, 4, 4, 3), np.uint8)
        >>> len(set(content_hashes(np.concatenate([same, other]))))
        2
    """
    return tuple(sha256_bytes(np.ascontiguousarray(image).tobytes())[:32] for image in images)


def check_unseen(entries: Iterable[Entry], held: Sequence[Held]) -> dict[str, int]:
    """Compare what was shown with what is tested on.

    Args:
        entries: one for each piece of work.
        held: the test part of every repeat.

    Returns:
        Number of entries by role, all of them clean.

    Raises:
        DataError: something that trains or chooses was shown a test cell or a cell of a test group.
    """
    tests = {part.repeat: (set(part.cells), set(part.groups)) for part in held}
    counts: Counter[str] = Counter()
    for entry in entries:
        cells, groups = tests[entry.repeat]
        leaked, crossing = cells & set(entry.cells), groups & set(entry.groups)
        if leaked or crossing:
            raise DataError(
                f"leak: the {entry.role} in {entry.job} was shown {len(leaked)} test cells and cells of "
                f"{len(crossing)} test groups of repeat {entry.repeat}"
                f"{f' (first group: {min(crossing)})' if crossing else ''}. Its results are worthless. "
                "Delete that folder, look for copies in the data with `cytoforge audit`, and run the study "
                "again."
            )
        counts[entry.role] += 1
    return dict(counts)
