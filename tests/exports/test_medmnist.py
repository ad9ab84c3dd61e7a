from __future__ import annotations

import json

import numpy as np
import pytest

from cytoforge.data.folder import open_cells, read_image
from cytoforge.exports.medmnist import write_medmnist

pytestmark = pytest.mark.filterwarnings("ignore")  # of the package's own imports


def test_the_archive_holds_images_labels_and_the_mark(opened, tmp_path) -> None:
    path = write_medmnist(opened, tmp_path)[0]
    assert path.name == "cytoforge_32.npz"
    with np.load(path, allow_pickle=False) as archive:
        assert bool(archive["synthetic"])
        assert json.loads(str(archive["origin"]))["manifest_sha256"] == opened.sha256
        assert archive["class_names"].tolist() == list(opened.header.classes)
        assert archive["train_labels"].dtype == np.uint8
        assert archive["train_labels"].ravel().tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert archive["seeds"].tolist() == [entry.seed for entry in opened.images]
        for row, entry in enumerate(opened.images):
            assert np.array_equal(archive["train_images"][row], opened.pixels(entry))
        assert archive["test_images"].shape == (0, 32, 32, 3)


def test_the_package_medmnist_reads_it(opened, tmp_path, monkeypatch) -> None:
    medmnist = pytest.importorskip("medmnist")
    from medmnist.dataset import MedMNIST2D

    path = write_medmnist(opened, tmp_path)[0]
    info = {"n_samples": {"train": 12, "val": 0, "test": 0}, "task": "multi-class", "n_channels": 3}
    monkeypatch.setitem(medmnist.INFO, "cytoforge", {**info, "label": {}, "license": "", "description": ""})

    class Cells(MedMNIST2D):
        flag = "cytoforge"
        available_sizes = (32,)

    data = Cells(split="train", root=str(path.parent), size=32)
    image, label = data[5]
    assert np.array_equal(np.asarray(image), opened.pixels(opened.images[5]))
    assert label.tolist() == [1]
    assert len(data) == 12
    assert len(Cells(split="test", root=str(path.parent), size=32)) == 0


def test_our_own_layout_reads_it(opened, tmp_path) -> None:
    cells = open_cells(write_medmnist(opened, tmp_path)[0])
    assert [cell.label for cell in cells.cells] == ["0"] * 4 + ["1"] * 4 + ["2"] * 4
    assert {cell.split for cell in cells.cells} == {"train"}
    assert np.array_equal(np.asarray(read_image(cells.cells[7])), opened.pixels(opened.images[7]))
