import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cytoforge.cli.main import run as cytoforge
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.data.split import Split
from cytoforge.sampling.generator import open_generator
from cytoforge.sampling.reconstruction import codes, decoded, way_between
from cytoforge.stages.reconstruct import _means_of_others, reconstruct
from cytoforge.stages.train import train

SMALL = {"batch": 8, "precision": "32-true", "latent": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_cells):
    settings = {**SMALL, "channels": 4, "most_channels": 8, "perceptual": 0}
    return train(
        "cvae", tiny_cells, tmp_path_factory.mktemp("runs") / "cvae", resolution=32, images=16,
        preset="default", settings=settings, extractor="",
    )  # fmt: skip


def test_writes_pictures_and_numbers_of_held_out_cells(run, tmp_path, capsys):
    assert cytoforge(["reconstruct", str(run.path), "--out", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert 0 < facts["cells"] < 80
    assert 0 < facts["error"] < 255
    assert set(facts["by_class"]) == {"blue", "red"}
    assert json.loads((tmp_path / "reconstructions.json").read_text())["error"] == facts["error"]
    for name in ("reconstructions.png", "interpolations.png"):
        image, marks = decode_png((tmp_path / name).read_bytes())
        assert image.std() > 5
        assert marks["Contains"] == "real cells and reconstructions"


def test_other_cells_are_taken_but_for_those_that_were_learned_from(run, tiny_cells, tmp_path):
    copied, trained = tmp_path / "copied", Split.load(run.split_path).names("train")
    shutil.copytree(tiny_cells, copied)
    assert reconstruct(run.path, tmp_path / "out", data=copied).cells == 80 - len(trained) > 0
    for name in trained[1:]:
        Image.fromarray(255 - np.asarray(Image.open(copied / name))).save(copied / name)
    assert reconstruct(run.path, tmp_path / "more", data=copied).cells == 79
    for path in {copied / name for name in Split.load(run.split_path).hashes} - {copied / trained[0]}:
        path.unlink()
    shutil.copy(
        copied / trained[0], copied / ("red/x.png" if trained[0].startswith("blue") else "blue/x.png")
    )
    with pytest.raises(DataError, match="trained on all cells"):
        reconstruct(run.path, tmp_path / "none", data=copied)


def test_way_between_starts_and_ends_at_the_cells(run):
    generator = open_generator(Run.open(run.path), "newest")
    cells = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    way = way_between(generator, cells, 1, steps=3)
    assert way.shape == (5, 32, 32, 3)
    np.testing.assert_array_equal(way[[0, -1]], cells)
    ends = decoded(generator, codes(generator, cells, np.array([1, 1])), np.array([1, 1]))
    assert np.abs(way[[1, 3]].astype(int) - ends).max() <= 1


def test_the_mean_that_a_cell_is_compared_with_does_not_hold_it():
    images = np.stack([np.full((2, 2, 3), level, np.float32) for level in (0, 200, 90)])
    labels = np.array([0, 0, 1])
    assert _means_of_others(images, labels).mean((1, 2, 3)).tolist() == [200, 0, 100]


def test_a_method_without_codes_is_refused(tiny_cells, tmp_path):
    settings = {"batch": 8, "precision": "32-true", "latent": 4, "channels": 4}
    made = train(
        "cgan-dense", tiny_cells, tmp_path / "run", resolution=32, images=8, settings=settings, extractor=""
    )
    with pytest.raises(ConfigError, match="cannot reconstruct"):
        reconstruct(made.path, tmp_path / "out")
