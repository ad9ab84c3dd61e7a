import json

import numpy as np
import pytest
from PIL import Image

from cytoforge.experiments import paired_pathology, syncgan_triplets
from cytoforge.experiments.paired_pathology import SOURCE, Place, diversity, parameters


def test_networks_have_the_sources_parameters():
    assert parameters() == {
        "generator": SOURCE.generator_parameters,
        "patch": SOURCE.patch_parameters,
        "vanilla": SOURCE.vanilla_parameters,
    }


def test_one_image_for_a_mask_has_no_diversity(monkeypatch):
    """An extractor that tells dark from light, so that all of it can be done by hand."""

    def features(images, _):
        dark = images.reshape(len(images), -1).mean(1) < 50
        return np.stack([dark, ~dark], axis=1).astype(float)

    monkeypatch.setattr(paired_pathology, "extract", features)
    real = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    place = Place(None, None, real, real, None)
    same = np.full((2, 3, 4, 4, 3), 7, np.uint8)
    assert diversity(same, place) == {"one_mask": 0, "one_mask_share": 0, "one_mask_levels": 0}
    other = same.copy()
    other[0, 1:] = 107
    found = diversity(other, place)
    assert found["one_mask"] == pytest.approx(1 / 3)
    assert found["one_mask_share"] == pytest.approx(1 / 2)
    assert found["one_mask_levels"] == pytest.approx(100 / 3)


def test_areas_of_masks_by_hand():
    masks = np.zeros((1, 2, 4), np.uint8)
    masks[0, 0] = [0, 1, 2, 2]
    shares = syncgan_triplets._shares(masks)
    assert shares["nucleus"].tolist() == [0.25]
    assert shares["cell"].tolist() == [0.375]


@pytest.mark.slow
def test_paired_pathology_smoke(tmp_path):
    result = paired_pathology.run(None, tmp_path, "smoke")
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["parameters"]["patch"] == 2_771_457
    assert set(result["numbers"]) == {*paired_pathology.CONTESTANTS, "real test cells (floor)"}
    assert all(np.isfinite(list(each.values())).all() for each in result["numbers"].values())
    for name in ("sequence.png", "diversity.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 5


@pytest.mark.slow
def test_syncgan_smoke(tmp_path):
    result = syncgan_triplets.run(None, tmp_path, "smoke")
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert set(result["numbers"]) == {"source", "one conditional mask GAN", "real pairs"}
    assert len(result["details"]["source"]["areas"]) == 5
