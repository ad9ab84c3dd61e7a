import json

import numpy as np
import pytest
import torch
from PIL import Image

from cytoforge.evaluation.features import Extractor
from cytoforge.experiments import paired_pathology, syncgan_triplets
from cytoforge.experiments.paired_pathology import (
    CLAIM,
    SOURCE,
    SOURCE_SHAPE,
    Budget,
    Place,
    claim,
    distances,
    draw_curves,
    one_mask_diversity,
    parameters,
)
from cytoforge.stages.phantom import phantom
from cytoforge.training.loop import Loop, Until

EYE = Extractor("mean colours", 8, 12, lambda levels: torch.nn.functional.adaptive_avg_pool2d(levels, 2))


def test_networks_have_the_sources_parameters():
    assert parameters(SOURCE_SHAPE, SOURCE.width) == {
        "generator": SOURCE.generator_parameters,
        "PatchGAN": SOURCE.patch_parameters,
        "vanilla": SOURCE.vanilla_parameters,
    }


def test_one_image_for_a_mask_has_no_diversity(monkeypatch):
    """An extractor that tells dark from light, so that all of it can be done by hand."""

    def features(images, _):
        dark = images.reshape(len(images), -1).mean(1) < 50
        return np.stack([dark, ~dark], axis=1).astype(float)

    monkeypatch.setattr(paired_pathology, "extract", features)
    real = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    place = Place(None, {}, {"test": real}, None)
    same = np.full((2, 3, 4, 4, 3), 7, np.uint8)
    assert one_mask_diversity(same, place) == {"one_mask": 0, "one_mask_share": 0, "one_mask_levels": 0}
    other = same.copy()
    other[0, 1:] = 107
    found = one_mask_diversity(other, place)
    assert found["one_mask"] == pytest.approx(1 / 3)
    assert found["one_mask_share"] == pytest.approx(1 / 2)
    assert found["one_mask_levels"] == pytest.approx(100 / 3)


def test_each_part_is_compared_with_images_of_its_own_masks(monkeypatch):
    """A painter that needs no training: the mask itself. On its own masks its distance is 0."""
    monkeypatch.setattr(paired_pathology, "extract", lambda images, _: images[:, 0, :2, 0].astype(float))
    generator = np.random.default_rng(0)
    masks = {"train": generator.integers(0, 3, (9, 2, 2)), "test": generator.integers(0, 3, (9, 2, 2)) + 1}

    def paint(masks):
        return np.repeat(masks[..., None], 3, axis=3)

    features = {part: paint(own)[:, 0, :2, 0].astype(float) for part, own in masks.items()}
    found = distances(Place(None, masks, features, None), paint)
    assert found["fid"] == pytest.approx(0, abs=1e-9)
    assert found["fid_train"] == pytest.approx(0, abs=1e-9)
    swapped = Place(None, {"train": masks["test"], "test": masks["train"]}, features, None)
    assert min(distances(swapped, paint)[key] for key in ("fid", "fid_train")) > 0.1


def test_the_claim_is_judged_seed_by_seed():
    """Holds in the first seed, in the second vanilla has collapsed too, in the third neither has."""
    found = claim([0.02, 0.04, 0.30], [0.12, 0.08, 0.20])
    assert (found["holds"], found["seeds"]) == (1, 3)
    assert found["differences"] == pytest.approx([0.10, 0.04, -0.10])
    assert found["mean"] == pytest.approx(0.04 / 3)
    assert (found["least"], found["most"]) == pytest.approx((-0.10, 0.10))
    assert claim([0.09], [0.1])["holds"] == 1


def test_curves_show_training_and_held_back_cells_of_every_seed():
    keys = ("kid", "kid_train", "fid", "fid_train")
    repeats = [
        [
            {"seen": 16.0 * point, **{key: seed + number for number, key in enumerate(keys)}}
            for point in (1, 2)
        ]
        for seed in (0, 10)
    ]
    figure = draw_curves({"PatchGAN": repeats, "vanilla": repeats}, {"kid": -1.0, "fid": -2.0})
    shown = {
        (panel.get_subplotspec().rowspan.start, panel.get_subplotspec().colspan.start): [
            float(line.get_ydata()[-1]) for line in panel.lines
        ]
        for panel in figure.axes
    }
    assert shown == {
        **{(0, column): [2, 3, 12, 13, -2] for column in (0, 1)},
        **{(1, column): [0, 1, 10, 11, -1] for column in (0, 1)},
    }


