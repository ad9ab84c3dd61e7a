import sys

import pytest

from cytoforge.core.device import native_precision
from cytoforge.core.errors import ConfigError
from cytoforge.core.files import read_json, write_json
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.data.split import Split
from cytoforge.experiments import generators
from cytoforge.experiments.generators import Budget
from cytoforge.methods.catalogue import METHODS


def test_every_method_that_needs_no_large_model_competes():
    contestants = {*generators.UNCONDITIONED, *generators.PAINTERS}
    assert contestants - set(generators.VARIANTS) == set(METHODS) - {"text-to-image"}
    assert {method for method, _ in generators.VARIANTS.values()} < set(METHODS)


def test_painters_need_masks(tmp_path, tiny_cells):
    with pytest.raises(ConfigError, match="cytoforge mask"):
        generators.run_painters(tiny_cells, tmp_path / "out", "smoke")


def train_by(script, place, monkeypatch):
    """Let a shell script stand for the command that trains."""
    program = place / "train.sh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(generators, "UNCONDITIONED", ("wgan-gp", "gan"))


def test_a_training_that_stops_itself_is_a_result(tmp_path, tiny_cells, monkeypatch):
    train_by("exit 3", tmp_path, monkeypatch)
    result = generators.run(tiny_cells, tmp_path / "out", "smoke")
    assert set(result["stopped"]) == {"wgan-gp, seed 0", "gan, seed 0"}
    assert result["numbers"] == {}
    assert "| gan, seed 0 | stopped" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize("script", ["exit 2", "exit 130", "kill -9 $$"])
def test_a_training_that_fails_is_none(tmp_path, tiny_cells, monkeypatch, script):
    train_by(script, tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=r"wgan-gp could not be trained.*train\.log"):
        generators.run(tiny_cells, tmp_path / "out", "smoke")
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize(
    ("settings", "precision"), [({}, native_precision()), ({"precision": "32-true"}, "32-true")]
)
def test_all_train_in_one_number_format(tmp_path, tiny_cells, monkeypatch, settings, precision):
    train_by('echo "$@"; exit 3', tmp_path, monkeypatch)
    generators.run(tiny_cells, tmp_path / "out", "smoke", Budget(settings=settings))
    for name in ("wgan-gp", "gan"):
        log = tmp_path / "out" / "seed-0" / name / "train.log"
        assert f"--set=precision={precision}" in log.read_text().split()


def measured(distance, floor, **more):
    """The part of metrics.json that the table is made of."""
    names = ("kernel_distance", "precision", "recall", "coverage")
    overall = {name: {"value": distance, "floor": floor} for name in names}
    return {"overall": overall, "class_correctness": None, "copies": None, **more}


def test_what_few_cells_or_one_class_leave_unknown_is_an_empty_column(tmp_path):
    """No classes to recognise, no copy test, then no floors, no numbers."""
    for judge in generators.JUDGES:
        write_json(tmp_path / judge / "metrics.json", measured(0.3, 0.1))
    scores = generators._scores(measured(0.2, 0.1), measured(0.3, None))
    assert scores == {"KID": 0.2, "KID 2": 0.3, "precision": 0.3, "recall": 0.3, "coverage": 0.3}
    floors = generators._floors(tmp_path)
    assert floors == dict.fromkeys(("KID", "KID 2", "precision", "recall", "coverage"), 0.1)
    judged = {"accuracy": 0.8, "holdout_accuracy": None}
    known = {"class_correctness": judged, "copies": {"flagged": 1, "checked": 4, "false_alarm_rate": 0.01}}
    for judge in generators.JUDGES:
        write_json(tmp_path / judge / "metrics.json", measured(0.3, None, **known))
    assert generators._floors(tmp_path) == {"copies": 0.01}
    assert generators._scores(measured(0.2, 0.1), {**known, "overall": {}}) == {
        "KID": 0.2,
        "class": 0.8,
        "copies": 0.25,
    }
    found = {"none": [{"KID": 0.2}], "some": [scores], "once": [{"KID": 0.2, "KID 2": 0.5}, {"KID": 0.1}]}
    lines = generators.page(found, {}, [floors]).splitlines()
    assert lines[-3] == "| some | 0.200 | 0.300 | 0.300 | 0.300 | 0.300 |  |  |  |  |"
    assert lines[-2] == "| none | 0.200 |  |  |  |  |  |  |  |  |"
    assert lines[-1] == "| once | 0.150 (0.100 to 0.200) |  |  |  |  |  |  |  |  |"


@pytest.mark.slow
def test_painters_paint_onto_masks_of_validation_cells(tmp_path, monkeypatch):
    monkeypatch.setitem(generators.BUDGETS, "smoke", Budget(resolution=32, minutes=0.02, drawn=10))
    result = generators.run_painters(None, tmp_path, "smoke")
    assert set(result["numbers"]) == set(generators.PAINTERS), result["stopped"]
    run = Run.open(tmp_path / "seed-0" / "pix2pix" / "run")
    validation = set(Split.load(run.split_path).names("val"))
    masks = run.path.with_name("masks").rglob("*.png")
    assert {decode_png(path.read_bytes(), "L")[1]["Mask"] for path in masks} == validation
    assert not (tmp_path / "seed-0" / "syncgan" / "masks").exists()


@pytest.mark.slow
def test_methods_are_trained_drawn_judged_twice_and_kept(tmp_path, monkeypatch):
    settings = {"measure_every": 10**9, "generator_channels": 4, "critic_channels": 4, "most_channels": 8}
    budget = Budget(resolution=32, minutes=0.02, drawn=10, seeds=(0, 1), settings=settings)
    monkeypatch.setattr(generators, "UNCONDITIONED", ("auto", "wgan-gp"))
    result = generators.run(None, tmp_path, "smoke", budget)
    assert set(result["numbers"]) == {"auto", "wgan-gp"}
    for first, second in result["numbers"].values():
        assert first["KID"] != second["KID"]
        for numbers in (first, second):
            assert set(numbers) == set(generators.COLUMNS)
            assert numbers["images/s"] > 0
            assert 0.1 < numbers["GiB"] < 8
    divisions = [Run.open(tmp_path / f"seed-{seed}" / "auto" / "run").split_path for seed in (0, 1)]
    assert len({tuple(Split.load(path).names("test")) for path in divisions}) == 2
    assert (tmp_path / "cells.png").stat().st_size > 1000
    before = read_json(tmp_path / "seed-1" / "auto" / "cost.json")
    again = generators.run(None, tmp_path, "smoke", budget)
    assert again["numbers"] == result["numbers"]
    assert read_json(tmp_path / "seed-1" / "auto" / "cost.json") == before
