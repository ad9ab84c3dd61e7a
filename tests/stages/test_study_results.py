from __future__ import annotations

import pytest

from cytoforge.core.jobs import Job
from cytoforge.evaluation.utility import compare_paired
from cytoforge.stages.study_plan import Plan, Trial
from cytoforge.stages.study_remarks import remarks
from cytoforge.stages.study_results import Done, _chosen_by_opponent, _seconds, more_real, pooled

PLAN = Plan(generators=("auto",), classifiers=("one", "other"), real=(None, 20, 50), repeats=3)
NOTHING = {
    "plan": {"repeats": 5, "folds": 5},
    "data": {"groups": 20},
    "generators": [],
    "failed": [],
    "selection": [],
    "regimes": [],
}
"""A study.json without anything that has to be told."""
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
    scores += [score("one", 20, repeat, 0.9, regime="orig-short") for repeat in range(3)]
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


def trial(regime: str, generator: str | None) -> Trial:
    return Trial("one", 20, regime, generator, 2.0 if generator else None, 0, Job({"regime": regime}))


def test_a_regime_costs_what_it_uses() -> None:
    """100 s of training the generator; 400 cells drawn at half a second, 30 s of selection among them."""
    trials = [trial("orig", None), trial("+prop", "auto"), trial("+selected", "auto")]
    judged = {each.job.key: {"seconds": 7.0, "synthetic": 200 * bool(each.generator)} for each in trials}
    learned, made = Job({"kind": "generator"}), Job({"kind": "set"})
    drawn = {"images": 400, "seconds": 200.0, "selecting": 30.0}
    at = (0, 20, "auto")
    done = Done(
        {at: learned}, {at: made}, trials, {learned.key: {"seconds": 100.0}}, {made.key: drawn}, judged, {}
    )
    assert [_seconds(each, done) for each in trials] == [7, 7 + 100 + 100, 7 + 100 + 200 + 30]


@pytest.mark.parametrize(
    ("generator", "chooser", "told"),
    [
        ("auto", "efficientnet-lite0@128", "efficientnet-lite0"),
        ("auto", "mobilenet-v2@128", None),
        ("wgan-gp", "efficientnet-lite0@128", None),
    ],
)
def test_selection_by_what_the_generator_was_trained_against_is_found(generator, chooser, told) -> None:
    """So it is where no wheel of a second network is installed, see `fair_extractor`."""
    made = {(0, None, generator): Job({"extractor": chooser})}
    plan = Plan(generators=(generator,))
    assert _chosen_by_opponent(plan, Done({}, made, [], {}, {}, {}, {}), generator) == told


ASKED = PLAN.model_copy(update={"regimes": ("orig", "+trad", "+prop"), "real": (20, 50)})


@pytest.mark.parametrize(
    ("repeats", "groups", "told"), [(10, 20, True), (6, 50, True), (5, 20, False), (10, 51, False)]
)
def test_second_divisions_of_few_groups_are_told(repeats: int, groups: int, told: bool) -> None:
    found = remarks({**NOTHING, "plan": {"repeats": repeats, "folds": 5}, "data": {"groups": groups}})
    assert [f"{repeats} repeats divide the same {groups} groups" in text for text in found] == [True] * told


def grid(gains: dict[str, tuple[float, float, float]]) -> list[dict[str, object]]:
    """Scores of three regimes, all of them 0.5 but for `gains` of +prop by classifier."""
    return [
        score(name, real, repeat, 0.5 + gain * (regime == "+prop"), regime=regime, **facts)
        for name, values in gains.items()
        for repeat, gain in enumerate(values)
        for real in ASKED.real
        for regime, facts in {
            "orig": {"ratio": None},
            "+trad": {"ratio": None},
            "+prop": {"generator": "auto", "ratio": 2.0},
        }.items()
    ]


def test_comparisons_of_a_question_are_averaged_within_each_repeat() -> None:
    """Gains of two classifiers differ widely, their means in the repeats are 0.15, 0.055 and 0.095."""
    found = pooled(ASKED, grid(GAINS), 80, 20)
    assert list(found) == ["+prop against orig", "+prop against +trad", "+trad against orig"]
    alone = compare_paired([0.15, 0.055, 0.095], 80, 20, comparisons=3)
    row = found["+prop against orig"]
    assert row["difference"] == pytest.approx(0.1)
    assert (row["p"], row["smallest"], row["repeats"]) == pytest.approx((alone.p, alone.smallest, 3))
    assert row["p_holm"] == pytest.approx(3 * alone.p)
    assert found["+trad against orig"]["verdict"] == "no evidence"


def test_a_repeat_that_lacks_a_comparison_is_not_averaged() -> None:
    """Where single comparisons take two repeats each, no two have all of them: nothing is averaged."""
    scores = grid(GAINS)

    def without(*gone: tuple[str, int]) -> list[dict[str, object]]:
        return [
            row
            for row in scores
            if (row["classifier"], row["repeat"]) not in gone or row["regime"] != "+prop"
        ]

    once = pooled(ASKED, without(("one", 1)), 80, 20)["+prop against orig"]
    assert (once["repeats"], once["difference"]) == (2, pytest.approx((0.15 + 0.095) / 2))
    twice = pooled(ASKED, without(("one", 1), ("other", 0)), 80, 20)
    assert list(twice) == ["+trad against orig"]
    told = remarks({**NOTHING, "answers": [{"question": "a against b", "comparisons": 4, "pooled": None}]})
    assert told == ["a against b: no two repeats have all 4 comparisons, so they are not averaged."]
