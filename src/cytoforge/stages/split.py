"""A data folder becomes split.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cytoforge.data.cells import CellSet
from cytoforge.data.folder import open_cells
from cytoforge.data.scan import NOT_SEARCHED, repeats_of, scan_cells
from cytoforge.data.split import Split, check_groups_and_masks, check_split, split_cells


def split(
    data: Path | CellSet,
    out: Path | None = None,
    *,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    layout: str = "auto",
    group: str | None = None,
) -> Split:
    """Divide a data set by groups, after groups that show the same cell were made one.

    Args:
        data: data folder, or its cells.
        out: where to write: a folder, which gets split.json, or a name that ends in .json; or nowhere.
        fractions: shares of train, val and test, together 1.
        seed: any integer; another seed gives another division.
        layout: a key of `data.layouts.LAYOUTS`, or "auto".
        group: regular expression with one capture, searched in each cell's name, that gives its group.

    Returns:
        The split.

    Raises:
        DataError: the folder cannot be used, or `out` cannot be written.
        ConfigError: the fractions, the layout or the group are not usable.
    """
    cells = data if isinstance(data, CellSet) else open_cells(data, layout, group)
    scan = scan_cells(cells, measured=False)
    pairs = [(pair.first, pair.second) for pair in repeats_of(scan).pairs]
    unusable = set(cells.names) - set(scan.cells.names)
    divided = split_cells(cells, fractions, seed, merge=pairs, unusable=unusable)
    if not scan.fully_compared:
        divided = divided.model_copy(update={"warnings": (*divided.warnings, NOT_SEARCHED)})
    if out is not None:
        divided.save(out if out.suffix == ".json" else out / "split.json")
    return divided


def split_once(cells: CellSet, path: Path, seed: int = 0) -> Split:
    """The division in a file, where an earlier call has left it; else a new one, written there.

    So what is gone on with has the parts that it was begun with.

    Args:
        cells: to divide.
        path: of the file.
        seed: of a new division.

    Raises:
        DataError: the cells, their labels, groups or masks are others than when the file was made.
    """
    if not path.is_file():
        return split(cells, path, seed=seed)
    division = Split.load(path)
    check_split(division, cells)
    check_groups_and_masks(division, cells)
    return division
