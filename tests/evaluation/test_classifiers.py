from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from cytoforge.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from cytoforge.core.run import Run
from cytoforge.evaluation.classifiers import fit, open_classifier
from cytoforge.evaluation.recipes import RECIPES, Recipe, recipe_of
from cytoforge.networks.backbones import Backbone
from cytoforge.networks.efficientnet_lite import efficientnet_lite0
from cytoforge.training.loop import Loop

CLASSES = ("a", "b", "c")
LABELS = np.arange(36) % 3
BASIC: dict[str, Any] = {
    "resolution": 16,
    "steps": 40,
    "batch": 12,
    "learning_rate": 3e-3,
    "augment": "noise",
}
LINEAR: dict[str, Any] = {"resolution": 32, "steps": 60, "copies": 1}


def pictures(seed: int = 0, size: int = 20) -> Any:
    """Noise with a bright square whose colour is the class."""
    images = np.random.default_rng(seed).integers(0, 120, (36, size, size, 3), np.uint8)
    for index, label in enumerate(LABELS):
        images[index, 5:15, 5:15, label] = 220
    return images


def basic(**settings: Any) -> Recipe:
    return recipe_of("basic-cnn", {**BASIC, **settings})


@pytest.mark.parametrize(("name", "settings"), [("basic-cnn", BASIC), ("linear", LINEAR)])
def test_a_recipe_learns_and_is_read_back(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    recipe = recipe_of(name, settings)
    fitted = fit(recipe, pictures(), LABELS, CLASSES, 1, tmp_path / "run")
    unseen = pictures(seed=1)
    probabilities = fitted.probabilities(unseen)
    assert (probabilities.argmax(1) == LABELS).mean() > 0.9
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert fitted.features(unseen).shape == (36, fitted.network.width)
    again = open_classifier(tmp_path / "run")
    assert (again.recipe, again.classes) == (recipe, CLASSES)
    np.testing.assert_array_equal(again.logits(unseen), fitted.logits(unseen))
    if name == "basic-cnn":
        same = fit(recipe, pictures(), LABELS, CLASSES, 1)
        np.testing.assert_array_equal(same.logits(unseen), fitted.logits(unseen))


def test_a_linear_classifier_keeps_the_weights_that_it_was_trained_on(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    body: Any = Backbone("resnet18", 2, 32, "none").body
    safetensors.torch.save_file(body.state_dict(), weights)
    recipe = recipe_of("timm:resnet18", {**LINEAR, "mode": "linear", "weights": str(weights)})
    fitted = fit(recipe, pictures(), LABELS, CLASSES, 1, tmp_path / "run")
    weights.unlink()
    again = open_classifier(tmp_path / "run")
    np.testing.assert_array_equal(again.logits(pictures(seed=1)), fitted.logits(pictures(seed=1)))


def test_steps_do_not_depend_on_the_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    step = Loop.step
    monkeypatch.setattr(Loop, "step", lambda loop: taken.append(loop.steps) or step(loop))
    for count in (6, 36):
        taken.clear()
        fit(basic(steps=3), pictures()[:count], LABELS[:count], CLASSES)
        assert taken == [0, 1, 2]


def test_an_interrupted_training_goes_on_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, step = basic(steps=12, schedule="one-cycle"), Loop.step
    whole = fit(recipe, pictures(), LABELS, CLASSES, 0, tmp_path / "whole")

    def stumble(loop: Loop) -> None:
        if loop.steps == 7:
            raise KeyboardInterrupt
        step(loop)

    monkeypatch.setattr(Loop, "step", stumble)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, pictures(), LABELS, CLASSES, 0, tmp_path / "broken")
    monkeypatch.setattr(Loop, "step", step)
    resumed = fit(recipe, pictures(), LABELS, CLASSES, 0, tmp_path / "broken")
    np.testing.assert_array_equal(resumed.logits(pictures(1)), whole.logits(pictures(1)))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"recipe": basic(steps=3)}, r"recipe\.steps: the run has 2, asked for 3"),
        ({"images": pictures(1)}, r"images_sha256: the run has \w{64}, asked for \w{64}\n"),
        ({"images": pictures()[:30], "labels": LABELS[:30]}, "cells: the run has 36, asked for 30"),
        ({"labels": LABELS[::-1]}, "labels_sha256"),
        ({"classes": ("a", "b", "x")}, r"classes: the run has \['a', 'b', 'c'\], asked for .*'x'\]"),
        ({"seed": 1}, "seed: the run has 0, asked for 1"),
    ],
)
def test_the_run_of_another_call_is_refused(tmp_path: Path, changed: dict[str, Any], what: str) -> None:
    call: dict[str, Any] = {
        "recipe": basic(steps=2), "images": pictures(), "labels": LABELS, "classes": CLASSES, "seed": 0,
    }  # fmt: skip
    first = fit(**call, folder=tmp_path / "run")
    with pytest.raises(ConfigError, match=f"(?s){what}.*choose another folder"):
        fit(**{**call, **changed}, folder=tmp_path / "run")
    again = fit(**call, folder=tmp_path / "run")
    np.testing.assert_array_equal(again.logits(pictures(1)), first.logits(pictures(1)))


