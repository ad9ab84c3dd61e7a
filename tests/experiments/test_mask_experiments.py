import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation

from cytoforge.data.cache import open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.split import split_cells
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.features import Extractor
from cytoforge.evaluation.metrics import Measurement, Morphometry
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
from cytoforge.stages import morphometry
from cytoforge.stages.compared import OpenedSet
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


def ellipses(folder):
    """40 cells of each class: a nucleus of 3 to 5 px in a cell of 10 to 14 px, each of its own photo."""
    generator = np.random.default_rng(0)
    down, across = np.mgrid[:32, :32] - 16
    for index in range(80):
        mask = (np.hypot(down, across) < generator.uniform(10, 14)).astype(np.uint8)
        mask[np.hypot(down, 1.2 * across) < generator.uniform(3, 5)] = 2
        colours = np.array([[220, 215, 220], [150, 180, 170], [80, 70, 120]])[mask]
        picture = (colours + generator.normal(0, 6, (32, 32, 3))).clip(0, 255).astype(np.uint8)
        for kind, content in (("images", picture), ("masks", mask)):
            path = folder / kind / ("first", "second")[index % 2] / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)


def test_drawn_cells_are_measured_against_unseen_real_ones(tmp_path, monkeypatch):
    """Training cells as if they were drawn: as they are, and with nuclei that are 2 px larger all round."""
    ellipses(tmp_path)
    split = split_cells(open_cells(tmp_path), (0.5, 0.2, 0.3))
    cells = open_cache(open_cells(tmp_path), Preparation(resolution=32))
    drawn = cells.select(split.names("train"))
    manifest = SimpleNamespace(
        header=SimpleNamespace(classes=("first", "second")),
        labels=drawn.labels,
        images=[SimpleNamespace(file=name) for name in drawn.names],
    )
    true = np.asarray(drawn.masks)
    near = binary_dilation(true == 2, np.ones((1, 5, 5)))
    opened = OpenedSet(manifest, None, split, cells, np.asarray(drawn.images))
    monkeypatch.setattr(syncgan_triplets, "open_with_real", lambda *_: opened)
    found = []
    for masks in (true, np.where((true == 1) & near, 2, true)):
        monkeypatch.setattr(morphometry, "read_masks", lambda *_, masks=masks: masks)
        measured = syncgan_triplets.measurements(tmp_path, tmp_path)
        found.append(measured.classes["second"]["nc_ratio"])
    honest, large = found
    assert not honest.differs
    assert honest.n_real == 20
    assert honest.floor is not None
    assert large.differs
    assert large.wasserstein > 2


def test_a_measurement_over_classes_by_hand():
    def one(wasserstein, floor, p_value, differs):
        return Measurement(
            n_real=10, n_fake=10, real=(0, 0, 0), fake=(0, 0, 0), wasserstein=wasserstein, floor=floor,
            floor_high=None, ks=0.5, p_value=p_value, differs=differs,
        )  # fmt: skip

    classes = {
        "a": {"nc_ratio": one(1.0, 0.2, 0.5, False)},
        "b": {"nc_ratio": one(2.0, None, 0.01, True)},
        "c": {"nucleus_area": one(9.0, None, 0.0, True)},
    }
    measured = Morphometry(source="given", classes=classes)
    assert syncgan_triplets.over_classes(measured, "nc_ratio") == {
        "Wasserstein": 1.5, "floor": 0.2, "least KS p": 0.01, "differs": 0.5,
    }  # fmt: skip
    assert "floor" not in syncgan_triplets.over_classes(measured, "nucleus_area")
    assert syncgan_triplets.over_classes(measured, "cytoplasm_area") == {}


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
    monkeypatch.setitem(
        syncgan_triplets.BUDGETS,
        "smoke",
        syncgan_triplets.Budget(
            resolution=32, images=64, width=4, per_class=12, drawn=2, segmenter_images=64
        ),
    )
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
    for name in ("source", "one conditional mask GAN"):
        assert len(result["details"][name]["measurements"]["classes"]) == 5
        assert {"Wasserstein", "least KS p"} <= set(result["distances"][f"{name}, nucleus_area"])
    assert "nc_ratio" in (tmp_path / "table.md").read_text()
