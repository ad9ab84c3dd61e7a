from __future__ import annotations

import numpy as np
import pytest

from cytoforge.core.errors import DataError
from cytoforge.evaluation.ledger import Entry, Held, check_unseen, content_hashes

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
