from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from pydantic import ValidationError

from cytoforge.cli.main import run as command
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.evaluation.classifier_report import ClassifierReport
from cytoforge.evaluation.classifiers import open_classifier
from cytoforge.networks.backbones import Backbone
from cytoforge.report.classify import sentence
from cytoforge.stages.classify import report, train

TINY = {"resolution": 16, "steps": 30, "batch": 8, "learning_rate": 3e-3}


def test_a_report_says_everything_twice_and_goes_on(tiny_cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    judged = report(tiny_cells, out, recipe="basic-cnn", settings=TINY, folds=2, group=r"(\w+/\d+)_")
    assert judged.grouped.sibling == 0
    assert judged.random.sibling > 0.5
    assert judged.grouped.scores.accuracy.value > 0.9, "red and blue squares"
    assert judged.random.scores.count == judged.grouped.scores.count == judged.cells == 80
    assert judged.leak.value == pytest.approx(
        judged.random.scores.accuracy.value - judged.grouped.scores.accuracy.value
    )
    stored = json.loads((out / "classify.json").read_text())
    assert stored["grouped"]["scores"]["accuracy"]["value"] == judged.grouped.scores.accuracy.value
    page = (out / "classify.html").read_text()
    assert "leak inflation" in page
    assert "too short" not in sentence(judged)
    assert "Intervals over 9 groups are too short" in sentence(judged.model_copy(update={"groups": 9}))
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    for name in ("curves", "confusion", "roc"):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.width > 300
    rows = list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
    assert len(rows) == 80
    assert float(rows[0]["grouped p(blue)"]) + float(rows[0]["grouped p(red)"]) == pytest.approx(1, abs=1e-3)

    done = sorted(out.glob("folds/*/DONE"))
    assert len(done) == 4
    assert not list(out.glob("folds/*/run/checkpoints/*")), "only the answers are kept"
    before = [path.stat().st_mtime_ns for path in done]
    shutil.rmtree(done[0].parent)
    again = report(tiny_cells, out, recipe="basic-cnn", settings=TINY, folds=2, group=r"(\w+/\d+)_")
    assert again.grouped.scores == judged.grouped.scores
    assert again.random.scores == judged.random.scores
    with pytest.raises(DataError, match="--group"):
        report(tiny_cells, out, recipe="basic-cnn", settings=TINY, folds=2)
    assert [path.stat().st_mtime_ns for path in done][1:] == before[1:], "finished folds are only read"


def test_a_report_against_another_says_what_is_gained_cell_by_cell(
    tiny_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {"recipe": "basic-cnn", "folds": 2, "group": r"(\w+/\d+)_"}
    report(tiny_cells, tmp_path / "weak", settings={**TINY, "steps": 1}, **asked)
    asked["settings"] = {**TINY, "steps": 20}
    judged = report(tiny_cells, tmp_path / "out", **asked, against=tmp_path / "weak")
    assert judged.against is not None
    right = {}
    for name in ("weak", "out"):
        rows = list(csv.DictReader((tmp_path / name / "predictions.csv").read_text().splitlines()))
        right[name] = np.mean([row["grouped found"] == row["class"] for row in rows])
    assert judged.against.accuracy.value == pytest.approx(right["weak"])
    assert judged.against.gain.value == pytest.approx(right["out"] - right["weak"])
    assert 0 < judged.against.gain.low < judged.against.gain.value < judged.against.gain.high
    assert judged.against.settings["steps"] == 1
    assert "it is better" in (tmp_path / "out" / "classify.html").read_text()
    stored = json.loads((tmp_path / "out" / "classify.json").read_text())
    assert stored["against"] == judged.against.model_dump()
    again = ["classify", "report", str(tiny_cells), "--out", str(tmp_path / "out"), "--folds", "2"]
    again += ["--recipe", "basic-cnn", "--group", r"(\w+/\d+)_", "--against", str(tmp_path / "weak")]
    again += [word for pair in asked["settings"].items() for word in ("--set", "{}={}".format(*pair))]
    assert command(again) == 0
    assert "Against basic-cnn on the same cells" in capsys.readouterr().out
    for other in ({"seed": 1}, {"folds": 3}, {"group": r"(\w+/\d)"}):
        with pytest.raises(DataError, match=r"--against .*expected these 80 cells"):
            report(tiny_cells, tmp_path / "new", **{**asked, **other}, against=tmp_path / "weak")
        shutil.rmtree(tmp_path / "new")
    with pytest.raises(DataError, match="no finished classify report"):
        report(tiny_cells, tmp_path / "new", **asked, against=tmp_path)


def test_without_photos_nothing_is_said_of_siblings(tiny_cells: Path, tmp_path: Path) -> None:
    judged = report(tiny_cells, tmp_path / "out", recipe="basic-cnn", settings=TINY, folds=2)
    assert judged.ungrouped
    assert "leak inflation" not in sentence(judged)
    assert "No photo, slide or patient is known" in sentence(judged)
    page = (tmp_path / "out" / "classify.html").read_text()
    assert "is not seen to flatter" not in page
    assert "what to expect of a new photo, cannot be said" in page


def test_a_linear_layer_on_frozen_features_is_reported_without_curves(
    tiny_cells: Path, tmp_path: Path
) -> None:
    settings = {"resolution": 32, "steps": 30, "copies": 1}
    judged = report(tiny_cells, tmp_path / "linear", recipe="linear", settings=settings, folds=2)
    assert judged.grouped.scores.accuracy.value > 0.9, "red and blue squares"
    assert judged.grouped.curves == ()
    assert not (tmp_path / "linear" / "curves.png").exists()
    assert "accuracy while training" not in (tmp_path / "linear" / "classify.html").read_text()


def test_another_file_of_weights_under_one_name_is_another_job(tiny_cells: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    asked = {"resolution": 32, "steps": 1, "batch": 4, "views": 1, "weights": str(weights)}
    for seed in (0, 1):
        torch.manual_seed(seed)
        body: Any = Backbone("resnet18", 2, 32, "none").body
        safetensors.torch.save_file(body.state_dict(), weights)
        report(tiny_cells, tmp_path / "out", recipe="timm:resnet18", settings=asked, folds=2)
        assert len(list(tmp_path.glob("out/folds/*/DONE"))) == 4 * (seed + 1)


def test_classes_of_one_coarse_kind_have_no_coarse_score(tiny_cells: Path, tmp_path: Path) -> None:
    for old, new in (("blue", "Dyskeratotic"), ("red", "Koilocytotic")):
        folder = tmp_path / "cells" / f"im_{new}" / f"im_{new}" / "CROPPED"
        shutil.copytree(tiny_cells / old, folder)
    judged = report(tmp_path / "cells", tmp_path / "out", recipe="basic-cnn", settings=TINY, folds=2)
    assert judged.layout == "sipakmed"
    assert judged.grouped.coarse is None
    assert judged.published == (), "others' figures are of five classes"


def test_workers_give_the_tables_of_one_process(tiny_cells: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"recipe": "basic-cnn", "settings": {**TINY, "steps": 4}, "folds": 2}
    places: dict[str, dict[str, Any]] = {"one": {}, "two": {"executor": "loky", "workers": 2}}
    tables = []
    for name, workers in places.items():
        out = tmp_path / name
        report(tiny_cells, out, **asked, **workers)
        numbers = json.loads((out / "classify.json").read_text())
        assert numbers["settings"]["precision"] == "32-true", "not measured by each worker"
        for protocol in ("random", "grouped"):
            del numbers[protocol]["seconds"]
        tables.append(((out / "predictions.csv").read_bytes(), numbers))
    assert tables[0] == tables[1]


def test_files_that_are_left_out_are_named(
    tiny_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = tmp_path / "cells"
    shutil.copytree(tiny_cells, cells)
    (cells / "red" / "<b>.png").write_bytes((cells / "red" / "000_00.png").read_bytes()[:300])
    (cells / "blue" / "empty.png").write_bytes(b"")
    judged = report(cells, tmp_path / "out", recipe="basic-cnn", settings={**TINY, "steps": 2}, folds=2)
    assert judged.cells == 80
    stored = json.loads((tmp_path / "out" / "classify.json").read_text())
    assert stored["format"] == 1
    assert [path for path, _ in stored["faults"]] == ["blue/empty.png", "red/<b>.png"]
    assert all(reason for _, reason in stored["faults"])
    page = (tmp_path / "out" / "classify.html").read_text()
    assert "2 files are left out" in page
    assert "<b>.png" not in page
    again = ["classify", "report", str(cells), "--out", str(tmp_path / "out"), "--recipe", "basic-cnn"]
    again += [word for name, value in {**TINY, "steps": 2}.items() for word in ("--set", f"{name}={value}")]
    assert command([*again, "--folds", "2"]) == 0
    assert "2 files are left out" in capsys.readouterr().out
    with pytest.raises(ValidationError, match="format"):
        ClassifierReport.model_validate({**stored, "format": 2})


def test_measurements_say_what_was_chosen_and_what_is_missing(tiny_cells: Path, tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    shutil.copytree(tiny_cells, cells)
    Image.fromarray(np.full((48, 48, 3), 230, np.uint8)).save(cells / "red" / "100_00.png")
    settings = {
        "masks": "unsupervised",
        "scales": ("standard",),
        "C": (1.0,),
        "gamma": (0.01,),
        "inner_folds": 2,
    }
    judged = report(cells, tmp_path / "out", recipe="svm", settings=settings, folds=2, group=r"(\w+/\d+)_")
    assert judged.measuring is not None
    assert judged.measuring.from_given_masks == 0
    assert judged.measuring.unmeasured + judged.measuring.incomplete >= 1
    assert [set(search.chosen) for search in judged.grouped.searches] == [{"C", "gamma", "scale"}] * 2
    assert all(0 <= search.inner_accuracy <= 1 for search in judged.grouped.searches)
    page = (tmp_path / "out" / "classify.html").read_text()
    assert "medians of" in page
    assert "scale standard" in page


def test_names_that_a_spreadsheet_would_run(tiny_cells: Path, tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    shutil.copytree(tiny_cells / "blue", cells / "=cmd")
    shutil.copytree(tiny_cells / "red", cells / "<script>alert(1)<")
    report(cells, tmp_path / "out", recipe="basic-cnn", settings={**TINY, "steps": 2}, folds=2)
    rows = list(csv.reader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert not [text for row in rows[1:] for text in row if text.startswith(("=", "+", "-", "@"))]
    assert "<script>" not in (tmp_path / "out" / "classify.html").read_text()


def test_a_seed_may_be_negative(tiny_cells: Path, tmp_path: Path) -> None:
    settings = {**TINY, "steps": 2}
    place = train(tiny_cells, tmp_path / "run", recipe="basic-cnn", settings=settings, seed=-1).path
    assert open_classifier(place).classes == ("blue", "red")
    judged = report(tiny_cells, tmp_path / "out", recipe="basic-cnn", settings=settings, folds=2, seed=-1)
    assert judged.seed == -1


def test_a_run_is_trained_and_opened(
    tiny_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"{name}={value}" for name, value in TINY.items()]
    place = tmp_path / "run"
    arguments = ["classify", "train", str(tiny_cells), "--run", str(place), "--recipe", "basic-cnn"]
    assert command([*arguments, *(word for pair in settings for word in ("--set", pair)), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["accuracy"] > 0.8
    assert "one division; classify report" in facts["accuracy_on"]
    fitted = open_classifier(place)
    assert fitted.classes == ("blue", "red")
    assert (place / "split.json").is_file()
    assert list((place / "samples").glob("*.png"))
    resumed = train(tiny_cells, place, recipe="basic-cnn", settings=TINY, resume=True)
    assert resumed.path == place
    with pytest.raises(ConfigError, match=r"recipe.steps: the run has 30, asked for 31"):
        train(tiny_cells, place, recipe="basic-cnn", settings={**TINY, "steps": 31}, resume=True)
    with pytest.raises(ConfigError, match="--resume"):
        train(tiny_cells, place, recipe="basic-cnn", settings=TINY)
    with pytest.raises(ConfigError, match="classify report"):
        train(tiny_cells, tmp_path / "svm", recipe="svm")
