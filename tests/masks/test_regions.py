from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from cytoforge.masks.regions import regions

APART = ["XXXX....", "XXXX....", "XXXX....", "........", "....YYYY", "....YYYY", "....YYYY"]
BOXES_ALONE = ["XXXX.YYY", "X.....YY", "X...Y..Y", "X......Y", "XXX.YYYY"]
ONE_PIXEL = ["XXXX....", "XXXX....", "XXXBYYYY", "...YYYYY", "...YYYYY"]


def mask(rows: list[str], letters: str) -> np.ndarray:
    return np.array([[letter in letters for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(APART, False), (BOXES_ALONE, False), (ONE_PIXEL, True)],
    ids=["boxes apart", "boxes meet, pixels do not", "one pixel"],
)
def test_two_regions_overlap_where_they_share_a_pixel(rows: list[str], expected: bool) -> None:
    grey = np.linspace(0, 1, len(rows) * len(rows[0])).reshape(len(rows), -1)
    pair = [next(regions(mask(rows, letters), grey, grey, most=99)) for letters in ("XB", "YB")]
    assert all(one.overlaps(other) is expected for one, other in permutations(pair))
