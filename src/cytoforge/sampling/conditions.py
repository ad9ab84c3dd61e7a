"""What images are drawn from, where the method does not draw it itself: masks, or edges of other images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.core.batch import to_float
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes, sha256_file, write_atomic
from cytoforge.core.png import encode_png
from cytoforge.core.run import Run
from cytoforge.core.symmetry import SYMMETRIES, turn
from cytoforge.data.cache import mask_channels
from cytoforge.data.cells import Cell, CellSet
from cytoforge.data.folder import open_cells, read_image, read_known_mask, read_mask_file
from cytoforge.data.images import EXTENSIONS
from cytoforge.data.split import fingerprints
from cytoforge.data.transform import Preparation, prepare, prepare_mask
from cytoforge.methods.catalogue import method_type
from cytoforge.networks.unet import edges
from cytoforge.sampling.provenance import class_folders


@dataclass(frozen=True)
class Conditions:
    """What images are drawn from, by class; the image of a seed is drawn from the picture at that place.

    Attributes:
        kind: what is taken from the pictures.
        root: the folder that they are in.
        readers: class -> a function for each picture, sorted by name, that gives its condition (C, R, R).
        sha256: hash of all names and contents, in order.
    """

    kind: Literal["masks", "edges"]
    root: Path
    readers: Mapping[str, tuple[Callable[[], Tensor], ...]]
    sha256: str

    def of(self, label: str, seed: int) -> Tensor:
        """The condition (C, R, R) for a class and a seed: masks as in `Batch`, or edges in {0, 1}.

        Raises:
            ConfigError: there is none of the class.
            DataError: the file cannot be read.
        """
        readers = self.readers[label]
        if not readers:
            raise ConfigError(f"{self.root} has no {_PICTURES[self.kind]} of class {label!r}; add some.")
        return readers[seed % len(readers)]()


_PICTURES = {"masks": "masks", "edges": "images"}


def open_masks(root: Path, classes: Sequence[str], preparation: Preparation) -> Conditions:
    """The masks of a data set in the paired layout (`masks/<class>/...`), or of a synthetic set.

    Args:
        root: the folder; one with `<class>/...` of masks directly in it will do too.
        classes: names in the run.
        preparation: of the run.

    Raises:
        DataError: no such folder, or no mask of any class in it.
    """
    place = root / "masks" if (root / "masks").is_dir() else root
    if not place.is_dir():
        raise DataError(f"{root} is not a folder; give a data set with masks/<class>/ in it.")
    spelled = class_folders(classes)
    files = {name: _mask_files([place / name, place / spelled[name]]) for name in classes}
    if not any(files.values()):
        raise DataError(
            f"{root} has no masks of any class of the run; expected {place}/<class>/*.png with a class "
            f"out of {', '.join(map(repr, classes))}."
        )
    listed = [
        f"{name}\t{path.relative_to(place).as_posix()}\t{sha256_file(path)}"
        for name, own in files.items()
        for path in own
    ]
    readers = {name: tuple(partial(_mask, path, preparation) for path in own) for name, own in files.items()}
    return Conditions("masks", root, readers, sha256_bytes("\n".join(listed).encode()))


def needs_masks(run: Run) -> bool:
    """Whether a run's images are painted onto masks that have to be given."""
    return bool(run.config["mask_channels"]) and not method_type(run.config["method"]).draws_masks()


def open_edges(root: Path, classes: Sequence[str], preparation: Preparation) -> Conditions:
    """The edges of the images of a data set in any layout, or of a synthetic set.

    Args:
        root: the folder.
        classes: names in the run.
        preparation: of the run.

    Raises:
        DataError: no such folder, or no image of any class in it.
    """
    cells = open_cells(root)
    spelled = class_folders(classes)
    own = {name: [cell for cell in cells.cells if cell.label in (name, spelled[name])] for name in classes}
    if not any(own.values()):
        raise DataError(
            f"{root} has no images of any class of the run; it has {', '.join(map(repr, cells.classes))}, "
            f"expected {', '.join(map(repr, classes))}."
        )
    contents = fingerprints(cells)
    listed = [f"{name}\t{cell.name}\t{contents[cell.name]}" for name in classes for cell in own[name]]
    readers = {name: tuple(partial(_edges, cell, preparation) for cell in own[name]) for name in classes}
    return Conditions("edges", root, readers, sha256_bytes("\n".join(listed).encode()))


def write_masks(cells: CellSet, names: Collection[str], root: Path, per_class: int = 1) -> None:
    """Write the masks of some cells so that `open_masks` finds them.

    Args:
        cells: a data set; cells on whose masks no method trains (none, unreadable, unknown) are passed over.
        names: of the cells.
        root: folder to write; what is there already is written again.
        per_class: as many as are wanted of each class. Where there are fewer, all are written again under
            the other `SYMMETRIES`, so at most eight times in all. All masks of one view come before those of
            the next.
    """
    for label, folder in class_folders(cells.classes).items():
        own = [cell for cell in cells.cells if cell.name in names and cell.label == label]
        masks = [(cell.name, mask) for cell in own if (mask := _usable_mask(cell)) is not None]
        views = min(len(SYMMETRIES), ceil(per_class / max(1, len(masks))))
        for view, (number, (name, mask)) in product(range(views), enumerate(masks)):
            content = encode_png(turn(mask[None], view)[0], {"Mask": name})
            write_atomic(root / "masks" / folder / f"{view}-{number:06d}.png", content)


def _usable_mask(cell: Cell) -> NDArray[np.uint8] | None:
    with suppress(DataError):
        return read_known_mask(cell)
    return None


def _mask_files(folders: Sequence[Path]) -> tuple[Path, ...]:
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        return ()
    return tuple(
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )


def _mask(path: Path, preparation: Preparation) -> Tensor:
    return mask_channels(prepare_mask(read_mask_file(path), preparation)[None])[0]


def _edges(cell: Cell, preparation: Preparation) -> Tensor:
    return edges(to_float(np.stack([prepare(read_image(cell), preparation)])))[0]