def test_a_run_that_started_from_another_classifier_is_refused(tmp_path: Path) -> None:
    recipe = basic(steps=1)
    start = fit(basic(steps=2), pictures(), LABELS, CLASSES, folder=tmp_path / "start")
    first = fit(recipe, pictures(), LABELS, CLASSES, folder=tmp_path / "run", start=start)
    read_back = open_classifier(tmp_path / "start")
    again = fit(recipe, pictures(), LABELS, CLASSES, folder=tmp_path / "run", start=read_back)
    np.testing.assert_array_equal(again.logits(pictures(1)), first.logits(pictures(1)))
    for other in (None, first):
        with pytest.raises(ConfigError, match="start_sha256"):
            fit(recipe, pictures(), LABELS, CLASSES, folder=tmp_path / "run", start=other)


def test_a_run_that_does_not_say_what_it_saw_is_refused(tmp_path: Path) -> None:
    fit(basic(steps=1), pictures(), LABELS, CLASSES, folder=tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: said for name, said in config.items() if not name.endswith("_sha256")}))
    with pytest.raises(ConfigError, match=r"(?s)images_sha256: the run has None.*an earlier version"):
        fit(basic(steps=1), pictures(), LABELS, CLASSES, folder=tmp_path / "run")


def test_a_classifier_starts_from_another() -> None:
    first = fit(basic(), pictures(), LABELS, CLASSES)
    still = fit(basic(steps=1, learning_rate=1e-9), pictures(), LABELS, CLASSES, start=first)
    np.testing.assert_allclose(still.logits(pictures(1)), first.logits(pictures(1)), atol=1e-4)
    renamed = fit(basic(steps=1, learning_rate=1e-9), pictures(), LABELS, ("a", "b", "x"), start=first)
    np.testing.assert_allclose(renamed.features(pictures(1)), first.features(pictures(1)), atol=1e-4)
    assert np.abs(renamed.logits(pictures(1)) - first.logits(pictures(1))).max() > 0.1
    with pytest.raises(ConfigError, match="cannot be the start"):
        fit(basic(resolution=24), pictures(), LABELS, CLASSES, start=first)


