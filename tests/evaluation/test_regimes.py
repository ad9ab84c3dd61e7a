from __future__ import annotations

import numpy as np
import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.evaluation.regimes import (
    QUESTIONS,
    REGIMES,
    draw_cells,
    draw_synthetic,
    questions_of,
    regimes_of,
)

LABELS = np.repeat(np.arange(3), 40)
GROUPS = [f"{row // 4:03d}" for row in range(120)]
ROWS = np.arange(0, 120)[np.arange(120) % 5 != 0]


def test_every_question_is_about_regimes_that_exist() -> None:
    assert {name for each in QUESTIONS for name in (each.regime, each.baseline)} <= set(REGIMES)
    assert len({question.name for question in QUESTIONS}) == len(QUESTIONS)
    assert [question.name for question in questions_of(["orig", "+prop", "+trad"])] == [
        "+prop against orig",
        "+prop against +trad",
        "+trad against orig",
    ]


def test_regimes_by_name() -> None:
    assert list(regimes_of(["+prop", "orig"], control=False)) == ["orig", "+prop"]
    with pytest.raises(ConfigError, match=r"no regime '\+porp'. Did you mean"):
        regimes_of(["+porp"], control=False)
    with pytest.raises(ConfigError, match="--control"):
        regimes_of(["gan"], control=False)


def test_draws_are_nested_balanced_and_inside_the_rows() -> None:
    few, more = (draw_cells(ROWS, LABELS, GROUPS, count, seed=3) for count in (5, 15))
    assert set(few) <= set(more) <= set(ROWS)
    assert np.bincount(LABELS[few]).tolist() == [5, 5, 5]
    assert np.bincount(LABELS[more]).tolist() == [15, 15, 15]
    assert draw_cells(ROWS, LABELS, GROUPS, None, seed=3).tolist() == ROWS.tolist()
    assert np.bincount(LABELS[draw_cells(ROWS, LABELS, GROUPS, 1000, seed=3)]).tolist() == [32, 32, 32]
    assert draw_cells(ROWS, LABELS, GROUPS, 5, seed=4).tolist() != few.tolist()


def test_draws_take_whole_photos() -> None:
    drawn = draw_cells(np.arange(120), LABELS, GROUPS, 8, seed=0)
    assert all(len({GROUPS[row] for row in drawn[LABELS[drawn] == label]}) == 2 for label in range(3))


def test_synthetic_cells_follow_the_real_classes() -> None:
    synthetic = np.tile(np.arange(3), 20)
    rows = draw_synthetic(synthetic, np.array([0, 0, 0, 1, 1, 2]), 2.0, 3)
    assert np.bincount(synthetic[rows]).tolist() == [6, 4, 2]
    kept = np.arange(60) >= 30
    rows = draw_synthetic(synthetic, np.array([0] * 10 + [1]), 2.0, 3, kept)
    assert rows.min() >= 30
    assert np.bincount(synthetic[rows], minlength=3).tolist() == [10, 2, 0]
