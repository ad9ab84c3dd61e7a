from __future__ import annotations

import csv
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cytoforge.sampling.generate
import cytoforge.stages.study
from cytoforge.cli.main import run
from cytoforge.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from cytoforge.core.files import read_json, write_json
from cytoforge.data.cache import CachedCells
from cytoforge.data.folder import open_cells, read_mask, read_mask_file
from cytoforge.data.split import Split
from cytoforge.evaluation.ledger import Shown
from cytoforge.evaluation.regimes import QUESTIONS, REGIMES
from cytoforge.exports.checklist import read_study
from cytoforge.report.study import _curves, visible
from cytoforge.sampling.provenance import read_manifest, write_manifest
from cytoforge.stages import study_jobs
from cytoforge.stages.export import export
from cytoforge.stages.phantom import phantom
from cytoforge.stages.split import split as split_folder
from cytoforge.stages.study import _begin, study
from cytoforge.stages.study_plan import Plan, check_masks, check_plan, classifier_recipe, cost, regime_recipe
from cytoforge.stages.study_remarks import remarks
from cytoforge.stages.study_results import pairs_of
from cytoforge.training.loop import Loop

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
    assert content["format"] == 1
    assert len(content["scores"]) == 2 * 2 * 7 - 2, "6 real cells cannot calibrate a selection"
    assert {row["question"] for row in content["comparisons"]} == {
        "+prop against orig", "+trad+prop against +trad", "+prop against +trad", "prop against orig",
        "selected against prop", "pretrain against orig", "+trad against orig",
    }  # fmt: skip
    for answer in content["answers"]:
        rows = [row for row in content["comparisons"] if row["question"] == answer["question"]]
        assert answer["pooled"]["difference"] == pytest.approx(np.mean([row["difference"] for row in rows]))
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
    assert "One by one: " in report
    table = (finished / "table.md").read_text()
    assert table.index("| +prop against orig | 2 | 2 |") < table.index("### +prop against orig")
    rows = list(csv.DictReader((finished / "comparisons.csv").read_text().splitlines()))
    assert rows[0]["question"].startswith("'+")
    plan = read_json(finished / "plan.json")
    assert Plan.model_validate(plan["plan"]) == PLAN
    assert "0.05" in plan["rule"]
    assert "First each question is judged once" in plan["rule"]


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
    assert ledger["checked"] == {"generator": 4, "selection": 4, "classifier": 26}


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


