from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from cytoforge.cli.main import run as command
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.evaluation.classifiers import open_classifier
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


def test_names_that_a_spreadsheet_would_run(tiny_cells: Path, tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    shutil.copytree(tiny_cells / "blue", cells / "=cmd")
    shutil.copytree(tiny_cells / "red", cells / "<script>alert(1)<")
    report(cells, tmp_path / "out", recipe="basic-cnn", settings={**TINY, "steps": 2}, folds=2)
    rows = list(csv.reader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert not [text for row in rows[1:] for text in row if text.startswith(("=", "+", "-", "@"))]
    assert "<script>" not in (tmp_path / "out" / "classify.html").read_text()


def test_a_run_is_trained_and_opened(
    tiny_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"{name}={value}" for name, value in TINY.items()]
    place = tmp_path / "run"
    arguments = ["classify", "train", str(tiny_cells), "--run", str(place), "--recipe", "basic-cnn"]
    assert command([*arguments, *(word for pair in settings for word in ("--set", pair)), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["accuracy"] > 0.8
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
