from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytoforge.core.errors import DataError
from cytoforge.data.cache import open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.ledger import Entry, Held, Shown, check_unseen, content_hashes, write_shown

IMAGES = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3), np.uint8)
HASHES = content_hashes(IMAGES)
HELD = (
    Held(repeat=0, cells=HASHES[:2], groups=("a",)),
    Held(repeat=1, cells=HASHES[2:4], groups=("b", "c")),
)


def entry(rows: slice, groups: tuple[str, ...], repeat: int = 0) -> Entry:
    return Entry(job="jobs/1", role="generator", repeat=repeat, cells=HASHES[rows], groups=groups)


def test_clean_work_is_counted() -> None:
    assert check_unseen([entry(slice(2, 6), ("b", "c")), entry(slice(0, 2), ("a",), 1)], HELD) == {
        "generator": 2
    }


def test_a_test_cell_under_another_name_and_group_is_found() -> None:
    with pytest.raises(DataError, match="shown 1 test cells and cells of 0 test groups of repeat 0"):
        check_unseen([entry(slice(1, 3), ("elsewhere", "b"))], HELD)


def test_a_sibling_of_a_test_cell_is_found() -> None:
    with pytest.raises(DataError, match=r"cells of 1 test groups of repeat 1 \(first group: c\)"):
        check_unseen([entry(slice(4, 6), ("c", "d"), 1)], HELD)


def test_what_a_training_read_is_written_and_added_to(tiny_cells: Path, tmp_path: Path) -> None:
    cells = open_cache(open_cells(tiny_cells), Preparation(resolution=32))
    every = content_hashes(cells.images)
    first, last = cells.select(cells.names[:50]), cells.select(cells.names[40:])
    write_shown(tmp_path, first, None)
    assert Shown.load(tmp_path) == Shown(train=tuple(sorted(every[:50])))
    write_shown(tmp_path, last, cells.select(cells.names[:2]))
    assert Shown.load(tmp_path) == Shown(train=tuple(sorted(every)), val=tuple(sorted(every[:2])))
    Shown.path(tmp_path).write_text('{"train": 3}')
    with pytest.raises(DataError, match="does not say what this training read"):
        Shown.load(tmp_path)
