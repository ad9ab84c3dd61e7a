"""The experiments' own arithmetic; the experiments as a whole run with the slow tests."""

import json
import shutil

import numpy as np
import pytest
import torch

from cytoforge.core.errors import DataError
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.data.split import Split
from cytoforge.evaluation.features import Extractor
from cytoforge.experiments import contest, gan_failures, gan_families
from cytoforge.experiments.contest import (
    Budget,
    Contestant,
    _fewer,
    compete,
    draw_cells,
    draw_curves,
    floor,
    open_cells_of,
)
from cytoforge.experiments.gan_failures import LESSONS, gradients
from cytoforge.experiments.gan_families import contestants, information, mutual_information
from cytoforge.losses.adversarial import FAMILIES
from cytoforge.methods.gan import GAN
from cytoforge.stages.phantom import phantom
from cytoforge.stages.train import plan, train

BUDGET = Budget(resolution=32, images=32, batch=8, drawn=4)
SMALL = {"latent": 8, "generator_channels": 4, "discriminator_channels": 4, "most_channels": 8}
EYE = Extractor("mean colours", 8, 12, lambda levels: torch.nn.functional.adaptive_avg_pool2d(levels, 2))


@pytest.fixture(scope="module")
def cells(tiny_cells, tmp_path_factory):
    return open_cells_of(tiny_cells, tmp_path_factory.mktemp("contest"), BUDGET, EYE)


def test_training_and_held_cells_are_apart(cells):
    assert len(cells.train) + len(cells.held) == 80
    assert cells.train_features.shape == (len(cells.train), 12)
    assert floor(cells, BUDGET.model_copy(update={"drawn": 100}))["recall"] > 0.5


def test_the_floor_has_as_many_cells_as_are_drawn(cells, monkeypatch):
    clouds = []
    measured = contest.precision_recall_density_coverage

    def measuring(real, other, k):
        clouds.append(other)
        return measured(real, other, k)

    monkeypatch.setattr(contest, "precision_recall_density_coverage", measuring)
    count = len(cells.train)
    few, all_of_them = (floor(cells, BUDGET.model_copy(update={"drawn": drawn})) for drawn in (4, count))
    assert [len(cloud) for cloud in clouds] == [2 * 4, count]
    assert few["coverage"] < all_of_them["coverage"]


def test_a_contest_goes_on_with_the_parts_that_it_began_with(tiny_cells, tmp_path):
    folder = tmp_path / "cells"
    shutil.copytree(tiny_cells, folder)
    before = open_cells_of(folder, tmp_path, BUDGET, EYE)
    again = open_cells_of(folder, tmp_path, BUDGET.model_copy(update={"seed": 5}), EYE)
    assert np.array_equal(before.held, again.held)
    first = next(folder.rglob("*.png"))
    shutil.copy(first, first.with_name("new.png"))
    with pytest.raises(DataError, match=r"1 new .*new\.png"):
        open_cells_of(folder, tmp_path, BUDGET, EYE)


def test_few_cells_to_train_on(tiny_cells, tmp_path):
    few = open_cells_of(tiny_cells, tmp_path, BUDGET, EYE, few=3)
    everything = open_cells_of(tiny_cells, tmp_path, BUDGET, EYE)
    assert len(few.train) == 6
    assert np.array_equal(few.held, everything.held), "measured against the same cells"


def test_few_cells_are_so_few_and_the_others_are_left_out():
    names = [f"a/{photo}_{cell}" for photo in range(3) for cell in range(2)]
    division = Split(
        seed=0,
        fractions=(1.0, 0.0, 0.0),
        parts=dict.fromkeys(names, "train"),
        groups={name: name.split("_")[0] for name in names},
        hashes=dict.fromkeys(names, "0"),
    )
    fewer = _fewer(division, 3, dict.fromkeys(names, "a"))
    assert fewer.names("train") == ("a/0_0", "a/0_1", "a/1_0")
    assert fewer.names("test") == ()
    assert fewer.left_out == ("a/1_1", "a/2_0", "a/2_1")


