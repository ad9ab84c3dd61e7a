from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.data.folder import open_cells
from cytoforge.evaluation.classifiers import fit
from cytoforge.experiments import syncgan_2020
from cytoforge.experiments.syncgan_2020 import (
    REGIMES,
    SOURCE,
    accuracies,
    draw_sides,
    gain,
    sides_of,
    two_sides,
)
from cytoforge.stages.study_plan import Plan, check_plan, classifier_recipe


def test_the_sources_numbers_are_multiples_of_one_image_but_for_one() -> None:
    odd = {
        (name, regime)
        for name, row in SOURCE.items()
        for regime, value in row.items()
        if abs(value * 0.3 - round(value * 0.3)) > 0.01
    }
    assert odd == {("densenet161", "+trad+prop")}
    assert gain(76.67, 73.33) == {"images": 1, "least_p": 1.0}
    assert gain(63.33, 73.33) == {"images": -3, "least_p": 0.25}


def test_sides() -> None:
    assert sides_of(("ill", "well")) == {"ill": "abnormal", "well": "normal"}
    assert sides_of(("Parabasal", "carcinoma_in_situ"))["carcinoma_in_situ"] == "abnormal"
    for classes in (("a", "b", "c"), ("Parabasal", "Superficial-Intermediate"), ("Parabasal", "b")):
        with pytest.raises(DataError, match="cannot tell"):
            sides_of(classes)


def test_accuracies_by_hand() -> None:
    scores = [
        {"classifier": "resnet152", "regime": "orig", "accuracy": value}
        for value in (0.7, 0.8, 0.6, 0.9, 0.5)
    ]
    plan = {"folds": 5, "classifiers": ["resnet152"]}
    found = accuracies({"plan": plan, "data": {"cells": 150}, "scores": scores})["resnet152"]["orig"]
    # deviation 0.1581, standard error 0.1581 * sqrt(1/5 + 30/120) = 0.1061, t(0.975, 4) = 2.7764
    assert found["mean"] == pytest.approx(70)
    assert found["low"] == pytest.approx(100 * (0.7 - 2.7764 * 0.10607), abs=0.01)
    assert found["source"] == 73.33


def test_cells_without_masks_get_some_and_keep_their_groups(tiny_cells: Path, tmp_path: Path) -> None:
    folder = two_sides(tiny_cells, tmp_path, 6)
    cells = open_cells(folder, "paired")
    assert cells.classes == ("abnormal", "normal")
    assert len(cells) == 12
    assert all(cell.mask is not None for cell in cells.cells)
    origin = {cell.name: cell.group for cell in open_cells(tiny_cells).cells}
    stated = json.loads((tmp_path / "cells-without-masks" / "masks.json").read_text())["cells"]
    assert {cell.group for cell in cells.cells} <= set(origin.values())
    assert all(origin[entry["from"]] == entry["group"] for entry in stated.values())
    before = (folder / "masks.json").stat().st_mtime_ns
    assert two_sides(tiny_cells, tmp_path, 6) == folder
    assert (folder / "masks.json").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="choose another --out"):
        two_sides(tiny_cells, tmp_path, 5)
    with pytest.raises(DataError, match="41 are needed"):
        draw_sides(open_cells(tiny_cells), 41, 0)


def test_pictures_that_cannot_be_opened_are_passed_over(tiny_cells: Path, tmp_path: Path) -> None:
    cells = tmp_path / "cells of mine"
    shutil.copytree(tiny_cells, cells)
    taken = [cell for _, cell in draw_sides(open_cells(cells), 3, 0)]
    taken[1].path.write_bytes(taken[1].path.read_bytes()[:60])
    folder = two_sides(cells, tmp_path, 3)
    assert len(open_cells(folder, "paired")) == 6
    assert two_sides(cells, tmp_path, 3) == folder


def test_an_interrupted_search_for_masks_begins_again(
    tiny_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cytoforge.stages.mask._write_gallery", interrupted)
        with pytest.raises(KeyboardInterrupt):
            two_sides(tiny_cells, tmp_path, 2)
    assert (tmp_path / "cells" / "images").is_dir()
    assert len(open_cells(two_sides(tiny_cells, tmp_path, 2), "paired")) == 4


def test_herlev_gives_75_of_each_side(real_data: Path, tmp_path: Path) -> None:
    chosen = draw_sides(open_cells(real_data / "herlev"), 75, 0)
    labels = [cell.label for _, cell in chosen]
    assert [side for side, _ in chosen] == ["abnormal"] * 75 + ["normal"] * 75
    assert {name: labels.count(name) for name in set(labels)} == {
        "carcinoma_in_situ": 19, "light_dysplastic": 19, "moderate_dysplastic": 19, "severe_dysplastic": 18,
        "normal_columnar": 25, "normal_intermediate": 25, "normal_superficiel": 25,
    }  # fmt: skip
    assert len({cell.name for _, cell in chosen}) == 150


@pytest.fixture
def full_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan at full scale, of a run that ends where its study would begin."""
    plans = []

    def begin(folder: Path, out: Path, plan: Plan, **_: Any) -> None:
        plans.append(plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(syncgan_2020, "two_sides", lambda data, *_: data)
    monkeypatch.setattr(syncgan_2020, "study", begin)
    with pytest.raises(KeyboardInterrupt):
        syncgan_2020.run(tmp_path, tmp_path, "full")
    return plans[0]


def test_the_study_takes_the_plan_at_full_scale(full_plan: Plan) -> None:
    check_plan(full_plan)
    for name, side in (("resnet152", 64), ("densenet161", 64), ("inception-v3", 75)):
        recipe = classifier_recipe(full_plan, name)
        assert (recipe.mode, recipe.resolution, recipe.steps, recipe.batch) == ("scratch", side, 75, 16)


def test_the_sources_deepest_network_takes_a_step(full_plan: Plan) -> None:
    small = {"resolution": 32, "steps": 1, "batch": 4}
    recipe = classifier_recipe(full_plan, "resnet152").model_copy(update=small)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    fitted = fit(recipe, images, np.arange(4) % 2, ("abnormal", "normal"))
    assert sum(parameter.numel() for parameter in fitted.network.parameters()) > 58_000_000
    assert np.isfinite(fitted.logits(images)).all()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The smoke run on simulated cells."""
    out = tmp_path_factory.mktemp("syncgan") / "tables"
    return out, syncgan_2020.run(None, out, "smoke")


def test_smoke(finished: tuple[Path, dict[str, Any]]) -> None:
    out, result = finished
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result))
    assert set(result["table"]["basic-cnn"]) == set(REGIMES)
    assert {answer["question"] for answer in result["answers"]} >= {"+prop against orig", "gan against prop"}
    assert result["cells"]["classes"] == ["abnormal", "normal"]
    assert "basic-cnn" in (out / "table.md").read_text()
    assert np.asarray(Image.open(out / "table.png")).std() > 5
    assert (out / "study" / "report.html").is_file()


def test_the_same_call_goes_on(
    finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = finished

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("cytoforge.stages.study_jobs.train", never)
    monkeypatch.setattr("cytoforge.stages.study_jobs.fit", never)
    assert syncgan_2020.run(None, out, "smoke")["table"] == result["table"]
