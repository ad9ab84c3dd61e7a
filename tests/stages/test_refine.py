from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from cytoforge.cli.forgetting import forgetting as command
from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import ConfigError
from cytoforge.core.files import read_json
from cytoforge.core.run import Run
from cytoforge.data.cache import mask_levels, open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, learned_by
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.features import Extractor, open_extractor
from cytoforge.methods.pix2pix import Pix2Pix
from cytoforge.stages import forgetting as stage
from cytoforge.stages.forgetting import _Judge, _masks, forgetting
from cytoforge.stages.phantom import phantom
from cytoforge.stages.split import split as split_folder
from cytoforge.stages.train import train
from cytoforge.training.loop import Loop

SMALL = {"latent": 8, "generator_channels": 4, "critic_channels": 4, "most_channels": 8, "batch": 16}
GROUP = r"(\w+/\d+)_"


def go(data, run, images=48, **options):
    return train("wgan-gp", data, run, images=images, extractor="", group=GROUP, **options)


@pytest.fixture(scope="module")
def base(tiny_cells, tmp_path_factory):
    return go(tiny_cells, tmp_path_factory.mktemp("refine") / "base", resolution=32, settings=SMALL)


@pytest.fixture(scope="module")
def more_cells(tiny_cells, tmp_path_factory):
    """The same cells under other folder names, and a third class that sorts between them."""
    root = tmp_path_factory.mktemp("more") / "cells"
    for name in ("blue", "red"):
        shutil.copytree(tiny_cells / name, root / name)
    (root / "green").mkdir()
    generator = np.random.default_rng(1)
    for index in range(40):
        picture = generator.integers(0, 160, (40, 36, 3), np.uint8)
        picture[8:30, 8:28, 1] = 220
        Image.fromarray(picture).save(root / "green" / f"{index // 4:03d}_{index % 4:02d}.png")
    return root


def test_a_refinement_takes_weights_settings_and_holdout_and_keeps_what_is_frozen(
    base, more_cells, tmp_path
) -> None:
    run = go(more_cells, tmp_path / "more", start=base.path)
    assert run.config["classes"] == ["blue", "green", "red"]
    assert run.config["settings"] == base.config["settings"]
    assert run.config["frozen"] == ["critic/body.0.*", "critic/body.2.*"]
    before, after = (load_checkpoint(each.checkpoints).tensors for each in (base, run))
    for key in ("body.0.weight", "body.2.bias"):
        assert torch.equal(before[f"network/critic/{key}"], after[f"network/critic/{key}"])
    key = "network/critic/body.4.weight"
    assert not torch.equal(before[key], after[key])
    assert (before[key] - after[key]).abs().max() < 0.05
    old, new = Split.load(base.split_path), Split.load(run.split_path)
    trained = {old.hashes[name] for name in old.names("train")}
    assert trained.isdisjoint(new.hashes[name] for part in ("val", "test") for name in new.names(part))
    held = {old.hashes[name] for name in old.names("test")}
    assert held <= {new.hashes[name] for name in new.names("test")}


def test_a_second_refinement_holds_back_nothing_that_the_first_training_learned(
    base, tiny_cells, tmp_path
) -> None:
    """Cells of the first set, other cells between them, then the first set again, divided by another seed."""
    other = tmp_path / "other"
    generator = np.random.default_rng(2)
    for name in ("blue", "red"):
        (other / name).mkdir(parents=True)
        for index in range(20):
            picture = generator.integers(0, 255, (40, 36, 3), np.uint8)
            Image.fromarray(picture).save(other / name / f"{index // 4:03d}_{index % 4:02d}.png")
    between = go(other, tmp_path / "between", 16, start=base.path)
    again = go(tiny_cells, tmp_path / "again", 16, start=between.path, seed=5)
    learned = learned_by(Split.load(base.split_path))
    parts = Split.load(again.split_path)
    held = {parts.hashes[name] for part in ("val", "test") for name in parts.names(part)}
    assert held
    assert learned.isdisjoint(held)
    assert learned <= learned_by(Split.load(between.split_path))
    assert split_folder(open_cells(tiny_cells, "auto", GROUP), seed=5).names("train") != parts.names("train")
    split_folder(open_cells(tiny_cells, "auto", GROUP), seed=5).save(tmp_path / "split.json")
    with pytest.raises(ConfigError, match="holds back"):
        go(tiny_cells, tmp_path / "c", 16, start=between.path, split=tmp_path / "split.json")


