from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cytoforge.core.errors import DataError
from cytoforge.evaluation.distances import check_features, nearest_other, squared_distances


@pytest.mark.parametrize("piece", [7, 64, 1000])
def test_distances_equal_scipys_in_any_piece(piece) -> None:
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(3, 1, (50, 8)), rng.normal(3, 1, (30, 8))
    found = np.concatenate([squared.copy() for _, squared in squared_distances(rows, columns, piece)])
    np.testing.assert_allclose(found, cdist(rows, columns, "sqeuclidean"), rtol=1e-9, atol=1e-9)


def test_copies_are_at_exactly_zero_even_far_from_the_origin() -> None:
    rows = np.random.default_rng(0).normal(1000, 1, (40, 16))
    (_, squared), *_ = squared_distances(rows, rows)
    assert (np.diagonal(squared) == 0).all()
    assert (squared + 2 * np.eye(40) > 1).all()


def test_nearest_other_leaves_the_point_itself_out_but_not_its_twin() -> None:
    rows = np.array([[0.0], [0.0], [5.0]])
    assert nearest_other(rows).tolist() == [0, 0, 25]
    with pytest.raises(DataError, match="more images"):
        nearest_other(rows, k=3)


@pytest.mark.parametrize(
    "sets",
    [
        (np.zeros((5, 3)), np.zeros((5, 4))),
        (np.zeros((1, 3)), np.zeros((5, 3))),
        (np.zeros(3), np.zeros((5, 3))),
        (np.full((5, 3), np.nan), np.zeros((5, 3))),
    ],
)
def test_unusable_features_are_refused(sets) -> None:
    with pytest.raises(DataError):
        check_features(*sets)