def test_a_linear_classifier_starts_from_what_another_says() -> None:
    """Its cells are darker: features have another mean and deviation, and the head none of its own yet."""
    first = fit(recipe_of("linear", LINEAR), pictures(), LABELS, CLASSES)
    short = recipe_of("linear", {**LINEAR, "steps": 1, "learning_rate": 1e-9})
    still = fit(short, pictures() // 3, LABELS, CLASSES, start=first)
    np.testing.assert_allclose(still.logits(pictures(1)), first.logits(pictures(1)), atol=1e-3)


def test_eight_views_do_not_see_how_a_picture_is_turned() -> None:
    fitted = fit(basic(steps=5, views=8), pictures(), LABELS, CLASSES)
    images = pictures(1, size=16)
    turned = np.ascontiguousarray(np.rot90(images, axes=(1, 2))[:, :, ::-1])
    np.testing.assert_allclose(fitted.logits(images), fitted.logits(turned), atol=1e-5)


def test_recipes_hold_together() -> None:
    assert {"linear", "lite0", "basic-cnn", "resnet50", "vgg16", "vgg19"} <= set(RECIPES)
    assert {"resnet152", "densenet161", "inception-v3"} <= set(RECIPES)
    assert all(Recipe.model_validate(recipe.model_dump(mode="json")) == recipe for recipe in RECIPES.values())
    assert recipe_of("timm:resnet18", {"steps": "7"}).architecture == "resnet18"
    with pytest.raises(ConfigError, match='Did you mean "lite0"'):
        recipe_of("lite")
    with pytest.raises(ConfigError, match="step is not a setting"):
        recipe_of("lite0", {"step": 7})
    for name, settings in (("linear", {"weights": "none"}), ("basic-cnn", {"mode": "linear"})):
        with pytest.raises(ConfigError, match="trained network"):
            recipe_of(name, settings)


def test_a_class_may_be_without_images(tmp_path: Path) -> None:
    fitted = fit(basic(steps=4), pictures(), LABELS % 2, CLASSES, folder=tmp_path / "run")
    assert fitted.probabilities(pictures()).shape == (36, 3)


def test_frozen_stages_do_not_learn(tmp_path: Path) -> None:
    settings = {"steps": 3, "batch": 4, "resolution": 32, "views": 1, "frozen_stages": 3}
    fitted = fit(recipe_of("lite0", settings), pictures(), LABELS, CLASSES, folder=tmp_path / "run")
    published = efficientnet_lite0().state_dict()
    body: Any = open_classifier(tmp_path / "run").network.body
    moved = {name for name, value in body.state_dict().items() if not torch.equal(value, published[name])}
    assert not any(name.startswith(("conv_stem", "bn1", "blocks.0", "blocks.1")) for name in moved)
    assert {"blocks.2", "blocks.6"} <= {name[:8] for name in moved}
    assert fitted.recipe.frozen_stages == 3


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("linear", {"mixup": "0.2"}, "mixup=0.2 does nothing with mode=linear"),
        ("linear", {"dropout": 0.5, "hold": 0.1}, "dropout=0.5, hold=0.1 does nothing"),
        ("linear", {"frozen_norm": "true"}, "frozen_norm=True"),
        ("linear", {"frozen_stages": "3"}, "frozen_stages=3"),
        ("lite0", {"mode": "scratch", "frozen_stages": 1}, "frozen_stages=1"),
        ("linear", {"body_rate": 0.5}, "body_rate=0.5"),
        ("linear", {"precision": "bf16-mixed"}, "precision=bf16-mixed"),
        ("lite0", {"mode": "scratch", "weights": "a.safetensors"}, "weights=a.safetensors .* mode=scratch"),
        ("lite0", {"copies": 2}, "copies=2"),
        ("lite0", {"hold": 0.5}, "hold=0.5"),
        ("basic-cnn", {"mode": "full", "head": "flatten"}, "architecture=basic-cnn"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recipe_of(name, settings)


def test_a_setting_that_says_what_is_so_anyway_is_not_refused() -> None:
    assert recipe_of("linear", {"mixup": "0", "dropout": 0, "precision": "32-true"}).mode == "linear"
    assert recipe_of("resnet50", {"mode": "scratch", "weights": "none"}).dropout == 0.5
    assert recipe_of("resnet50", {"hold": 0.5}).hold == 0.5
    recipe_of("resnet50", {"mode": "full"}), "what the recipe itself brings along is not the user's"


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not fit"):
        fit(basic(), pictures(), LABELS[:5], CLASSES)
    with pytest.raises(DataError, match="uint8"):
        fit(basic(), pictures().astype(float), LABELS, CLASSES)
    with pytest.raises(TrainingError, match="NaN"):
        fit(basic(learning_rate=1e30), pictures(), LABELS, CLASSES)
    Run.create(tmp_path / "gan", {"method": "gan"})
    with pytest.raises(CheckpointError, match="not of a classifier"):
        open_classifier(tmp_path / "gan")


@pytest.mark.slow
def test_fine_tuning_beats_frozen_features_on_real_cells(real_data: Path) -> None:
    from cytoforge.data.cache import open_cache
    from cytoforge.data.folder import open_cells
    from cytoforge.data.folds import grouped_folds
    from cytoforge.data.transform import Preparation

    cells = open_cache(open_cells(real_data / "sipakmed"), Preparation(resolution=64))
    fold = grouped_folds(cells.labels, cells.groups)[0]
    images = np.asarray(cells.images)
    accuracy = {}
    for name in ("linear", "lite0"):
        settings = {"resolution": 64, "steps": 200, "views": 1}
        recipe = recipe_of(name, settings | ({"copies": 2} if name == "linear" else {}))
        fitted = fit(recipe, images[fold.train], cells.labels[fold.train], cells.shape.classes)
        accuracy[name] = (fitted.logits(images[fold.test]).argmax(1) == cells.labels[fold.test]).mean()
    assert accuracy["linear"] > 0.75
    assert accuracy["lite0"] > accuracy["linear"]
    assert torch.get_num_threads() == 1
