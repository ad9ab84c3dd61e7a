from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoforge.core.errors import DataError
from cytoforge.data.folds import grouped_folds, random_folds


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), count=st.integers(2, 4))
def test_every_cell_is_tested_once_and_no_group_is_on_both_sides(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat([0, 1], 8), rng.integers(0, 2, 30)])
    groups = [f"g{number}" for number in [*range(16), *rng.integers(0, 16, 30)]]
    for folds in (grouped_folds(labels, groups, count, seed), random_folds(labels, count, seed)):
        assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(46))
        for fold in folds:
            assert sorted([*fold.train, *fold.test]) == list(range(46))
    for fold in grouped_folds(labels, groups, count, seed):
        assert not {groups[row] for row in fold.train} & {groups[row] for row in fold.test}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_every_class_is_in_every_training_part(seed: int) -> None:
    """Few groups of several classes: one division may put all groups of a class into one fold."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(5), rng.integers(1, 9, 5))
    labels = rng.integers(0, 3, len(groups))
    try:
        folds = grouped_folds(labels, groups.astype(str).tolist(), 2, seed)
    except DataError:
        return
    for fold in folds:
        assert set(labels[fold.train]) == set(labels)


def test_groups_that_no_division_can_part_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Together:
        def __init__(self, *_: object, **__: object) -> None:
            calls.append(1)

        def split(self, *_: object) -> list[tuple[np.ndarray, np.ndarray]]:
            return [(np.array([0]), np.array([1, 2])), (np.array([1, 2]), np.array([0]))]

    monkeypatch.setattr("cytoforge.data.folds.StratifiedGroupKFold", Together)
    with pytest.raises(DataError, match="fall into one of them"):
        grouped_folds(np.array([0, 1, 1, 0]), ["a", "b", "c", "d"], 2)
    assert len(calls) == 20


def test_a_seed_decides() -> None:
    labels, groups = np.arange(40) % 2, [str(index // 2) for index in range(40)]
    first, again, other = (grouped_folds(labels, groups, 5, seed) for seed in (0, 0, 1))
    assert all((a.test == b.test).all() for a, b in zip(first, again, strict=True))
    assert any(set(a.test) != set(b.test) for a, b in zip(first, other, strict=True))


def test_too_many_folds_are_refused() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    with pytest.raises(DataError, match="2 to 3 folds"):
        grouped_folds(labels, [str(index % 3) for index in range(20)], 5)
    with pytest.raises(DataError, match="Add images"):
        grouped_folds(labels, ["one"] * 20, 2)
    with pytest.raises(DataError, match="2 to 10 folds"):
        random_folds(labels, 11)
