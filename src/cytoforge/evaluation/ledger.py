"""Proof by content that nothing which trains or chooses has seen a test cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import DataError
from cytoforge.core.files import sha256_bytes
from cytoforge.core.record import Record


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