def test_areas_of_masks_by_hand():
    masks = np.zeros((1, 2, 4), np.uint8)
    masks[0, 0] = [0, 1, 2, 2]
    shares = syncgan_triplets._shares(masks)
    assert shares["nucleus"].tolist() == [0.25]
    assert shares["cell"].tolist() == [0.375]


def test_an_interrupted_comparison_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(
        paired_pathology, "CONTESTANTS", {name: paired_pathology.CONTESTANTS[name] for name in CLAIM}
    )
    monkeypatch.setattr(paired_pathology, "parameters", lambda shape, width: {})
    monkeypatch.setattr(paired_pathology, "open_extractor", lambda: EYE)
    budget = Budget(
        resolution=32, images=64, measure_every=16, width=4, per_class=10, masks=2, noises=2, seeds=1
    )
    monkeypatch.setitem(paired_pathology.BUDGETS, "smoke", budget)
    phantom(tmp_path / "cells", per_class=10, size=32)
    whole = paired_pathology.run(tmp_path / "cells", tmp_path / "whole", "smoke")
    steps, step, train = [], Loop.step, Loop.train

    def counted(loop):
        steps.append(loop.run.path.name)
        step(loop)

    def half_of_the_second(loop, until):
        train(loop, Until(images=32) if "vanilla" in loop.run.path.name else until)
        if "vanilla" in loop.run.path.name:
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "step", counted)
    monkeypatch.setattr(Loop, "train", half_of_the_second)
    with pytest.raises(KeyboardInterrupt):
        paired_pathology.run(tmp_path / "cells", tmp_path / "parts", "smoke")
    monkeypatch.setattr(Loop, "train", train)
    parts = paired_pathology.run(tmp_path / "cells", tmp_path / "parts", "smoke")
    assert steps == ["patchgan-0"] * 4 + ["vanilla-0"] * 4
    assert parts == whole
    for name in ("sequence.png", "diversity.png", "curves.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_interrupted_triplets_go_on_and_end_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(syncgan_triplets.BUDGETS, "smoke", syncgan_triplets.Budget(32, 64, 4, 12, 2, 64))
    whole = syncgan_triplets.run(None, tmp_path / "whole", "smoke")
    measured, agreement = [], syncgan_triplets.agreement

    def interrupted(synthetic, *arguments, **options):
        measured.append(synthetic.parent.name)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return agreement(synthetic, *arguments, **options)

    monkeypatch.setattr(syncgan_triplets, "agreement", interrupted)
    with pytest.raises(KeyboardInterrupt):
        syncgan_triplets.run(None, tmp_path / "parts", "smoke")
    logs = [path.read_bytes() for path in sorted((tmp_path / "parts").glob("*/run/log.jsonl"))]
    parts = syncgan_triplets.run(None, tmp_path / "parts", "smoke")
    assert measured == ["source", "one-conditional-mask-GAN", "one-conditional-mask-GAN"]
    assert logs == [path.read_bytes() for path in sorted((tmp_path / "parts").glob("*/run/log.jsonl"))]
    assert parts == whole


@pytest.mark.slow
def test_paired_pathology_smoke(tmp_path):
    result = paired_pathology.run(None, tmp_path, "smoke")
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["parameters_at_source_size"]["PatchGAN"] == 2_771_457
    assert 0 < result["parameters"]["PatchGAN"] < 2_771_457
    assert result["cells"]["measured"] <= result["cells"]["trained"]
    assert set(result["numbers"]) == {*paired_pathology.CONTESTANTS, "real test cells (floor)"}
    assert all(np.isfinite(list(each.values())).all() for each in result["numbers"].values())
    for name in ("sequence.png", "diversity.png", "curves.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 5


@pytest.mark.slow
def test_syncgan_smoke(tmp_path):
    result = syncgan_triplets.run(None, tmp_path, "smoke")
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert set(result["numbers"]) == {"source", "one conditional mask GAN", "real pairs"}
    assert len(result["details"]["source"]["areas"]) == 5
