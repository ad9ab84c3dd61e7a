from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoforge.core.errors import DataError
from cytoforge.data.sampler import Sampler

LABELS = np.array([0] * 10 + [2] * 3 + [5] * 1 + [6] * 7)


@pytest.mark.parametrize("balanced", [True, False])
class TestBoth:
    @settings(max_examples=30, deadline=None)
    @given(starts=st.lists(st.integers(0, 400), min_size=1, max_size=6), count=st.integers(1, 70))
    def test_the_order_can_be_entered_anywhere(self, balanced: bool, starts: list[int], count: int) -> None:
        whole = Sampler(LABELS, 3, balanced).indices(0, 500)
        sampler = Sampler(LABELS, 3, balanced)
        for start in starts:
            np.testing.assert_array_equal(sampler.indices(start, count), whole[start : start + count])

    def test_seed_decides(self, balanced: bool) -> None:
        first, again, other = (Sampler(LABELS, seed, balanced).indices(0, 100) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_far_positions_and_nothing(self, balanced: bool) -> None:
        sampler = Sampler(LABELS, 0, balanced)
        assert sampler.indices(0, 0).shape == (0,)
        far = sampler.indices(10**12, 64)
        assert far.dtype == np.int64
        assert ((far >= 0) & (far < len(LABELS))).all()

    def test_parts_of_two_processes_make_the_whole(self, balanced: bool) -> None:
        whole = Sampler(LABELS, 0, balanced).indices(0, 64)
        halves = [Sampler(LABELS, 0, balanced).indices(rank * 32, 32) for rank in (0, 1)]
        np.testing.assert_array_equal(np.concatenate(halves), whole)

    def test_no_images(self, balanced: bool) -> None:
        with pytest.raises(DataError, match="no images"):
            Sampler(np.array([], np.int64), 0, balanced)


def test_balanced_gives_every_class_once_a_cycle() -> None:
    drawn = LABELS[Sampler(LABELS, 0, balanced=True).indices(0, 4 * 50)].reshape(50, 4)
    assert (np.sort(drawn, axis=1) == [0, 2, 5, 6]).all()
    assert len({tuple(row) for row in drawn}) > 10


def test_balanced_gives_every_image_of_a_class_before_one_comes_again() -> None:
    drawn = Sampler(LABELS, 0, balanced=True).indices(0, 4 * 30)
    of_first = drawn[LABELS[drawn] == 0].reshape(3, 10)
    assert (np.sort(of_first, axis=1) == np.arange(10)).all()
    assert (of_first[0] != of_first[1]).any()


def test_unbalanced_is_a_permutation_an_epoch() -> None:
    drawn = Sampler(LABELS, 0, balanced=False).indices(0, 3 * len(LABELS)).reshape(3, -1)
    assert (np.sort(drawn, axis=1) == np.arange(len(LABELS))).all()
    assert (drawn[0] != drawn[1]).any()
