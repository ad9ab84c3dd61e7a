"""What a data folder holds: labelled cells, and files that are not usable as they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import DataError

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Cell:
    """One labelled image, not decoded yet.

    Attributes:
        path: the file.
        label: class name.
        group: images of one group (photo, slide, patient) never go to different parts of a split.
        name: posix path relative to the data root, unique and stable; rows of an archive are
            `file.npz#train/0012`.
        split: the part that the data set itself publishes, or None.
        mask: file with the cell's mask or contours, or None.
        row: row inside an archive, or None.
    """

    path: Path
    label: str
    group: str
    name: str
    split: Part | None = None
    mask: Path | None = None
    row: int | None = None


@dataclass(frozen=True)
class Fault:
    """A file with something wrong.

    Attributes:
        path: the file.
        reason: what is wrong, in words for the user.
        used: True where the file was converted and is in use all the same; False where it is left out.
    """

    path: Path
    reason: str
    used: bool = False


@dataclass(frozen=True)
class CellSet:
    """The cells of one data folder.

    Attributes:
        root: the data folder or archive.
        layout: how it is laid out, a key of `layouts.LAYOUTS`.
        classes: class names, sorted; a label is an index into them.
        cells: sorted by name.
        faults: files that could not be used or had to be converted, as far as is known without decoding.
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    cells: tuple[Cell, ...]
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) index of each cell's class."""
        index = {name: position for position, name in enumerate(self.classes)}
        return np.array([index[cell.label] for cell in self.cells], np.int64)

    @property
    def groups(self) -> list[str]:
        """Group of each cell."""
        return [cell.group for cell in self.cells]

    @property
    def names(self) -> list[str]:
        """Name of each cell."""
        return [cell.name for cell in self.cells]

    def select(self, names: Iterable[str]) -> CellSet:
        """The cells with these names, in this set's order; the classes stay as they are.

        Raises:
            DataError: a name is not in this set.
        """
        wanted = set(names)
        cells = tuple(cell for cell in self.cells if cell.name in wanted)
        if len(cells) < len(wanted):
            missing = sorted(wanted - {cell.name for cell in cells})
            raise DataError(
                f"{len(missing)} of {len(wanted)} images are not in {self.root} (or cannot be used), "
                f"first {missing[0]!r}; use the folder that the list was made from, or make the split anew."
            )
        return replace(self, cells=cells)