def test_a_contest_measures_and_draws(cells, tmp_path):
    outcome = compete(Contestant("gan", SMALL), cells, tmp_path / "run", BUDGET, EYE)
    assert outcome.stopped is None
    assert outcome.images.shape == (8, 32, 32, 3)
    wanted = {"kid", "precision", "recall", "coverage", "class", "diversity", "nearer_to_train", "seconds"}
    assert set(outcome.numbers) == wanted
    assert set(outcome.losses) == {"discriminator", "r1", "r2", "generator"}
    draw_cells(tmp_path / "cells.png", {"gan": outcome}, cells, BUDGET)
    draw_curves(tmp_path / "curves.png", {"gan": outcome})
    assert (tmp_path / "cells.png").stat().st_size > 1000
    alone, beside = (decode_png((tmp_path / name).read_bytes()) for name in ("cells.png", "beside-real.png"))
    assert alone[1]["Synthetic"] == "true"
    assert "Synthetic" not in beside[1]
    assert beside[0].shape[0] > alone[0].shape[0]
    found = gradients(Run.open(tmp_path / "run"), cells, count=8)
    assert found["gradient"] > 0
    assert found["gradient_share"] == pytest.approx(found["gradient"] / found["gradient_non_saturating"])


def test_information_is_measured_and_drawn(cells, tmp_path):
    settings = {**SMALL, "labelled": False, "categories": 3, "r1": 0.0}
    compete(Contestant("infogan", settings), cells, tmp_path / "run", BUDGET, EYE)
    found = information(Run.open(tmp_path / "run"), cells, tmp_path / "infogan.png", count=16)
    assert found["category"] < found["most_category"] == pytest.approx(np.log(3))
    assert found["category_and_class"] >= 0
    assert (tmp_path / "infogan.png").stat().st_size > 1000


def test_an_alarm_is_a_result(cells, tmp_path):
    losing = Contestant("gan", {**SMALL, "divergence": 1e-6})
    outcome = compete(losing, cells, tmp_path / "run", BUDGET, EYE)
    assert "diverged" in outcome.stopped
    assert outcome.images is None
    assert set(outcome.numbers) == {"seconds"}
    draw_curves(tmp_path / "curves.png", {"gan": outcome})


