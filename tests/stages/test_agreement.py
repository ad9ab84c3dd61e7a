import json
from dataclasses import asdict

import numpy as np
import pytest

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.evaluation.triplets import overlaps, summary
from cytoforge.stages.agreement import _report, agreement
from cytoforge.stages.generate import generate
from cytoforge.stages.phantom import phantom
from cytoforge.stages.train import train

SMALL = {
    **{"width": 4, "most_width": 8, "norm": "group", "discriminator_width": 4},
    **{"discriminator_norm": "group", "batch": 8, "precision": "32-true"},
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement") / "phantom"
    phantom(folder, per_class=12, size=48)
    return folder


def test_triplets_are_compared_with_real_pairs(cells, tmp_path):
    run = train(
        "pix2pix",
        cells,
        tmp_path / "run",
        resolution=32,
        images=16,
        preset="default",
        settings=SMALL,
        extractor="",
    )
    assert run.config["mask_channels"] == 2
    generate(run.path, tmp_path / "set", per_class=2, masks=cells)
    found = agreement(tmp_path / "set", cells, tmp_path / "out", images=320)
    assert json.loads((tmp_path / "out" / "agreement.json").read_text()) == found
    assert (tmp_path / "out" / "agreement.png").is_file()
    assert found["synthetic"]["nucleus"]["count"] == 10
    assert set(found["real"]["nucleus"]["classes"]) == set(run.config["classes"])
    assert found["real"]["cell"]["value"] > found["synthetic"]["cell"]["value"], (
        "hardly trained, and it shows"
    )
    mask = next((tmp_path / "set" / "masks").rglob("*.png"))
    mask.write_bytes(mask.read_bytes() + b"x")
    with pytest.raises(DataError, match="not as its manifest says"):
        agreement(tmp_path / "set", cells, tmp_path / "out", images=16)


def test_intervals_by_class_are_over_photos_too():
    generator = np.random.default_rng(0)
    masks = (generator.random((12, 8, 8)) < np.linspace(0.1, 0.9, 12)[:, None, None]).astype(np.uint8)
    images = np.zeros((12, 8, 8, 3), np.uint8)
    labels, photos = ["a"] * 8 + ["b"] * 4, [*"11112222", *"3344"]
    found = _report(lambda pictures: np.ones(pictures.shape[:3], np.uint8), images, masks, labels, photos)
    values = overlaps(np.ones_like(masks), masks)["cell"]
    for name, rows in {"a": range(8), "b": range(8, 12)}.items():
        wanted = summary(values[list(rows)], [photos[row] for row in rows])
        share = masks[list(rows)].any(axis=(1, 2)).mean()
        assert found["cell"]["classes"][name] == {**asdict(wanted), "present": share}
        assert wanted != summary(values[list(rows)])


@pytest.mark.parametrize("without", [8, 10])
def test_nuclei_that_neither_mask_has_are_no_agreement(without):
    """Of ten masks some have no nucleus; the segmenter finds a nucleus where there is one, half of it."""
    masks = np.ones((10, 4, 4), np.uint8)
    masks[without:, :2] = 2
    halved = masks.copy()
    halved[without:, 0] = 1
    images = np.zeros((10, 4, 4, 3), np.uint8)
    found = _report(lambda pictures: halved, images, masks, ["a"] * 10, None)
    assert found["nucleus"]["present"] == pytest.approx(1 - without / 10)
    assert found["nucleus"]["count"] == 10 - without
    assert found["nucleus"]["value"] == (None if without == 10 else pytest.approx(2 / 3))
    assert found["cell"]["value"] == 1
    assert found["cell"]["present"] == 1


def test_sets_without_masks_and_cells_without_masks_are_refused(cells, tiny_cells, tmp_path):
    with pytest.raises(ConfigError, match="cytoforge mask"):
        train("pix2pix", tiny_cells, tmp_path / "no", resolution=32, images=16, settings=SMALL)
    assert not (tmp_path / "no").exists()
    small = {"latent": 8, "generator_channels": 4, "critic_channels": 4, "most_channels": 8, "batch": 8}
    run = train("wgan-gp", cells, tmp_path / "run", resolution=32, images=8, settings=small, extractor="")
    assert run.config["mask_channels"] == 0
    generate(run.path, tmp_path / "set", per_class=1)
    with pytest.raises(ConfigError, match="without masks"):
        agreement(tmp_path / "set", cells, tmp_path / "out")
    with pytest.raises(ConfigError, match="--masks"):
        generate(run.path, tmp_path / "other", per_class=1, masks=cells)