def test_a_refinement_goes_on_exactly_where_it_was(base, more_cells, tmp_path) -> None:
    whole = go(more_cells, tmp_path / "whole", 64, start=base.path)
    go(more_cells, tmp_path / "parts", 32, start=base.path)
    parts = go(more_cells, tmp_path / "parts", 64, start=base.path, resume=True)
    first, second = (load_checkpoint(each.checkpoints).tensors for each in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_refinement_goes_on_without_being_told_where_it_came_from(
    base, more_cells, tmp_path, monkeypatch
) -> None:
    """Also where it was killed before its first checkpoint: from the base's weights, not from random ones."""
    freeze = ("critic/body.0.*",)
    whole = go(more_cells, tmp_path / "whole", start=base.path, freeze=freeze)
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "train", lambda loop, until: None)
        run = go(more_cells, tmp_path / "killed", start=base.path, freeze=freeze)
        assert not any(run.checkpoints.glob("[0-9]*"))
    run = go(more_cells, tmp_path / "killed", resume=True)
    assert run.config["frozen"] == list(freeze)
    first, second = (load_checkpoint(each.checkpoints).tensors for each in (whole, run))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_cannot_be_refined_is_refused(base, tiny_cells, tmp_path) -> None:
    with pytest.raises(ConfigError, match="no parameter"):
        go(tiny_cells, tmp_path / "a", start=base.path, freeze=("critic/nose",))
    with pytest.raises(ConfigError, match="--from only"):
        go(tiny_cells, tmp_path / "b", freeze=("critic/*",), resolution=32, settings=SMALL)
    with pytest.raises(ConfigError, match="nothing to learn in generator"):
        go(tiny_cells, tmp_path / "a", start=base.path, freeze=("generator/*",))
    with pytest.raises(ConfigError, match="Leave --preset out"):
        go(tiny_cells, tmp_path / "a", start=base.path, preset="paper")
    kept = go(tiny_cells, tmp_path / "kept", 16, start=base.path, preset=base.config["preset"])
    assert kept.config["settings"] == base.config["settings"]
    other = Split.load(base.split_path)
    swapped = {"train": "test", "test": "train", "val": "val"}
    other.model_copy(update={"parts": {name: swapped[part] for name, part in other.parts.items()}}).save(
        tmp_path / "split.json"
    )
    with pytest.raises(ConfigError, match="not unseen"):
        go(tiny_cells, tmp_path / "c", start=base.path, split=tmp_path / "split.json")
    assert not (tmp_path / "c" / "config.json").exists()


def test_forgetting_is_measured_for_each_class_of_the_first_run(
    base, tiny_cells, more_cells, tmp_path
) -> None:
    run = go(more_cells, tmp_path / "more", start=base.path)
    small = {"per_class": 10, "extractor": "efficientnet-lite0@32"}
    found = forgetting(run.path, tmp_path / "out", **small).classes
    assert set(found) == {"blue", "red"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"forgetting.json", "forgetting.png"}
    same = forgetting(base.path, tmp_path / "same", base=base.path, real=tiny_cells, **small).classes
    for name, item in same.items():
        assert item.before == item.after
        assert item.moved == pytest.approx(0, abs=1e-9)
        assert not item.forgotten
        assert found[name].moved > 0
    with pytest.raises(ConfigError, match="--base"):
        forgetting(base.path, tmp_path / "none", **small)


@pytest.mark.parametrize("taught", ["base", "refined"])
def test_what_one_of_both_models_was_trained_against_judges_forgetting_with_a_warning_only(
    base, tmp_path, monkeypatch, taught
) -> None:
    """Where no wheel of a second network is installed."""
    asked = []

    def opponent(method: str, run: Run) -> str | None:
        return "efficientnet-lite0" if (run.path == base.path) == (taught == "base") else None

    def fair(*avoided: str | None) -> Extractor:
        asked.extend(avoided)
        return open_extractor("efficientnet-lite0@32")

    monkeypatch.setattr(stage, "opponent_of", opponent)
    monkeypatch.setattr(stage, "fair_extractor", fair)
    shutil.copytree(base.path, tmp_path / "refined")
    given = {"base": base.path, "per_class": 10}
    done = command(tmp_path / "refined", out=tmp_path / "out", **given)
    assert sorted(asked, key=str) == [None, "efficientnet-lite0"]
    assert "Judged by efficientnet-lite0@32." in done.text
    warning = "trained against efficientnet-lite0, the network that measures here"
    assert warning in done.text
    assert "--extractor mobilenet-v2" in done.text
    assert any(warning in line for line in read_json(tmp_path / "out" / "forgetting.json")["warnings"])
    monkeypatch.setattr(stage, "opponent_of", lambda method, run: None)
    assert "Note" not in command(tmp_path / "refined", out=tmp_path / "fair", **given).text


@pytest.fixture(scope="module")
def masked_cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked") / "phantom"
    phantom(folder, per_class=40, size=40)
    return folder


