from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoforge.cli.mask import mask as command
from cytoforge.core.errors import ConfigError
from cytoforge.data.folder import open_cells, read_image, read_mask
from cytoforge.data.phantom import simulate, write_phantom
from cytoforge.stages.mask import mask


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "cells"
    write_phantom(root, per_class=2, size=48)
    return root


def test_a_phantom_gets_masks_that_agree_and_can_be_opened(cells: Path, tmp_path: Path) -> None:
    found = mask(cells, tmp_path / "masked")
    assert json.loads((tmp_path / "masked" / "masks.json").read_text()) == found
    assert found["images"] == 10
    assert found["agreement"]["all"]["images"] == 10
    assert found["agreement"]["all"]["cell_dice"]["value"] > 0.75
    before, after = open_cells(cells), open_cells(tmp_path / "masked")
    assert after.layout == "paired"
    assert after.groups == before.groups
    assert after.labels.tolist() == before.labels.tolist()
    for old, new in zip(before.cells, after.cells, strict=True):
        assert new.path.read_bytes() == old.path.read_bytes()  # the mark "synthetic" stays
        levels = read_mask(new)
        assert levels is not None
        assert set(np.unique(levels)) <= {0, 1, 2}


def test_the_gallery_has_a_row_for_each_class(cells: Path, tmp_path: Path) -> None:
    mask(cells, tmp_path / "masked")
    with Image.open(tmp_path / "masked" / "gallery.png") as picture:
        assert picture.height > 5 * 2 * 128
        drawn = np.asarray(picture)
    assert (drawn == (255, 225, 0)).all(axis=2).sum() > 100


def test_data_without_masks_and_with_a_broken_file(tiny_cells: Path, tmp_path: Path) -> None:
    root = tmp_path / "real"
    for label in ("a", "b"):
        (root / f"im_{label}" / f"im_{label}" / "CROPPED").mkdir(parents=True)
        for number in ("001_01", "001_02"):
            place = root / f"im_{label}" / f"im_{label}" / "CROPPED" / f"{number}.bmp"
            Image.fromarray(simulate("Parabasal", int(number[-1]), 32).image).save(place)
    place.write_bytes(b"BM nothing")
    outcome = command(root, out=tmp_path / "masked")
    assert outcome.facts["images"] == 3
    assert outcome.facts["agreement"] == {}
    assert list(outcome.facts["faults"]) == ["im_b/im_b/CROPPED/001_02.bmp"]
    after = open_cells(tmp_path / "masked")
    assert after.names == ["images/a/001_01.bmp", "images/a/001_02.bmp", "images/b/001_01.bmp"]
    assert after.groups == ["a/001", "a/001", "b/001"]
    assert read_image(after.cells[0]).shape == (32, 32, 3)


def test_a_folder_that_holds_something_is_left_alone(cells: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="--out"):
        mask(cells, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
