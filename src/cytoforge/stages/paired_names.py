"""What a picture that was made from a cell is called: by its class and where the cell lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from cytoforge.core.files import sha256_bytes
from cytoforge.data.cells import Cell
from cytoforge.sampling.provenance import class_folders


def paired_names(cells: Sequence[Cell]) -> list[str]:
    """`<class>/<file>` without extension for each cell, different for different cells.

    Folders other than the class's become part of the file's name; where two cells would still be called the
    same, the second gets a piece of the hash of its own name.

    Args:
        cells: of one set.

    Example:
        >>> from pathlib import Path
        >>> names = ("train/a/1.png", "test/a/1.png", "test/a/1.bmp")
        >>> paired_names([Cell(Path(name), "a", "", name) for name in names])
        ['a/train_1', 'a/test_1', 'a/test_1~7428bd03']
    """
    folders = class_folders(sorted({cell.label for cell in cells}))
    names: list[str] = []
    taken: set[str] = set()
    for cell in cells:
        name = f"{folders[cell.label]}/{_file(cell)}"
        if name.casefold() in taken:
            name = f"{name}~{sha256_bytes(cell.name.encode())[:8]}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _file(cell: Cell) -> str:
    place = PurePosixPath(cell.name.replace("#", "/"))
    place = place if cell.row is not None else place.with_suffix("")
    dropped = ("images", "CROPPED", cell.label, f"im_{cell.label}")
    return "_".join([*(part for part in place.parts[:-1] if part not in dropped), place.name])
