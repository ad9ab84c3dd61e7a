from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cytoforge.cli.main import run as command
from cytoforge.core.errors import CheckpointError, ConfigError, DataError
from cytoforge.core.jobs import run_jobs
from cytoforge.data.folder import open_cells
from cytoforge.data.split import split_cells
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.trust import Calibration
from cytoforge.stages import classify
from cytoforge.stages.bench_predict import bench_run
from cytoforge.stages.calibrate import _framings, calibrate
from cytoforge.stages.explain import explain
from cytoforge.stages.predict import predict

SETTINGS = {
    "steps": "12", "batch": "32", "resolution": "32", "learning_rate": "0.005", "average_half_life": "32",
    "dropout": "0", "augment": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    """Red and blue cells with a dark nucleus, four to a photo; every tenth photo has them mixed up."""
    root = tmp_path_factory.mktemp("trust") / "my cells"
    rng = np.random.default_rng(0)
    for label, name in enumerate(("=blue", "red")):
        (root / name).mkdir(parents=True)
        for index in range(160):
            mixed = index // 4 % 10 == 9 and index % 2
            Image.fromarray(cell(rng, label ^ int(mixed))).save(
                root / name / f"{index // 4:03d}_{index % 4}.png"
            )
    return root


def cell(rng: np.random.Generator, label: int, side: int = 40) -> np.ndarray:
    picture = rng.integers(200, 230, (side, side, 3)).astype(np.uint8)
    inner = slice(side // 5, -side // 5)
    picture[inner, inner] = (180, 190, 235) if label == 0 else (235, 180, 190)
    core = slice(2 * side // 5, -2 * side // 5)
    picture[core, core] = (50, 30, 70)
    return picture


@pytest.fixture(scope="module")
def trained(cells, tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("trust") / "run"
    divided = split_cells(open_cells(cells, group=r"(\S+/\d+)_"), (0.6, 0.2, 0.2))
    divided.save(run.parent / "split.json")
    classify.train(cells, run, recipe="basic-cnn", settings=SETTINGS, split=run.parent / "split.json")
    return run


@pytest.fixture(scope="module")
def calibrated(trained) -> Calibration:
    return calibrate(trained, engine="torch", coverages=(0.6, 0.8))


def test_calibration_is_kept_and_judged_on_groups_it_has_not_seen(trained, calibrated):
    content = Calibration.model_validate_json((trained / "calibration.json").read_text())
    assert content == calibrated
    assert content.part == "val"
    assert content.judged is not None
    assert content.judged.part == "test"
    split = json.loads((trained / "split.json").read_text())
    own = {split["groups"][name] for name, part in split["parts"].items() if part == "val"}
    assert set(content.groups) == own
    assert content.framings is not None
    assert 2 < content.framings[1] < 8  # 40 px over a nucleus of 8 px
    for coverage in content.judged.coverage:
        assert coverage.answered is not None
        assert coverage.answered.count == content.judged.cells
    assert (trained / "calibration" / "calibration.png").is_file()


def test_the_whole_of_predict_says_what_timm_says(trained, calibrated, cells):
    found = bench_run(trained, cells / "red", rounds=1, engine="torch")
    assert (found.same, found.views, found.engine) == (1, 1, "torch")
    assert found.difference < 1e-4
    assert found.ratio == pytest.approx(found.ours / found.plain)


def test_a_folder_becomes_a_table_a_file_and_a_picture(trained, calibrated, cells, tmp_path):
    (tmp_path / "out" / "jobs").mkdir(parents=True)
    found = predict(trained, cells / "red", tmp_path / "out", coverage=0.8, engine="torch")
    assert (tmp_path / "out" / "jobs").is_dir(), "those of a study, which lie there too"
    assert len(found.cells) == 160
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert [row["image"] for row in rows[:2]] == ["000_0.png", "000_1.png"]
    right = np.mean([row["class"] == "red" for row in rows])
    assert right > 0.9
    assert not any(row["class"].startswith("=") for row in rows)
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["calibrated"]
    assert "Not for diagnosis" in content["notice"]
    assert "not an official guideline" in content["note"]
    assert content["caveat"] == calibrated.caveat
    assert content["cells"][0]["probabilities"].keys() == {"=blue", "red"}
    names = [row["image"] for row in rows]
    assert content["annotated"] == dict.fromkeys(names[:60], "annotated.png")
    assert (tmp_path / "out" / "annotated.png").is_file()


def test_results_inside_the_folder_are_no_pictures(trained, calibrated, tmp_path):
    (tmp_path / "sub").mkdir()
    Image.fromarray(cell(np.random.default_rng(5), 1)).save(tmp_path / "sub" / "cell.png")
    for _ in range(2):
        found = predict(trained, tmp_path, tmp_path / "answers", coverage=0.8, engine="torch")
        assert [each["image"] for each in found.cells] == ["sub/cell.png"]
    again = explain(trained, tmp_path, tmp_path / "answers", coverage=0.8)
    assert len(again.cells) == 1
    above = predict(trained, tmp_path / "sub", tmp_path, coverage=0.8, engine="torch")
    assert len(above.cells) == 1
    with pytest.raises(ConfigError, match="folder of the pictures"):
        predict(trained, tmp_path, tmp_path, coverage=0.8, engine="torch")


def test_ones_own_text_says_what_classes_mean(trained, calibrated, tmp_path):
    Image.fromarray(cell(np.random.default_rng(5), 1)).save(tmp_path / "cell.png")
    meaning = "{names: [RED], kind: other, meaning: A red square., follow_up: Ask Anna.}"
    (tmp_path / "own.yaml").write_text(f"note: Our own words.\nclasses: [{meaning}]\n")
    call = ["classify", "predict", str(trained), str(tmp_path / "cell.png"), "--out", str(tmp_path / "out")]
    own = ["--meanings", str(tmp_path / "own.yaml")]
    assert command([*call, "--coverage", "0.8", "--engine", "torch", *own]) == 0
    (row,) = csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines())
    assert (row["class"], row["kind"]) == ("red", "other")
    assert (row["meaning"], row["usual follow-up"]) == ("A red square.", "Ask Anna.")
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["note"] == "Our own words."


def test_predictions_say_which_photo_is_drawn_where(trained, calibrated, tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    for name in ("b.png", "d.png"):
        Image.fromarray(cell(rng, 1, 120)).save(tmp_path / "in" / name)
    Image.fromarray(np.full((80, 80, 3), 220, np.uint8)).save(tmp_path / "in" / "c.png")
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    predict(trained, tmp_path / "in", tmp_path / "out", photos=True, coverage=0.8, engine="torch")
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["annotated"] == {
        "b.png": "annotated-0001.png", "c.png": "annotated-0002.png", "d.png": "annotated-0003.png",
    }  # fmt: skip
    assert content["caveat"].startswith(calibrated.caveat)
    assert "not promised in photos" in content["caveat"]
    for name, file in content["annotated"].items():
        with Image.open(tmp_path / "in" / name) as photo, Image.open(tmp_path / "out" / file) as drawn:
            assert photo.size == drawn.size


def test_a_broken_file_among_photos_without_a_nucleus_is_told(trained, calibrated, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no picture of"):
        predict(trained, tmp_path / "in", tmp_path / "out", photos=True, coverage=0.8, engine="torch")
    Image.fromarray(np.full((80, 80, 3), 220, np.uint8)).save(tmp_path / "in" / "b.png")
    found = predict(trained, tmp_path / "in", tmp_path / "out", photos=True, coverage=0.8, engine="torch")
    assert found.cells == ()
    assert list(found.faults) == ["a.png"]
    assert (tmp_path / "out" / "annotated.png").is_file()


def test_a_cell_beyond_the_limit_is_of_an_unknown_kind(trained, calibrated, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(cell(np.random.default_rng(5), 1)).save(tmp_path / "in" / "cell.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    path = trained / "calibration.json"
    before = path.read_text()
    path.write_text(calibrated.model_copy(update={"novelty_threshold": 0.0}).model_dump_json())
    try:
        found = predict(trained, tmp_path / "in", tmp_path / "out", coverage=0.8, engine="torch")
    finally:
        path.write_text(before)
    assert found.cells[0]["unknown"]
    assert not found.cells[0]["sure"]
    assert list(found.faults) == ["broken.png"]


def test_cells_are_found_in_a_photo(trained, calibrated, tmp_path):
    rng = np.random.default_rng(1)
    photo = rng.integers(200, 230, (240, 320, 3)).astype(np.uint8)
    placed = {(20, 30): 0, (40, 200): 1, (150, 60): 1, (160, 240): 0}
    for (top, left), label in placed.items():
        photo[top : top + 40, left : left + 40] = cell(rng, label)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    found = predict(
        trained, tmp_path / "photo.png", tmp_path / "out", photos=True, coverage=0.8, engine="torch"
    )
    boxes = {}
    for each in found.cells:
        left, top, width, _ = each["box"]
        boxes[round(top + width / 2), round(left + width / 2)] = each["class"]
    assert len(found.cells) == 4
    for (top, left), label in placed.items():
        near = min(boxes, key=lambda centre: abs(centre[0] - top - 20) + abs(centre[1] - left - 20))
        assert abs(near[0] - top - 20) <= 4
        assert boxes[near] == ("=blue", "red")[label]
    assert (tmp_path / "out" / "annotated.png").is_file()


def test_explanations_show_heat_and_neighbours(trained, calibrated, cells, tmp_path):
    found = explain(trained, cells / "=blue", tmp_path, coverage=0.8, most=6)
    page = (tmp_path / "explanation.html").read_text()
    assert len(found.cells) == 6
    assert page.count('alt="training cell"') == 30
    assert "<script" not in page
    nearest = found.cells[0]["nearest"]
    assert [each["class"] for each in nearest].count("=blue") >= 3
    assert nearest[0]["distance"] <= nearest[-1]["distance"]
    assert set(found.sanity) == {1, 5, 10_000}
    content = json.loads((tmp_path / "explanation.json").read_text())
    assert content["sanity"]["10000"] == found.sanity[10_000].model_dump()
    assert content["follows_weights"] == (found.sanity[10_000].mean < 0.7)


def test_broken_pictures_do_not_count_among_those_that_are_explained(trained, calibrated, cells, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        (folder / f"a{number}.png").write_bytes(b"half")
    for name in ("000_0.png", "000_1.png", "000_2.png"):
        shutil.copy(cells / "red" / name, folder / name.replace("000", "b"))
    found = explain(trained, folder, tmp_path / "out", most=2, coverage=0.8)
    assert [cell["image"] for cell in found.cells] == ["b_0.png", "b_1.png"]


@pytest.mark.parametrize(("fit", "side"), [("crop", 40), ("pad", 90), ("stretch", 60)])
def test_the_framing_is_that_of_the_square_that_the_network_saw(tmp_path, fit, side):
    rng = np.random.default_rng(0)
    for number in range(4):
        picture = np.full((40, 90, 3), 235, np.uint8) - rng.integers(0, 8, (40, 90, 3), np.uint8)
        picture[8:32, 25:65] = (200, 205, 220)
        picture[15:25, 40:50] = (60, 30, 90)
        (tmp_path / "cells" / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "cells" / f"{number % 2}" / f"{number}.png")
    cells = open_cells(tmp_path / "cells")
    divided = split_cells(cells, (1.0, 0.0, 0.0))
    found = _framings(cells, divided, Preparation(resolution=32, fit=fit), 0)
    assert found is not None
    assert found[1] == pytest.approx(side / 10, rel=0.2)


def test_pictures_of_one_name_are_told_apart_and_no_local_folder_is_told(trained, calibrated, tmp_path):
    for index, folder in enumerate(("a", "b", "c")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        picture = Image.fromarray(cell(np.random.default_rng(index), index % 2))
        picture.save(tmp_path / "in" / folder / "1.png")
    (tmp_path / "in" / "c" / "1.png").write_bytes(b"no picture")
    explained = explain(trained, tmp_path / "in", tmp_path / "why", coverage=0.8)
    named = predict(trained, tmp_path / "in", tmp_path / "what", coverage=0.8, engine="torch")
    for found in (explained, named):
        assert [each["image"] for each in found.cells] == ["a/1.png", "b/1.png"]
        assert list(found.faults) == ["c/1.png"]
        assert str(tmp_path) not in found.faults["c/1.png"]
    assert str(tmp_path) not in (tmp_path / "why" / "explanation.html").read_text()
    for each in (explain, predict):
        with pytest.raises(DataError, match=r"the first: 1\.png: not a"):
            each(trained, tmp_path / "in" / "c" / "1.png", tmp_path / "none", coverage=0.8)


def test_without_calibration_nothing_is_promised(trained, calibrated, cells, tmp_path):
    (trained / "calibration.json").rename(tmp_path / "kept.json")
    try:
        found = predict(trained, cells / "red" / "000_0.png", tmp_path / "out", engine="torch")
    finally:
        (tmp_path / "kept.json").rename(trained / "calibration.json")
    assert not found.calibrated
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["cells"][0]["possible"] is None
    assert content["cells"][0]["answer"] == "not calibrated"


def test_workers_give_the_table_of_one_process(trained, calibrated, cells, tmp_path, monkeypatch):
    parts = []

    def spied(work, jobs, *rest):
        parts.append([len(job.parameters["files"]) for job in jobs])
        return run_jobs(work, jobs, *rest)

    monkeypatch.setattr("cytoforge.stages.predict.run_jobs", spied)
    tables = []
    for name, options in (("one", {}), ("two", {"executor": "loky", "workers": 2})):
        predict(trained, cells / "red", tmp_path / name, coverage=0.8, engine="torch", **options)
        tables.append((tmp_path / name / "predictions.csv").read_bytes())
    assert tables[0] == tables[1]
    assert parts == [[64, 64, 32]] * 2, "two workers have something to do"


def test_a_seed_of_a_calibration_may_be_negative(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    assert calibrate(run, engine="torch", seed=-1).judged is not None


def test_wrong_use_is_refused_in_words(trained, calibrated, cells, tmp_path, capsys):
    with pytest.raises(ConfigError, match="not calibrated"):
        predict(trained, cells, tmp_path / "a", coverage=0.99, engine="torch")
    with pytest.raises(DataError, match="does not exist"):
        predict(trained, tmp_path / "none", tmp_path / "a", coverage=0.8, engine="torch")
    with pytest.raises(ConfigError, match="--part train"):
        calibrate(trained, part="train")
    for judged_on in ("val", "train"):
        with pytest.raises(ConfigError, match=f"--judged-on {judged_on}"):
            calibrate(trained, judged_on=judged_on)
    reference = trained / "calibration" / "reference.safetensors"
    before = reference.read_bytes()
    reference.write_bytes(before[:-4] + b"\0\0\0\1")
    try:
        with pytest.raises(CheckpointError, match="changed"):
            predict(trained, cells, tmp_path / "a", coverage=0.8, engine="torch")
    finally:
        reference.write_bytes(before)
    asked = ["classify", "predict", str(trained), str(cells / "red"), "--out", str(tmp_path / "b")]
    assert command([*asked, "--coverage", "0.8", "--engine", "torch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == 160
