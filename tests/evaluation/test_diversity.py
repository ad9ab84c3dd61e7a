from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from cytoforge.core.errors import DataError
from cytoforge.evaluation.distances import nearest_other
from cytoforge.evaluation.diversity import (
    effective_modes,
    pairwise_distance,
    precision_recall_density_coverage,
    share_of_twins,
)


@pytest.mark.parametrize(
    ("k", "expected"),
    [(3, (0.878, 0.2683333333, 2.344, 0.9483333333)), (5, (0.936, 0.3966666667, 2.342, 0.995))],
)
def test_oracles(fixed_features, k, expected) -> None:
    found = precision_recall_density_coverage(*fixed_features, k=k)
    assert list(found) == ["precision", "recall", "density", "coverage"]
    assert list(found.values()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_equals_prdc_in_other_shapes(seed) -> None:
    from prdc import compute_prdc

    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(83, 5)), rng.normal(0.4, 0.8, (61, 5))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = compute_prdc(real, fake, nearest_k=4)
    assert precision_recall_density_coverage(real, fake, k=4) == pytest.approx(theirs)


def test_first_argument_is_real() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(size=(200, 4)), 0.2 * rng.normal(size=(200, 4))
    collapsed = precision_recall_density_coverage(wide, narrow)
    assert collapsed["precision"] > 0.95
    assert collapsed["recall"] < 0.2


def test_inside_is_strict_and_leaves_the_centre_out() -> None:
    real = np.array([[0.0], [1.0], [10.0]])
    # radii with k = 1: 1, 1, 9; the ball about 10 reaches from 1 to 19 without its edge
    assert precision_recall_density_coverage(real, np.array([[-1.0], [20.0]]), k=1)["precision"] == 0
    inside = precision_recall_density_coverage(real, np.array([[0.5], [1.5]]), k=1)
    assert inside["precision"] == 1
    assert inside["coverage"] == 1
    assert inside["density"] == pytest.approx((2 + 2) / 2)


def test_copies_are_best_in_all_four() -> None:
    real = np.random.default_rng(0).normal(size=(50, 6))
    found = precision_recall_density_coverage(real, real.copy())
    assert [found[name] for name in ("precision", "recall", "coverage")] == [1, 1, 1]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="more images"):
        precision_recall_density_coverage(np.zeros((5, 2)), np.eye(9, 2), k=5)


def test_pairwise_distance_equals_all_pairs() -> None:
    features = np.abs(np.random.default_rng(0).normal(size=(20, 6)))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    upper = np.triu_indices(20, 1)
    assert pairwise_distance(features) == pytest.approx(1 - (unit @ unit.T)[upper].mean())


def test_effective_modes_counts_directions() -> None:
    for modes in (1, 3, 8):
        features = np.eye(8)[np.arange(48) % modes]
        assert effective_modes(features, np.zeros(8)) == pytest.approx(modes)
    few = np.eye(40)[:6]
    assert effective_modes(few, np.zeros(40)) == pytest.approx(6)


def test_effective_modes_is_the_same_by_rows_and_by_columns() -> None:
    features = np.random.default_rng(0).normal(size=(30, 30))
    wide = np.concatenate([features, np.zeros((30, 10))], axis=1)
    assert effective_modes(features, np.zeros(30)) == pytest.approx(effective_modes(wide, np.zeros(40)))


def test_collapse_lowers_diversity() -> None:
    rng = np.random.default_rng(0)
    real = np.abs(rng.normal(size=(200, 16)))
    collapsed = real[rng.integers(0, 5, 200)] + 0.01 * rng.normal(size=(200, 16))
    centre = real.mean(0)
    assert effective_modes(collapsed, centre) < 0.5 * effective_modes(real, centre)
    nearest = nearest_other(real)
    assert share_of_twins(nearest, nearest_other(collapsed)) > 0.9
    assert share_of_twins(nearest, nearest_other(np.abs(rng.normal(size=(200, 16))))) < 0.02
