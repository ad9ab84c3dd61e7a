from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from cytoforge.core.errors import CheckpointError, ConfigError, DataError
from cytoforge.core.files import read_json
from cytoforge.data.split import Split
from cytoforge.evaluation.regimes import QUESTIONS, REGIMES
from cytoforge.stages import study_jobs
from cytoforge.stages.study import study
from cytoforge.stages.study_plan import Plan, check_plan, classifier_recipe, cost, regime_recipe
from cytoforge.stages.study_results import pairs_of

TINY = {
    "cvae": {"channels": 4, "most_channels": 8, "perceptual": 0.0, "batch": 8},
    "basic-cnn": {"steps": 6, "batch": 8, "resolution": 16},
}
PHOTO = r"(\w+/\d+)_"
PLAN = Plan(
    generators=("cvae",),
    classifiers=("basic-cnn",),
    real=(6, None),
    ratios=(1.0,),
    regimes=("orig", "+trad", "+prop", "+trad+prop", "prop", "selected", "pretrain"),
    repeats=2,
    folds=2,
    resolution=32,
    images=16,
    settings=TINY,
)


@pytest.fixture(scope="module")
def finished(tiny_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of real cells of two classes."""
    out = tmp_path_factory.mktemp("study") / "does it help"
    study(tiny_cells, out, PLAN, group=PHOTO)
    return out


def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_everything_is_compared_and_written(finished: Path) -> None:
    content = read_json(finished / "study.json")
    assert len(content["scores"]) == 2 * 2 * 7
    assert {row["question"] for row in content["comparisons"]} == {
        "+prop against orig", "+trad+prop against +trad", "+prop against +trad", "prop against orig",
        "selected against prop", "pretrain against orig", "+trad against orig",
    }  # fmt: skip
    assert all(row["verdict"] in ("helps", "hurts", "no evidence") for row in content["comparisons"])
    assert all(row["p"] <= row["p_holm"] <= row["p_holm_study"] + 1e-12 for row in content["comparisons"])
    assert all(
        row["minutes"] > row["classifier_minutes"] > 0 for row in content["regimes"] if row["generator"]
    )
    for row in content["generators"]:
        assert row["images"] == 16
        assert 0 <= row["gan_train"]["basic-cnn"] <= 1
        assert 0 <= row["gan_test"]["basic-cnn"] <= 1
    report = (finished / "report.html").read_text()
    assert "no test cell and no cell of a test group" in report
    assert "http" not in report.replace("http-equiv", "").replace("http://www.w3.org", "")
    for name in ("curves", "plus-prop-against-orig"):
        assert (finished / "plots" / f"{name}.png").stat().st_size > 5000
    assert "### +prop against orig" in (finished / "table.md").read_text()
    rows = list(csv.DictReader((finished / "comparisons.csv").read_text().splitlines()))
    assert rows[0]["question"].startswith("'+")
    plan = read_json(finished / "plan.json")
    assert Plan.model_validate(plan["plan"]) == PLAN
    assert "0.05" in plan["rule"]


def test_classifiers_see_what_their_regime_says(finished: Path) -> None:
    rows = read_json(finished / "study.json")["scores"]
    seen = {(row["regime"], row["real_per_class"]): (row["real"], row["synthetic"]) for row in rows}
    assert seen["orig", 6] == (12, 0)
    assert seen["+trad+prop", 6] == (12, 12)
    assert seen["prop", 6] == (0, 12)
    assert seen["pretrain", 6] == (12, 12)
    assert seen["orig", None][0] == seen["+prop", None][1] > 30
    jobs = [read_json(path) for path in finished.glob("jobs/*/parameters.json")]
    assert {job["recipe"]["steps"] for job in jobs if job["kind"] == "classifier"} == {6}


def test_no_cell_of_a_test_group_was_shown(finished: Path) -> None:
    ledger = read_json(finished / "ledger.json")
    tests = {part["repeat"]: set(ledger["lists"][part["cells"]]) for part in ledger["tests"]}
    assert len(tests[0] | tests[1]) == 80
    assert {part["groups"] for part in ledger["tests"]} == {10}
    assert not tests[0] & tests[1]
    for shown in ledger["shown"]:
        assert not tests[shown["repeat"]] & set(ledger["lists"][shown["cells"]])
    assert ledger["checked"] == {"generator": 4, "selection": 4, "classifier": 28}


def test_a_second_call_trains_nothing_and_gives_the_same(
    finished: Path, tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(study_jobs, "fit", refuse)
    monkeypatch.setattr(study_jobs, "train", refuse)
    study(tiny_cells, out, PLAN, group=PHOTO)
    for name in ("study.json", "scores.csv", "comparisons.csv", "table.md", "ledger.json", "report.html"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()


def test_interrupted_and_resumed_gives_the_same_scores(
    finished: Path, tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls, real_fit = tmp_path / "again", [], study_jobs.fit

    def interrupted(*values: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real_fit(*values, **named)  # type: ignore[arg-type]

    few = PLAN.model_copy(update={"real": (6,)})
    monkeypatch.setattr(study_jobs, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(tiny_cells, out, few, group=PHOTO)
    assert not (out / "study.json").exists()
    study(tiny_cells, out, few, group=PHOTO)
    wanted = [row for row in read_json(finished / "study.json")["scores"] if row["real_per_class"] == 6]
    assert read_json(out / "study.json")["scores"] == wanted


def test_a_planted_test_cell_makes_the_study_fail(finished: Path, tiny_cells: Path, tmp_path: Path) -> None:
    """One test cell added to what a generator's run says it was trained on."""
    out = copied(finished, tmp_path)
    path = next(out.glob("jobs/*/run/split.json"))
    shown, repeat = Split.load(path), read_json(path.parents[1] / "parameters.json")["repeat"]
    place = study_jobs.Place(str(tiny_cells), str(finished), group=PHOTO)
    material = study_jobs.open_material(place, 32)
    fold = study_jobs.outer_fold(place, 32, 2, 0, repeat)
    planted = material.cached.names[fold.test[0]]
    shown.model_copy(update={"parts": {**shown.parts, planted: "train"}}).save(path)
    with pytest.raises(DataError, match=r"leak: the generator in .* 1 test cells and cells of 1 test groups"):
        study(tiny_cells, out, PLAN, group=PHOTO)


def test_a_classifier_that_is_given_test_cells_stops(
    finished: Path, tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path)
    for path in out.glob("jobs/*/parameters.json"):
        if read_json(path)["kind"] == "classifier":
            shutil.rmtree(path.parent)
    monkeypatch.setattr(study_jobs, "real_rows", lambda material, fold, parameters: np.sort(fold.test[:4]))
    with pytest.raises(DataError, match="leak: the classifier"):
        study(tiny_cells, out, PLAN.model_copy(update={"regimes": ("orig", "+trad")}), group=PHOTO)


def test_a_changed_plan_is_remembered(finished: Path, tiny_cells: Path, tmp_path: Path) -> None:
    out = copied(finished, tmp_path)
    fewer = PLAN.model_copy(update={"regimes": ("orig", "+prop", "selected")})
    assert study(tiny_cells, out, fewer, group=PHOTO)["plans_before"] == 1
    assert study(tiny_cells, out, fewer, group=PHOTO)["plans_before"] == 1
    assert "plan was changed 1 time" in (out / "report.html").read_text()


def test_a_generator_without_cells_is_left_out(
    tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise CheckpointError("no intact checkpoint")

    monkeypatch.setattr(study_jobs, "generate", failing)
    plan = PLAN.model_copy(update={"real": (6,), "regimes": ("orig", "+trad", "+prop")})
    content = study(tiny_cells, tmp_path / "out", plan, group=PHOTO)
    assert {row["question"] for row in content["comparisons"]} == {"+trad against orig"}
    assert content["generators"][0]["failed"] == ["no intact checkpoint"] * 2


def test_recipes_differ_in_augmentation_only() -> None:
    recipe = classifier_recipe(PLAN.model_copy(update={"settings": {}}), "linear")
    plain, changed = (
        regime_recipe(recipe, REGIMES[name], "flip,rotate,tilt,noise") for name in ("orig", "+trad")
    )
    assert (plain.symmetry, plain.augment, plain.copies) == ("", "", 1)
    assert (changed.symmetry, changed.augment, changed.copies) == ("flip,rotate", "tilt,noise", recipe.copies)
    assert plain.steps == changed.steps
    assert plain.batch == changed.batch


def test_the_control_is_not_compared_with_itself() -> None:
    plan = PLAN.model_copy(update={"generators": ("cvae", "gan"), "control": "gan", "real": (5,)})
    question = next(each for each in QUESTIONS if each.name == "gan against prop")
    assert [(new[3], base[3]) for new, base in pairs_of(plan, question)] == [("gan", "cvae")] * len(
        plan.ratios
    )


def test_cost_of_a_plan() -> None:
    plan = Plan(generators=("auto", "cvae"), control="gan", classifiers=("linear", "lite0"), minutes=3,
                regimes=("orig", "+prop", "gan"), ratios=(1.0, 2.0))  # fmt: skip
    found = cost(plan)
    assert found["generators"] == 5 * 3 * 3
    assert found["classifiers"] == 5 * 3 * 2 * (1 + 2 * 2 + 2)
    assert found["generator_minutes"] == 45 * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generators": ("cvea",)}, "no method"),
        ({"generators": ("pix2pix",)}, "from training cells alone"),
        ({"classifiers": ("lite1",)}, "no recipe"),
        ({"regimes": ("orig",)}, "nothing to compare"),
        ({"regimes": ("orig", "gan")}, "--control"),
        ({"settings": {"auto": {"batch": 8}}}, "no generator or classifier"),
        ({"settings": {"cvae": {"lattent": 8}}}, "lattent"),
        ({"real": (1,)}, "2 or more"),
        ({"ratios": (1.0, 1.0)}, "each once"),
        ({"classifiers": (), "settings": {}}, "--classifiers"),
        ({"classifiers": ("basic-cnn", "basic-cnn")}, "each once"),
        ({"classifiers": ("timm:nonsense",), "settings": {}}, "nonsense"),
        ({"real": (2,), "ratios": (0.2,)}, "no cell"),
        ({"settings": {"basic-cnn": {"strength": 0.2}}}, "study's to choose"),
        ({"settings": {"cvae": {"resolution": 128}}}, "--resolution"),
    ],
)
def test_plans_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_plan(PLAN.model_copy(update=changes))
