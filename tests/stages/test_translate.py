import json

import numpy as np
import pytest
from PIL import Image

from cytoforge.cli.main import run as cytoforge
from cytoforge.core.errors import ConfigError
from cytoforge.stages.phantom import phantom
from cytoforge.stages.train import train
from cytoforge.stages.translate import translate

SMALL = {
    **{"batch": 4, "precision": "32-true", "channels": 4, "blocks": 1},
    **{"discriminator_channels": 4, "halvings": 2, "average_half_life": 1},
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translate") / "cells"
    phantom(folder, per_class=10, size=40)
    return folder


@pytest.fixture(scope="module")
def stains(tmp_path_factory, tiny_cells):
    return train(
        "cyclegan", tiny_cells, tmp_path_factory.mktemp("runs") / "stains", resolution=32, images=8,
        preset="default", settings={**SMALL, "source": "blue"}, extractor="",
    )  # fmt: skip


def test_masks_become_cells_and_the_check_sees_nucleus_and_background(cells, tmp_path, capsys):
    words = [f"--set={key}={value}" for key, value in SMALL.items()]
    run = [
        "train",
        "cyclegan",
        str(cells),
        "--run",
        str(tmp_path / "run"),
        "--resolution",
        "32",
        "--images",
        "8",
    ]
    assert cytoforge([*run, "--preset", "default", *words]) == 0
    capsys.readouterr()
    code = cytoforge(
        ["translate", str(tmp_path / "run"), str(cells), "--out", str(tmp_path / "out"), "--json"]
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["images"] == 50
    assert facts["measure"] == "contrast of nucleus"
    assert facts["swapped_real"] < 0.1
    assert code == (3 if facts["failed"] else 0)
    assert facts["failed"] == (facts["swapped"] > facts["swapped_real"] + 0.1)
    assert len(list((tmp_path / "out").glob("*/*.png"))) == 50
    assert (tmp_path / "out" / "translations.png").is_file()


def test_stains_are_translated_into_the_class_that_is_asked_for(stains, tiny_cells, tmp_path):
    done = translate(stains.path, tiny_cells, tmp_path / "out", to="blue")
    assert done.measure == "correlation of light"
    assert done.swapped_real is None
    there = translate(stains.path, tiny_cells, tmp_path / "there")
    assert -1 <= there.median <= 1
    first, second = (
        np.asarray(Image.open(tmp_path / folder / "red" / "000_00.png")) for folder in ("out", "there")
    )
    assert first.shape == (32, 32, 3)
    assert (first != second).any()


def test_what_does_not_fit_is_refused(stains, tiny_cells, tmp_path):
    with pytest.raises(ConfigError, match="no class 'green'"):
        translate(stains.path, tiny_cells, tmp_path / "out", to="green")
