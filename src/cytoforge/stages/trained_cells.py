"""The cells that a run was trained on, found again."""

from __future__ import annotations

from pathlib import Path

from cytoforge.core.errors import DataError
from cytoforge.core.run import Run
from cytoforge.data.cache import CachedCells, open_cache
from cytoforge.data.cells import CellSet
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, check_split
from cytoforge.data.transform import Preparation


def cells_of(run: Run, root: Path | None = None) -> CellSet:
    """The cells that a run was trained on.

    Args:
        run: of a generator or a classifier.
        root: where they are now, if not where the run found them.

    Raises:
        DataError: they are not there any more, or have other classes.
    """
    source = run.config["data"]
    folder = Path(source["root"]) if root is None else root
    if not folder.exists():
        raise DataError(f"{folder}, which {run.path} was trained on, is not there; give its new place.")
    cells = open_cells(folder, source["layout"])
    if list(cells.classes) != list(run.config["classes"]):
        raise DataError(
            f"{folder} has the classes {', '.join(cells.classes)}, the run was trained on "
            f"{', '.join(run.config['classes'])}; give the folder that it was trained on."
        )
    return cells


def cached_cells_of(run: Run, root: Path | None = None) -> CachedCells:
    """The very cells that a run was trained on, prepared as there.

    Args:
        run: of a generator or a classifier.
        root: where they are now, if not where the run found them.

    Raises:
        DataError: they are not there any more, or cells are missing, new or changed.
    """
    cells = cells_of(run, root)
    check_split(Split.load(run.split_path), cells)
    return open_cache(cells, Preparation.model_validate(run.config["preparation"]))