def test_another_machine_goes_on_with_the_number_format_and_the_presets_of_the_first(
    finished: Path, tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path)
    before = read_json(out / "plan.json")
    began = before["precision"], before["presets"], before["choosers"]
    assert set(began[1].values()) == {"cpu"}
    assert began[2] == {"cvae": "efficientnet-lite0@128"}
    other = "32-true" if began[0] == "bf16-mixed" else "bf16-mixed"
    monkeypatch.setattr(cytoforge.stages.study, "native_precision", lambda: other)
    monkeypatch.setattr(cytoforge.stages.study, "usual_preset", lambda name, gpu: "default")
    monkeypatch.setattr(cytoforge.stages.study, "choosers_of", lambda plan: {"cvae": "mobilenet-v2@128"})
    monkeypatch.setattr(study_jobs, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(study_jobs, "generate", lambda *_, **__: pytest.fail("drawn again"))
    content = study(tiny_cells, out, PLAN.model_copy(update={"real": (6,)}), group=PHOTO)
    after = read_json(out / "plan.json")
    found = content["plans_before"], after["precision"], after["presets"], after["choosers"]
    assert found == (1, *began)


def test_a_plan_that_asks_for_another_network_to_select_gets_it(
    finished: Path, tiny_cells: Path, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path)
    place = study_jobs.Place(str(tiny_cells), str(out), group=PHOTO)
    asked = PLAN.model_copy(update={"extractor": "mobilenet-v2"})
    assert _begin(place, asked)[2] == {"cvae": "mobilenet-v2"}
    assert _begin(place, PLAN)[2] == {"cvae": "efficientnet-lite0@128"}


def stopped_at(call: int, work: Callable[..., object], stop: Callable[[], None]) -> Callable[..., object]:
    """`work`, but for one call, before which `stop` is called."""
    calls: list[int] = []

    def stopping(*values: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == call:
            stop()
        return work(*values, **named)

    return stopping


@pytest.fixture
def heeded() -> Iterator[None]:
    """SIGINT interrupts, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def control_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(
    ("place", "name", "call"),
    [(Loop, "step", 2), (cytoforge.sampling.generate, "_written", 3), (study_jobs, "fit", 3)],
    ids=["while a generator trains", "while a set is drawn", "between classifiers"],
)
def test_interrupted_and_resumed_gives_the_same_scores(
    finished: Path, tiny_cells: Path, tmp_path: Path, place: object, name: str, call: int
) -> None:
    out, few = tmp_path / "again", PLAN.model_copy(update={"real": (6,), "regimes": ("orig", "+prop")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, stopped_at(call, getattr(place, name), control_c))
        with pytest.raises(KeyboardInterrupt):
            study(tiny_cells, out, few, group=PHOTO)
    assert not (out / "study.json").exists()
    study(tiny_cells, out, few, group=PHOTO)
    assert read_json(out / "study.json")["scores"] == scores_of(finished, few)


def test_half_a_set_of_other_versions_is_drawn_again(
    finished: Path, tiny_cells: Path, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path)
    manifest = min(out.glob("jobs/*/set/manifest.jsonl"))
    before = {path.name: path.read_bytes() for path in manifest.parent.rglob("*.png")}
    written = read_manifest(manifest.parent)
    header = written.header.model_copy(update={"versions": {"python": "3.12.4", "torch": "2.9.0"}})
    write_manifest(manifest.parent, replace(written, header=header))
    folder = manifest.parents[1]
    place = study_jobs.Place(str(tiny_cells), str(out), group=PHOTO)
    result = study_jobs.draw_set(read_json(folder / "parameters.json"), folder, place)
    assert result["images"] == len(read_manifest(manifest.parent).images) > 0
    assert {path.name: path.read_bytes() for path in manifest.parent.rglob("*.png")} == before


def test_an_interruption_does_not_make_drawing_cheaper(
    finished: Path, tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight seconds until the interruption, four until the set is whole."""
    out = copied(finished, tmp_path)
    folder = next(
        path.parent
        for path in sorted(out.glob("jobs/*/parameters.json"))
        if read_json(path)["kind"] == "set" and read_json(path)["real"] == 6
    )
    place = study_jobs.Place(str(tiny_cells), str(out), group=PHOTO)
    asked = read_json(folder / "parameters.json")
    seconds = iter((0.0, 8.0, 100.0, 104.0, 200.0, 201.0))
    monkeypatch.setattr(study_jobs, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    for path in [folder / study_jobs.DRAWING, *sorted(folder.glob("set/*/*.png"))[:2]]:
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(cytoforge.sampling.generate, "_written", stopped_at(1, None, control_c))
        with pytest.raises(KeyboardInterrupt):
            study_jobs.draw_set(asked, folder, place)
    result = study_jobs.draw_set(asked, folder, place)
    assert (result["images"], result["seconds"], result["selecting"]) == (24, 8 + 4, 1)


@pytest.mark.parametrize(("wrong", "expected"), [("prop", "hurts"), ("orig", "helps")])
def test_a_large_effect_gets_its_verdict(
    tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, expected: str
) -> None:
    """Both regimes learn from the same cells, one of them from swapped labels."""
    fit_regime = study_jobs._fit

    def with_wrong_labels(parameters, regime, real, _fake, classes):
        images, labels = real
        shown = (images, 1 - labels if regime.synthetic == (wrong == "prop") else labels)
        return fit_regime(parameters, regime, shown, shown, classes)

    monkeypatch.setattr(study_jobs, "_fit", with_wrong_labels)
    own = {**TINY, "basic-cnn": {**TINY["basic-cnn"], "steps": 30, "learning_rate": 0.01}}
    plan = PLAN.model_copy(update={"real": (None,), "regimes": ("orig", "prop"), "settings": own})
    (row,) = study(tiny_cells, tmp_path, plan, group=PHOTO)["comparisons"]
    assert (row["question"], row["verdict"]) == ("prop against orig", expected)
    assert abs(row["difference"]) > 0.8


@pytest.mark.slow
def test_processes_that_were_killed_give_the_table_of_a_serial_study(
    finished: Path, tiny_cells: Path, tmp_path: Path
) -> None:
    few = PLAN.model_copy(update={"real": (6,), "regimes": ("orig", "+prop")})
    serial, loky = copied(finished, tmp_path), tmp_path / "loky"
    kill_after_a_job(tiny_cells, loky, few)
    assert not (loky / "study.json").exists()
    study(tiny_cells, loky, few, group=PHOTO, executor="loky", workers=2)
    study(tiny_cells, serial, few, group=PHOTO)
    content = read_json(loky / "study.json")
    assert content["scores"] == scores_of(finished, few)
    assert content["remarks"] == []
    for name in ("scores.csv", "comparisons.csv"):
        assert (loky / name).read_bytes() == (serial / name).read_bytes()


def kill_after_a_job(cells: Path, out: Path, plan: Plan) -> None:
    """A study on two workers; it and they are killed as soon as a job is done."""
    program = f"""
from pathlib import Path
from cytoforge.stages.study import study
from cytoforge.stages.study_plan import Plan

plan = Plan.model_validate_json({plan.model_dump_json()!r})
study(Path({str(cells)!r}), Path({str(out)!r}), plan, group={PHOTO!r}, executor="loky", workers=2)
"""
    killed = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        while killed.poll() is None and not any(out.glob("jobs/*/DONE")):
            time.sleep(0.02)
        assert killed.poll() is None
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()


def scores_of(finished: Path, plan: Plan) -> list[dict]:
    """The rows of a larger study that a smaller one has too."""
    return [
        row
        for row in read_json(finished / "study.json")["scores"]
        if row["real_per_class"] in plan.real and row["regime"] in plan.regimes
    ]


def test_a_diverging_classifier_blocks_nothing(tiny_cells: Path, tmp_path: Path) -> None:
    wild = {"basic-cnn": {**TINY["basic-cnn"], "learning_rate": 1e30}}
    plan = PLAN.model_copy(update={"real": (6,), "regimes": ("orig", "+trad"), "settings": wild})
    content = study(tiny_cells, tmp_path, plan, group=PHOTO)
    assert (content["scores"], content["regimes"], content["comparisons"]) == ([], [], [])
    assert [row["repeat"] for row in content["failed"]] == [0, 0, 1, 1]
    assert content["failed"][0].keys() == {
        "classifier", "real_per_class", "regime", "generator", "ratio", "repeat", "why",
    }  # fmt: skip
    assert len(content["remarks"]) == 2
    assert "basic-cnn, 6 real cells a class, +trad: the classifier failed in repeats 0, 1" in (
        (tmp_path / "report.html").read_text()
    )


def test_a_failed_repeat_counts_on_neither_side(
    tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge() -> None:
        raise TrainingError("it met NaN")

    monkeypatch.setattr(study_jobs, "fit", stopped_at(2, study_jobs.fit, diverge))
    changes = {"real": (6,), "regimes": ("orig", "+trad"), "repeats": 3, "folds": 3}
    content = study(tiny_cells, tmp_path, PLAN.model_copy(update=changes), group=PHOTO)
    (failed,), (row,) = content["failed"], content["comparisons"]
    assert (failed["regime"], failed["repeat"], failed["why"]) == ("+trad", 0, "it met NaN")
    scores = {(each["regime"], each["repeat"]): each["balanced_accuracy"] for each in content["scores"]}
    differences = [scores["+trad", repeat] - scores["orig", repeat] for repeat in (1, 2)]
    assert row["repeats"] == 2
    assert row["difference"] == pytest.approx(np.mean(differences))
    assert "| basic-cnn | 6 |  |  | 2 |" in (tmp_path / "table.md").read_text()


def test_selection_that_was_not_possible_is_told_and_not_compared(finished: Path) -> None:
    content = read_json(finished / "study.json")
    why = "fewer than 20 real cells of every class"
    assert content["selection"] == [{"real_per_class": 6, "repeats": [0, 1], "what": f"not possible: {why}"}]
    told = f"6 real cells a class, repeats 0, 1 of 2: selection: not possible: {why}."
    assert told in content["remarks"]
    compared = {row["real_per_class"] for row in content["comparisons"] if "selected" in row["question"]}
    assert compared == {None}
    kept = {row["real_per_class"]: row["kept"] for row in content["generators"]}
    assert kept[6] is None
    assert 0 <= kept[None] <= 1
    report = (finished / "report.html").read_text()
    assert told in report
    assert f"selection: not possible: {why}, in\n2 of 2 repeats" in report


def test_too_few_selected_cells_are_told(finished: Path, tiny_cells: Path, tmp_path: Path) -> None:
    """Three of each class are left where 20 are asked for."""
    out = copied(finished, tmp_path)
    for path in out.glob("jobs/*/parameters.json"):
        asked = read_json(path)
        if asked["kind"] == "set" and asked["real"] is None:
            write_json(path.parent / "kept.json", [0, 1, 2, 40, 41, 42])
        elif asked["kind"] == "classifier" and asked["regime"]["selected"]:
            shutil.rmtree(path.parent)
    content = study(tiny_cells, out, PLAN, group=PHOTO)
    (row,) = [row for row in content["regimes"] if row["regime"] == "selected"]
    assert row["short"] == pytest.approx(1 - 6 / 40)
    assert (
        "all real cells, selected, cvae, ratio 1: 85.0 % fewer synthetic cells than the ratio asks for"
        in (" ".join(content["remarks"]))
    )


def test_results_of_other_versions_are_told(
    finished: Path, tiny_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied(finished, tmp_path)
    first, second = sorted(out.glob("jobs/*/DONE"))[:2]
    write_json(first, {**read_json(first), "threads": 7})
    write_json(second, {key: read_json(second)[key] for key in ("result_sha256", "started", "minutes")})
    content = study(tiny_cells, out, PLAN, group=PHOTO)
    (mixed,) = [text for text in content["remarks"] if "threads 7" in text]
    assert "1 with versions that were not recorded" in mixed
    assert "warning" in capsys.readouterr().err


def test_the_checklist_quotes_what_was_asked_about_synthetic_cells(finished: Path, tmp_path: Path) -> None:
    generator = next(finished.glob("jobs/*/run"))
    export(generator, tmp_path / "checklist", "checklist", study=finished)
    items = read_json(tmp_path / "checklist" / "claim-2024.json")["items"]
    (item,) = [item for item in items if item["item"] == "38"]
    assert item["from"] == "study.json"
    content = read_json(finished / "study.json")
    asked = [answer for answer in content["answers"] if answer["question"] != "+trad against orig"]
    assert len(asked) == len(content["answers"]) - 1
    assert all(answer["words"] in item["answer"] for answer in asked)
    assert "Does ordinary augmentation help?" not in item["answer"]
    assert item["answer"].count("2 repeats of 80 real cells in 20 groups") == len(asked)
    assert visible(asked[0]["median_smallest"]) in item["answer"]
    assert item["answer"].count("Averaged over all") + item["answer"].count("over the one") == len(asked)
    assert content["remarks"][0] in item["answer"]


def test_a_result_page_is_made_wholly_by_a_command(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("## What this says\n\nNothing yet.\n")
    script = Path(__file__).parents[2] / "benchmarks" / "utility.py"
    given = [str(tmp_path / "page.md"), str(finished), "--notes", str(notes), "--machine", "Here."]
    monkeypatch.setattr(sys, "argv", [str(script), *given])
    runpy.run_path(str(script), run_name="__main__")
    page = (tmp_path / "page.md").read_text()
    places = [page.index(text) for text in ("## Answers", "Nothing yet.", "## Regimes", "### Remarks")]
    assert places == sorted(places)
    shown = re.findall(r"!\[.*\]\((.*)\)", page)
    assert len(shown) == 2 + len(read_json(finished / "study.json")["answers"])
    assert all((tmp_path / name).stat().st_size > 1000 for name in shown)
    assert "| difference | interval | bootstrap |" in page
    assert asked_by(re.findall(r"`(cytoforge study .*)`", page)[0], monkeypatch) == PLAN.model_copy(
        update={
            "settings": {
                name: {key: f"{value:g}" for key, value in own.items()} for name, own in TINY.items()
            }
        }
    )


def test_a_result_page_of_an_early_study_tells_what_its_scores_say() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "utility.py"))
    cell = {
        "classifier": "linear",
        "real_per_class": 5,
        "regime": "+selected",
        "generator": "gan",
        "ratio": 2.0,
    }
    scores = [
        {**cell, "repeat": repeat, "real": 10, "synthetic": count} for repeat, count in enumerate((20, 12))
    ]
    early = {"scores": scores, "regimes": [cell], "generators": []}
    early |= {"plan": {"repeats": 2, "folds": 2}, "data": {"groups": 20}}
    assert script["with_remarks"](early)["remarks"] == [
        "5 real cells a class, +selected, gan, ratio 2: 20.0 % fewer synthetic cells than the ratio asks "
        "for; selection kept too few."
    ]


def asked_by(command: str, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan that a command line asks for."""
    plans: list[Plan] = []

    def remembered(_data: Path, _out: Path, plan: Plan, **_: object) -> dict:
        plans.append(plan)
        return {"answers": [], "remarks": [], "ledger": {}}

    monkeypatch.setattr(cytoforge.stages.study, "study", remembered)
    assert run(shlex.split(command)[1:]) == 0
    return plans[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [({"conclusion": "it helps"}, "not a study.json"), ({"kind": "study", "format": 2}, "update cytoforge")],
)
def test_what_is_no_study_is_refused(tmp_path: Path, content: dict, words: str) -> None:
    write_json(tmp_path / "study.json", content)
    with pytest.raises(DataError, match=words):
        read_study(tmp_path / "study.json")


def select_everything(cells: CachedCells, _names: Iterable[str]) -> CachedCells:
    """A selection that ignores the split."""
    return cells


@pytest.mark.parametrize("settings", [{}, {"fit": "pad"}], ids=["the study's pixels", "others"])
def test_a_generator_that_trains_on_test_cells_makes_the_study_fail(
    tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict
) -> None:
    """Its split.json names training cells alone; its loop gets all cells."""
    monkeypatch.setattr(CachedCells, "select", select_everything)
    own = {**TINY, "cvae": {**TINY["cvae"], **settings}}
    plan = PLAN.model_copy(update={"real": (None,), "regimes": ("orig", "prop"), "settings": own})
    with pytest.raises(
        DataError, match=r"leak: the generator in .* 40 test cells and cells of 10 test groups"
    ):
        study(tiny_cells, tmp_path, plan, group=PHOTO)
    assert not (tmp_path / "study.json").exists()
    (path, *_) = sorted(tmp_path.glob("jobs/*/run/split.json"))
    assert len(Split.load(path).names("train")) == 40


def test_a_generator_is_compared_with_what_it_read(finished: Path, tiny_cells: Path) -> None:
    place = study_jobs.Place(str(tiny_cells), str(finished), group=PHOTO)
    material = study_jobs.open_material(place, 32)
    for path in finished.glob("jobs/*/run/shown.json"):
        names = Split.load(path.with_name("split.json")).names("train")
        own = tuple(sorted(material.hashes[row] for row in material.rows_of(names)))
        assert Shown.load(path.parent) == Shown(train=own)
    assert read_json(finished / "ledger.json")["by_split"] == 0


def planted_in(out: Path, finished: Path, tiny_cells: Path) -> tuple[Path, str, str]:
    """The run of a generator, and name and content of a cell that it is tested with."""
    run = next(out.glob("jobs/*/run"))
    place = study_jobs.Place(str(tiny_cells), str(finished), group=PHOTO)
    material = study_jobs.open_material(place, 32)
    fold = study_jobs.outer_fold(place, 32, 2, 0, read_json(run.parent / "parameters.json")["repeat"])
    return run, material.cached.names[fold.test[0]], material.hashes[fold.test[0]]


def test_a_planted_test_cell_makes_the_study_fail(finished: Path, tiny_cells: Path, tmp_path: Path) -> None:
    """A test cell added to what a finished generator says it was measured with, then a strange picture."""
    out = copied(finished, tmp_path)
    run, _, digest = planted_in(out, finished, tiny_cells)
    shown = read_json(Shown.path(run))
    write_json(Shown.path(run), {**shown, "val": [digest]})
    with pytest.raises(DataError, match=r"leak: the generator in .* 1 test cells and cells of 1 test groups"):
        study(tiny_cells, out, PLAN, group=PHOTO)
    write_json(Shown.path(run), {**shown, "val": ["0" * 32]})
    with pytest.raises(DataError, match="1 pictures that are no cells of"):
        study(tiny_cells, out, PLAN, group=PHOTO)


def test_a_generator_of_an_earlier_version_is_compared_by_its_split(
    finished: Path, tiny_cells: Path, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path)
    run, planted, _ = planted_in(out, finished, tiny_cells)
    Shown.path(run).unlink()
    content = study(tiny_cells, out, PLAN, group=PHOTO)
    assert [text for text in content["remarks"] if text.startswith("1 generator was trained by an earlier")]
    said = Split.load(run / "split.json")
    said.model_copy(update={"parts": {**said.parts, planted: "train"}}).save(run / "split.json")
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


def test_the_ledger_goes_by_the_pixels_that_a_classifier_really_gets(
    finished: Path, tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row numbers are right, what is read under them is not."""
    out = copied(finished, tmp_path)
    for path in out.glob("jobs/*/parameters.json"):
        if read_json(path)["kind"] == "classifier":
            shutil.rmtree(path.parent)
    read = CachedCells.read
    plan = PLAN.model_copy(update={"regimes": ("orig", "+trad")})
    monkeypatch.setattr(CachedCells, "read", lambda own, rows: read(own, (rows + 7) % len(own)))
    with pytest.raises(DataError, match="leak: the classifier"):
        study(tiny_cells, out, plan, group=PHOTO)
    monkeypatch.setattr(CachedCells, "read", lambda own, rows: 255 - read(own, rows))
    with pytest.raises(DataError, match=r"leak: the classifier .* are no cells of the study"):
        study(tiny_cells, out, plan, group=PHOTO)


def test_selection_that_is_given_test_cells_stops(finished: Path, tiny_cells: Path, tmp_path: Path) -> None:
    out = copied(finished, tmp_path)
    run, planted, _ = planted_in(out, finished, tiny_cells)
    said = Split.load(run / "split.json")
    said.model_copy(update={"parts": {**said.parts, planted: "train"}}).save(run / "split.json")
    for path in out.glob("jobs/*/parameters.json"):
        if read_json(path)["kind"] in ("set", "classifier"):
            shutil.rmtree(path.parent)
    with pytest.raises(DataError, match=r"leak: the selection in .* 1 test cells and cells of 1 test groups"):
        study(tiny_cells, out, PLAN, group=PHOTO)


def test_without_orig_the_classifiers_of_augmented_real_cells_judge_synthetic_ones(
    tiny_cells: Path, tmp_path: Path
) -> None:
    few = {"real": (6,), "regimes": ("+trad", "+trad+prop")}
    (row,) = study(tiny_cells, tmp_path, PLAN.model_copy(update=few), group=PHOTO)["generators"]
    assert (row["gan_train"], list(row["gan_test"])) == ({}, ["basic-cnn"])
    assert 0 <= row["gan_test"]["basic-cnn"] <= 1
    report = (tmp_path / "report.html").read_text()
    assert "GAN-train was not asked for: it needs the regime prop. GAN-test: share of" in report


@pytest.mark.parametrize("removed", ["generator", "set"])
def test_what_was_made_from_a_removed_job_is_made_again(
    finished: Path, tiny_cells: Path, tmp_path: Path, removed: str
) -> None:
    out = copied(finished, tmp_path)
    asked = {path.parent: read_json(path) for path in out.glob("jobs/*/parameters.json")}
    trained = next(folder for folder, values in asked.items() if values["kind"] == "generator")
    made = next(folder for folder, values in asked.items() if values.get("trained") == trained.name)
    gone = trained if removed == "generator" else made
    using = {
        folder
        for folder, values in asked.items()
        if made.name in (values.get("set"), *values.get("judged", ()))
    }
    assert len(using) > 2
    others = set(asked) - using - {gone, made}
    before = {folder: (folder / "DONE").stat().st_mtime_ns for folder in others}
    shutil.rmtree(gone)
    study(tiny_cells, out, PLAN, group=PHOTO)
    assert {folder: (folder / "DONE").stat().st_mtime_ns for folder in others} == before
    marks = {
        (folder / "DONE").read_bytes() == (finished / "jobs" / folder.name / "DONE").read_bytes()
        for folder in using
    }
    assert marks == {False}
    assert read_json(out / "study.json")["scores"] == read_json(finished / "study.json")["scores"]


def test_cells_that_changed_between_two_studies_in_one_place_are_read_again(
    finished: Path, tiny_cells: Path, tmp_path: Path
) -> None:
    """One process may outlive a study: a notebook, a worker of a cluster."""
    cells, out = tmp_path / "cells", tmp_path / "out"
    shutil.copytree(tiny_cells, cells)
    out.mkdir()
    place = study_jobs.Place(str(cells), str(out), group=PHOTO)
    split_folder(open_cells(cells, "auto", PHOTO)).save(out / study_jobs.GROUPS)
    before, fold = study_jobs.open_material(place, 32), study_jobs.outer_fold(place, 32, 2, 0, 0)
    assert study_jobs.open_material(place, 32) is before
    for path in sorted((cells / "red").glob("000_*.png")):
        path.unlink()
    split_folder(open_cells(cells, "auto", PHOTO)).save(out / study_jobs.GROUPS)
    assert len(study_jobs.open_material(place, 32).labels) < len(before.labels)
    assert max(study_jobs.outer_fold(place, 32, 2, 0, 0).test) < max(*fold.test, *fold.train)


def test_a_changed_plan_is_remembered(finished: Path, tiny_cells: Path, tmp_path: Path) -> None:
    out = copied(finished, tmp_path)
    fewer = PLAN.model_copy(update={"regimes": ("orig", "+prop", "selected")})
    assert study(tiny_cells, out, fewer, group=PHOTO)["plans_before"] == 1
    assert study(tiny_cells, out, fewer, group=PHOTO)["plans_before"] == 1
    assert "plan was changed 1 time" in (out / "report.html").read_text()


def test_a_plan_that_is_refused_was_no_plan(tiny_cells: Path, tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"folds": 60, "repeats": 2})
    with pytest.raises(DataError, match="folds"):
        study(tiny_cells, tmp_path / "out", plan, group=PHOTO)
    assert not (tmp_path / "out" / "plan.json").exists()


def test_what_stopped_early_and_what_its_opponent_selected_is_told(finished: Path) -> None:
    content = read_json(finished / "study.json")
    content["generators"][0] |= {"stopped": ["collapsed after 20 images"], "chosen_by_opponent": "lite0"}
    told = remarks(content)
    assert any("stopped early" in line and line.endswith("collapsed after 20 images") for line in told)
    assert any("selected by lite0, the network that it was trained against" in line for line in told)


def test_the_legend_names_every_regime_in_a_colour_of_its_own(finished: Path) -> None:
    content = read_json(finished / "study.json")
    regimes = list(REGIMES)
    content["plan"]["regimes"] = regimes
    row = content["regimes"][0]
    content["regimes"] = [
        {**row, "regime": name, "generator": "control" if REGIMES[name].control else "cvae"}
        for name in regimes
    ]
    figure = _curves(content)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == regimes
    lines = [line for panel in figure.axes for line in panel.get_lines() if line.get_marker() == "o"]
    assert len({line.get_color() for line in lines}) == len(lines) == len(regimes)


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


def test_a_painter_gets_the_masks_of_its_training_cells_turned_where_there_are_too_few(
    tmp_path: Path,
) -> None:
    phantom(tmp_path / "cells", per_class=12, size=32)
    narrow = {"width": 4, "most_width": 8, "norm": "group", "discriminator_width": 4, "batch": 8}
    plan = PLAN.model_copy(update={
        "generators": ("pix2pix",), "real": (4,), "ratios": (2.5,), "regimes": ("orig", "+prop"),
        "settings": {"pix2pix": narrow, "basic-cnn": TINY["basic-cnn"]},
    })  # fmt: skip
    found = study(tmp_path / "cells", tmp_path / "out", plan)
    assert all(row["synthetic"] == 2.5 * row["real"] for row in found["scores"] if row["regime"] == "+prop")
    cells = open_cells(tmp_path / "cells")
    sets = list((tmp_path / "out" / "jobs").glob("*/set"))
    assert len(sets) == plan.repeats
    for folder in sets:
        origin = tmp_path / "out" / "jobs" / read_json(folder.parent / "parameters.json")["trained"]
        trained = set(Split.load(origin / "run" / "split.json").parts)
        for name in cells.classes:
            own = [read_mask(cell) for cell in cells.cells if cell.name in trained and cell.label == name]
            sides = [side for mask in own for side in (mask, mask[:, ::-1])]
            views = {np.rot90(side, turns).tobytes() for side in sides for turns in range(4)}
            drawn = [read_mask_file(path) for path in sorted((folder / "masks" / name).glob("*.png"))]
            assert len(drawn) == 10
            assert {mask.tobytes() for mask in drawn} <= views
            assert len({mask.tobytes() for mask in drawn}) == 10


def test_a_painter_is_refused_where_cells_have_no_masks(tiny_cells: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cytoforge mask"):
        study(tiny_cells, tmp_path / "out", PLAN.model_copy(update={"generators": ("cvae", "pix2pix")}))
    assert not (tmp_path / "out").exists()


def test_masks_are_needed_of_every_class_and_only_where_cells_are_drawn(tmp_path: Path) -> None:
    phantom(tmp_path / "cells", per_class=2, size=32)
    cells, plan = open_cells(tmp_path / "cells"), PLAN.model_copy(update={"generators": ("pix2pix",)})
    check_masks(plan, cells)
    bare = replace(cells, cells=tuple(
        replace(cell, mask=None) if cell.label == "Parabasal" else cell for cell in cells.cells
    ))  # fmt: skip
    with pytest.raises(ConfigError, match="none of class 'Parabasal'"):
        check_masks(plan, bare)
    check_masks(plan.model_copy(update={"regimes": ("orig", "+trad")}), bare)


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


def test_real_cells_shown_as_often_as_beside_synthetic_ones(tiny_cells: Path, tmp_path: Path) -> None:
    """Steps by hand: 6 at ratio 2 and 0.5 are 2 and 4; the baseline is that of the same ratio."""
    few = {"real": (6,), "ratios": (2.0, 0.5), "regimes": ("orig", "+prop", "orig-short")}
    plan = PLAN.model_copy(update=few)
    assert cost(plan)["classifiers"] == 2 * (1 + 2 + 2)
    content = study(tiny_cells, tmp_path / "out", plan, group=PHOTO)
    asked = [read_json(path) for path in (tmp_path / "out" / "jobs").glob("*/parameters.json")]
    steps = [(own["ratio"], own["recipe"]["steps"]) for own in asked if own["kind"] == "classifier"]
    assert sorted(steps, key=str) == sorted(
        2 * [(None, 6), (2.0, 6), (0.5, 6), (None, 2), (None, 4)], key=str
    )
    scores = {
        (row["regime"], row["ratio"], row["repeat"]): row["balanced_accuracy"] for row in content["scores"]
    }
    for row in content["comparisons"]:
        if row["question"] != "+prop against orig":
            new, base = row["question"].split(" against ")
            ratio, used = row["ratio"], None if new == "orig" else row["ratio"]
            apart = [scores[new, used, repeat] - scores[base, ratio, repeat] for repeat in range(2)]
            assert row["difference"] == pytest.approx(np.mean(apart))
    asked_of = [(row["question"], row["ratio"]) for row in content["comparisons"]]
    assert sorted(asked_of) == [
        (f"{new} against {base}", ratio)
        for new, base in (("+prop", "orig"), ("+prop", "orig-short"), ("orig", "orig-short"))
        for ratio in (0.5, 2.0)
    ]


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
        ({"generators": ("cyclegan",)}, "from training cells alone"),
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
        ({"generators": ("diffusion",), "resolution": 52, "settings": {}}, "resolution"),
        ({"generators": ("diffusion",), "settings": {"diffusion": {"freeze": True}}}, "new weights"),
    ],
)
def test_plans_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_plan(PLAN.model_copy(update=changes))
