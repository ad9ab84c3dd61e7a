from __future__ import annotations

import json
import socket

import numpy as np
import pytest

from cytoforge.core.png import decode_png
from cytoforge.exports.croissant import write_croissant

pytestmark = pytest.mark.filterwarnings("ignore")  # of the package's own imports
mlcroissant = pytest.importorskip("mlcroissant")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch) -> None:
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_it_is_valid_and_gives_each_cell_with_its_image(opened, tmp_path) -> None:
    write_croissant(opened, tmp_path)
    data = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not data.metadata.issues.errors
    records = list(data.records("cells"))
    assert len(records) == len(opened.images)
    by_seed = {entry.seed: entry for entry in opened.images}
    for record in records:
        entry = by_seed[record["cells/seed"]]
        assert record["cells/synthetic"]
        assert record["cells/sha256"].decode() == entry.sha256
        assert np.array_equal(np.asarray(record["cells/images"]), opened.pixels(entry))


def test_masks_are_joined_to_their_images(masked, tmp_path) -> None:
    write_croissant(masked, tmp_path)
    records = list(mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json")).records("cell_masks"))
    assert len(records) == len(masked.images)
    for record in records:
        name = record["cell_masks/file_name"].decode().removeprefix("images/")
        assert record["cell_masks/mask"].decode() == f"masks/{name}"
        expected = decode_png((masked.folder / "masks" / name).read_bytes(), "L")[0]
        assert np.array_equal(np.asarray(record["cell_masks/masks"])[..., 0], expected)


def test_it_says_what_it_is(opened, tmp_path) -> None:
    write_croissant(opened, tmp_path)
    content = json.loads((tmp_path / "croissant.json").read_text(encoding="utf-8"))
    assert "No image is a photograph of a patient's cell" in content["description"]
    assert "synthetic" in content["keywords"]
    assert "secret" not in (tmp_path / "croissant.json").read_text(encoding="utf-8")