def test_forgetting_of_painters_is_measured_on_masks_of_unseen_cells(masked_cells, tmp_path, monkeypatch):
    settings = {"width": 4, "most_width": 8, "norm": "group", "discriminator_width": 4, "batch": 8}
    options = {"images": 8, "resolution": 32, "preset": "default", "extractor": ""}
    base = train("pix2pix", masked_cells, tmp_path / "base", settings=settings, **options)
    run = train("pix2pix", masked_cells, tmp_path / "run", start=base.path, **options)
    painted, sample = [], Pix2Pix.sample

    def watched(self, noise, labels, condition):
        painted.extend(mask_levels(condition))
        return sample(self, noise, labels, condition)

    monkeypatch.setattr(Pix2Pix, "sample", watched)
    small = {"per_class": 10, "extractor": "efficientnet-lite0@32"}
    found = forgetting(run.path, tmp_path / "out", **small).classes
    assert found
    assert all(item.after is not None for item in found.values())
    split = Split.load(base.split_path)
    cells = open_cache(open_cells(masked_cells), Preparation(resolution=32))
    held = cells.select([*split.names("val"), *split.names("test")]).masks
    assert all((held == mask).all((1, 2)).any() for mask in painted)


def test_what_was_held_back_without_masks_gets_some(tiny_cells):
    cells = open_cache(open_cells(tiny_cells), Preparation(resolution=32))
    assert cells.masks is None
    masks = _masks(cells, np.arange(3))
    assert masks.shape == (3, 2, 32, 32)
    assert masks.any()


def test_a_frozen_denoiser_needs_a_run_to_start_from(masked_cells, tmp_path):
    flow = {"channels": 8, "blocks": 1, "batch": 8}
    branch = {"condition": "masks", "branch": "control", "freeze": True}
    options = {"images": 8, "resolution": 32, "preset": "default", "extractor": ""}
    with pytest.raises(ConfigError, match=r"nothing has trained; give a trained run .* --from RUN"):
        train("diffusion", masked_cells, tmp_path / "run", settings={**flow, **branch}, **options)
    assert not (tmp_path / "run").exists()
    base = train("diffusion", masked_cells, tmp_path / "base", settings=flow, **options)
    run = train("diffusion", masked_cells, tmp_path / "run", settings=branch, start=base.path, **options)
    again = train(
        "diffusion", masked_cells, run.path, settings={**flow, **branch}, resume=True, **options
    )  # fmt: skip
    assert again.config == run.config


@pytest.fixture(scope="module")
def judge(tiny_cells) -> _Judge:
    """Real cells of two classes, seen as mean colours."""
    opened = open_cells(tiny_cells)
    split, cells = split_folder(opened, group=GROUP), open_cache(opened, Preparation(resolution=32))
    held = cells.select([*split.names("val"), *split.names("test")])
    colours = Extractor("mean colours", 8, 12, lambda levels: adaptive_avg_pool2d(levels / 255, 2))
    return _Judge(cells.select(split.names("train")), held, split, colours)


def test_a_class_drawn_as_another_is_forgotten_and_one_drawn_by_other_cells_of_its_own_is_not(
    judge, tiny_cells
) -> None:
    cells = open_cache(open_cells(tiny_cells), Preparation(resolution=32))
    blue, red = (cells.read(np.flatnonzero(cells.labels == label)) for label in (0, 1))
    wrong = judge.compare(0, blue[:20], red[:20])
    assert wrong.forgotten
    assert (wrong.before.recognised, wrong.after.recognised) == (1, 0)
    right = judge.compare(0, blue[:20], blue[20:])
    assert not right.forgotten
    assert right.after.recognised == 1
    assert right.moved < wrong.moved


@pytest.mark.parametrize(
    ("after", "forgotten"),
    [((0.5, 0.31, 0.7), True), ((0.5, 0.30, 0.7), False), ((0.5, 0.1, 0.7), False), ((0.1, 0, 0.15), False)],
)
def test_forgotten_is_what_both_intervals_leave_no_room_for(judge, monkeypatch, after, forgotten) -> None:
    found = iter([(0.2, 0.1, 0.3), after])
    monkeypatch.setattr("cytoforge.stages.forgetting.kernel_distance_interval", lambda *_: next(found))
    noise = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), np.uint8)
    assert judge.compare(0, noise, noise).forgotten == forgotten


@pytest.mark.slow
def test_a_class_that_is_gone_is_forgotten(base, tiny_cells, more_cells, tmp_path) -> None:
    shutil.copytree(more_cells, tmp_path / "cells")
    shutil.rmtree(tmp_path / "cells" / "red")
    run = go(tmp_path / "cells", tmp_path / "without", 16, start=base.path)
    found = forgetting(run.path, tmp_path / "out", per_class=10, extractor="efficientnet-lite0@32").classes
    assert found["red"].forgotten
    assert found["red"].after is None