def test_an_interrupted_contest_goes_on_and_ends_the_same(tiny_cells, tmp_path, monkeypatch):
    entries = {
        "hinge": Contestant("gan", {**SMALL, "loss": "hinge"}),
        "InfoGAN without labels": Contestant("infogan", {**SMALL, "labelled": False, "categories": 3}),
    }
    monkeypatch.setattr(gan_families, "contestants", lambda scale: entries)
    monkeypatch.setattr(gan_families, "open_extractor", lambda: EYE)
    monkeypatch.setitem(gan_families.BUDGETS, "smoke", BUDGET)
    whole = gan_families.run(tiny_cells, tmp_path / "whole", "smoke")
    trained = []

    def train_the_second_by_half(method, *args, images, **options):
        trained.append(method)
        if trained == ["gan", "infogan"]:
            train(method, *args, images=images // 2, **options)
            raise KeyboardInterrupt
        return train(method, *args, images=images, **options)

    monkeypatch.setattr(contest, "train", train_the_second_by_half)
    with pytest.raises(KeyboardInterrupt):
        gan_families.run(tiny_cells, tmp_path / "parts", "smoke")
    parts = gan_families.run(tiny_cells, tmp_path / "parts", "smoke")
    assert trained == ["gan", "infogan", "infogan"]
    for result in (whole, parts):
        for numbers in result["numbers"].values():
            numbers.pop("seconds", None)
    assert parts == whole
    pictures = [(tmp_path / name / "cells.png").read_bytes() for name in ("whole", "parts")]
    assert pictures[0] == pictures[1]


def test_a_sure_discriminator_starves_the_minimax_generator():
    """At a score of -5 the minimax gradient is sigma(-5) / sigma(5), not a hundredth of the other."""
    lengths = []
    for family in ("minimax", "non-saturating"):
        score = torch.tensor([-5.0], requires_grad=True)
        FAMILIES[family][1](score, score).backward()
        lengths.append(abs(float(score.grad)))
    assert lengths[0] / lengths[1] == pytest.approx(np.exp(-5), rel=1e-3)


def test_every_family_takes_part_with_settings_that_exist():
    for scale in ("smoke", "full"):
        entries = contestants(scale)
        assert set(FAMILIES) - {"wasserstein"} <= set(entries)
        for entry in entries.values():
            plan(entry.method, entry.preset, entry.settings)
    assert {lesson.failure for lesson in LESSONS} <= set(GAN.presets)


def test_memorising_is_cured_by_one_thing_at_a_time():
    lesson = next(lesson for lesson in LESSONS if lesson.failure == "memorising")
    failing = plan("gan", "memorising", {}).settings.model_dump()
    differences = {}
    for name, cure in lesson.cures.items():
        cured = plan("gan", cure.preset, cure.settings).settings.model_dump()
        changed = {key for key, value in cured.items() if failing[key] != value}
        differences[name] = changed | ({"few"} if cure.few != lesson.few else set())
    assert differences == {"augmented": {"augment"}, "all cells": {"few"}}


def run_lesson(number, images, tmp_path, monkeypatch, seed=0):
    narrow = {"latent": 8, "generator_channels": 8, "discriminator_channels": 8, "most_channels": 32}
    monkeypatch.setattr(gan_failures, "_NARROW", narrow)
    monkeypatch.setattr(gan_failures, "LESSONS", LESSONS[number : number + 1])
    monkeypatch.setattr(gan_failures, "open_extractor", lambda: EYE)
    phantom(tmp_path / "cells", per_class=20, size=32)
    budget = Budget(resolution=32, images=images, batch=16, drawn=8, seed=seed)
    return gan_failures.run(tmp_path / "cells", tmp_path / "out", "smoke", budget)["numbers"]


def test_a_starved_generator_differs_from_the_cured_one(tmp_path, monkeypatch):
    numbers = run_lesson(0, 480, tmp_path, monkeypatch)
    assert numbers["overpowering-discriminator"]["gradient_share"] < 0.7
    assert numbers["overpowering-discriminator, cured"]["gradient_share"] == pytest.approx(1)


@pytest.mark.slow
def test_collapsed_generators_differ_from_the_cured_ones(tmp_path, monkeypatch):
    """Single pairs of so short trainings differ by much: 0.69 and 0.78, 0.48 and 1.06, 0.35 and 0.76."""
    pairs = []
    for seed in range(3):
        numbers = run_lesson(1, 960, tmp_path / str(seed), monkeypatch, seed)
        pairs.append([numbers[name]["diversity"] for name in ("mode-collapse", "mode-collapse, cured")])
    collapsed, cured = np.mean(pairs, axis=0)
    assert collapsed < 0.75 * cured


def test_mutual_information_of_independent_labels_is_zero():
    first, second = np.repeat([0, 1], 50), np.tile([0, 1], 50)
    assert mutual_information(first, second) == pytest.approx(0, abs=1e-12)
    assert mutual_information(first, first) == pytest.approx(np.log(2))


@pytest.mark.slow
def test_families_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(gan_families.BUDGETS, "smoke", Budget(resolution=32, images=64, batch=16, drawn=4))
    gan_families.run(None, tmp_path, "smoke")
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["numbers"]) > len(result["stopped"]) + 1
    for name in ("cells.png", "curves.png", "table.md"):
        assert (tmp_path / name).is_file()


@pytest.mark.slow
def test_failures_as_a_whole(tmp_path):
    """Numbers of memorising are not judged: at this scale nothing is learned by heart yet."""
    gan_failures.run(None, tmp_path, "smoke")
    result = json.loads((tmp_path / "result.json").read_text())
    numbers, cured = result["numbers"], "{}, cured".format
    for name, key in result["shown_by"].items():
        if name != "memorising":
            assert numbers[name][key] < 0.9 * numbers[cured(name)][key]  # in so short a training
    assert {name for name in numbers if "memorising" in name} == {
        "memorising", "memorising, augmented", "memorising, all cells",
    }  # fmt: skip
    assert not result["stopped"]
    for name in ("cells.png", "curves.png", "table.md"):
        assert (tmp_path / name).is_file()
