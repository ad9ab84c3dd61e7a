from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from cytoforge.core.errors import DataError
from cytoforge.evaluation.conformal import threshold
from cytoforge.evaluation.novelty import learn_known, unit_length


def cells(count: int, seed: int, away: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = 4 * np.eye(3, 12)
    centres[:, 5] += 2
    features = centres[labels] + 0.5 * rng.normal(size=(count, 12))
    features[:, -1] += away
    return features, labels


@pytest.mark.parametrize("kind", ["neighbours", "mahalanobis"])
def test_strangers_are_found_and_false_alarms_are_as_stated(kind):
    known = learn_known(*cells(600, 0), kind)
    limit = threshold(known.distances(cells(999, 1)[0]), 0.95)
    own, strange = (known.distances(cells(1000, 2, away)[0]) for away in (0.0, 4.0))
    assert 0.02 <= (own > limit).mean() <= 0.09
    assert (strange > limit).mean() > 0.95
    assert roc_auc_score([0] * 1000 + [1] * 1000, np.concatenate([own, strange])) > 0.99


def test_distances_to_neighbours_equal_those_of_scikit_learn():
    known = learn_known(*cells(50, 0))
    features = cells(9, 1)[0]
    theirs = NearestNeighbors(n_neighbors=10).fit(known.features).kneighbors(unit_length(features))[0][:, -1]
    np.testing.assert_allclose(known.distances(features), theirs, atol=1e-6)


def test_mahalanobis_distance_does_not_depend_on_units():
    features, labels = cells(5000, 0)
    units = np.geomspace(0.3, 3, 12)
    new = cells(20, 1)[0]
    plain = learn_known(features, labels, "mahalanobis").distances(new)
    scaled = learn_known(features * units, labels, "mahalanobis").distances(new * units)
    np.testing.assert_allclose(plain, scaled, rtol=0.05)
    # 0.5 in each of twelve directions: the distance to the own centre is a chi of twelve degrees
    assert 2.5 < np.mean(plain) < 4.0


def test_one_training_cell_is_not_enough():
    with pytest.raises(DataError):
        learn_known(np.zeros((1, 4)), np.zeros(1, np.int64))
