from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cytoforge.cli.main import run as cytoforge
from cytoforge.core.batch import DataShape
from cytoforge.core.device import native_precision
from cytoforge.evaluation.classifiers import fit
from cytoforge.evaluation.recipes import RECIPES
from cytoforge.experiments.catalogue import EXPERIMENTS
from cytoforge.experiments.scale import begun_with
from cytoforge.experiments.sipakmed_2024 import ENTRIES, NUMBERS, Budget, machine, run, settings_of
from cytoforge.networks.local_weights import weights_here
from cytoforge.stages.classify import _recipe_of
from cytoforge.stages.phantom import phantom
from cytoforge.tasks.classify import ClassifierConfig, build_network


def test_the_sources_numbers_add_up() -> None:
    assert sum(NUMBERS.counts.values()) == NUMBERS.cells
    assert sum(row[3] for row in NUMBERS.classes.values()) == NUMBERS.tested
    share = sum(row[1] * row[3] for row in NUMBERS.classes.values()) / NUMBERS.tested
    assert share == pytest.approx(0.88, abs=0.005)  # its table of classes does not say 0.9277


def test_the_basic_cnn_has_the_parameters_of_its_layers() -> None:
    config = ClassifierConfig(architecture="basic-cnn", mode="scratch")
    network = build_network(config, DataShape(64, tuple("abcde")))
    assert sum(parameter.numel() for parameter in network.parameters()) == 286_117


def test_every_classifier_of_the_source_is_there() -> None:
    assert {name for name, entry in ENTRIES.items() if entry.of_source} == {
        "basic-cnn", "resnet50", "vgg16", "vgg19", "svm", "mlp",
    }  # fmt: skip
    for name in ("resnet50", "vgg16", "vgg19"):
        assert RECIPES[name].head == "flatten"


FLOAT32 = {"precision": "32-true", "weights": []}
EVERYTHING = {"precision": "bf16-mixed", "weights": list(RECIPES)}


def test_missing_weights_become_random_ones() -> None:
    own = {**ENTRIES["vgg16"].settings, "precision": "bf16-mixed"}
    assert settings_of(ENTRIES["vgg16"], "full", EVERYTHING) == own
    assert settings_of(ENTRIES["vgg16"], "full", {**EVERYTHING, "weights": ["vgg19"]}) == {
        **own,
        **{"weights": "none", "mode": "scratch", "body_rate": 1.0},
    }
    assert not weights_here("no such network")


def test_another_machine_goes_on_with_what_the_first_offered(tmp_path: Path) -> None:
    assert begun_with(tmp_path, FLOAT32) == FLOAT32
    assert begun_with(tmp_path, EVERYTHING) == FLOAT32
    here = machine()
    assert here["precision"] == native_precision()
    assert "lite0" in here["weights"]


def test_every_classifier_takes_its_settings_at_both_scales() -> None:
    for offered in (FLOAT32, EVERYTHING):
        for entry in ENTRIES.values():
            for scale in ("smoke", "full"):
                _recipe_of(entry.recipe, settings_of(entry, scale, offered))


@pytest.mark.parametrize(
    ("name", "body"), [("vgg16", 14_714_688), ("vgg19", 20_024_384), ("resnet50", 23_508_032)]
)
def test_a_large_network_takes_a_step_from_random_weights(name: str, body: int) -> None:
    settings = settings_of(ENTRIES[name], "smoke", FLOAT32)
    recipe = _recipe_of(name, {**settings, "steps": 1, "batch": 5})
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    fitted = fit(recipe, images, np.arange(5), tuple("abcde"))
    assert (recipe.mode, recipe.resolution) == ("scratch", 32)
    assert sum(parameter.numel() for parameter in fitted.network.parameters()) > body
    assert np.isfinite(fitted.logits(images)).all()


def test_measured_and_trained_classifiers_end_in_one_table(tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    phantom(cells, per_class=24, size=48)
    few = Budget(folds=2, classifiers=("basic-cnn", "svm"))
    result = run(cells, tmp_path / "out", "smoke", budget=few)
    out = tmp_path / "out"
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result))
    assert result["from_given_masks"] == 1
    assert result["entries"]["svm"]["grouped"]["count"] == 120
    assert result["entries"]["svm"]["weights"] == "measurements"
    assert result["entries"]["svm"]["grouped"]["accuracy"]["value"] > 0.4  # of five classes
    assert result["entries"]["basic-cnn"]["loss_on_unseen"] > 0
    rows = (out / "table.md").read_text().splitlines()
    assert rows[0].startswith("120 cells in 27 groups of photos, 2 folds")
    assert rows[4].startswith("| basic-cnn | random weights | 92.77 % |")
    assert any(row.startswith("| Parabasal |") and "(87 %)" in row and "(217)" in row for row in rows)
    for name in (
        "accuracy.png",
        "classes.png",
        "measurements.png",
        "svm/classify.html",
        "svm/predictions.csv",
    ):
        assert (out / name).is_file()
    assert not (out / "svm" / "curves.png").is_file()
    done = {path: path.stat().st_mtime_ns for path in out.glob("*/folds/*/DONE")}
    assert len(done) == 8
    assert run(cells, out, "smoke", budget=few) == result
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_an_unknown_classifier_is_refused_before_the_folder_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cytoforge(["experiment", "sipakmed-2024", "--set", "classifiers=vgg", "--out", str(out)]) == 2
    assert "no classifier 'vgg'" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


@pytest.mark.slow
def test_smoke(tmp_path: Path) -> None:
    entry = EXPERIMENTS["sipakmed-2024"]
    result = entry.run(None, tmp_path, "smoke")
    assert set(result["entries"]) == set(ENTRIES)
