from __future__ import annotations

import pytest

from cytoforge.evaluation.utility import compare_paired
from cytoforge.stages.study_plan import Plan
from cytoforge.stages.study_results import more_real

PLAN = Plan(generators=("auto",), classifiers=("one", "other"), real=(None, 20, 50), repeats=3)
GAINS = {"one": (0.20, 0.21, 0.19), "other": (0.1, -0.1, 0.0)}


def score(classifier: str, real: int | None, repeat: int, value: float, **facts: object) -> dict[str, object]:
    row = {"classifier": classifier, "real_per_class": real, "repeat": repeat, "balanced_accuracy": value}
    return {"regime": "orig", "generator": None, **row, **facts}


def test_more_real_cells_are_judged_by_the_rule_of_the_study() -> None:
    scores = [
        score(name, real, repeat, 0.5 + gain * (real != 20))
        for name, gains in GAINS.items()
        for repeat, gain in enumerate(gains)
        for real in PLAN.real
    ]
    scores += [score("one", 20, repeat, 0.9, regime="prop", generator="auto") for repeat in range(3)]
    rows = more_real(PLAN, scores, 80, 20)
    assert [(row["classifier"], row["from"], row["to"]) for row in rows] == [
        (name, few, many) for name in GAINS for few, many in ((20, 50), (20, None), (50, None))
    ]
    assert {row["regime"] for row in rows} == {"orig"}
    first = rows[0]
    alone = compare_paired(GAINS["one"], 80, 20, comparisons=6)
    assert first["difference"] == pytest.approx(0.2)
    assert (first["p"], first["smallest"]) == pytest.approx((alone.p, alone.smallest))
    assert first["p_holm"] == pytest.approx(6 * alone.p)
    assert [row["verdict"] for row in rows] == ["helps", "helps", *["no evidence"] * 4]
    assert rows[2]["difference"] == 0


def test_fractions_of_which_one_repeat_is_left_are_not_compared() -> None:
    scores = [score("one", real, 0, 0.5) for real in PLAN.real] + [score("one", 20, 1, 0.5)]
    assert more_real(PLAN, scores, 80, 20) == []
