from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.png import decode_png
from cytoforge.data.folder import open_cells
from cytoforge.exports.image_folder import write_image_folder
from cytoforge.exports.synthetic_set import open_set
from cytoforge.networks.torchvision_cpu import prepare_torchvision
from cytoforge.sampling.provenance import image_marks, mark_fault
from cytoforge.stages.export import export


def test_torchvision_reads_the_folder_and_every_image_keeps_its_marks(opened, tmp_path) -> None:
    write_image_folder(opened, tmp_path)
    prepare_torchvision()
    from torchvision.datasets import ImageFolder

    data = ImageFolder(str(tmp_path / "images"))
    assert len(data) == len(opened.images) == 12
    assert sorted(data.classes) == sorted(opened.header.folders.values())
    by_file = {entry.file: entry for entry in opened.images}
    for path, _ in data.samples:
        entry = by_file[path.removeprefix(f"{tmp_path / 'images'}/")]
        content = Path(path).read_bytes()
        assert mark_fault(content, image_marks(opened.header, entry.label, entry.seed)) is None
        assert np.array_equal(np.asarray(Image.open(path)), opened.pixels(entry))


def test_the_table_names_every_image_and_no_cell_is_a_formula(opened, tmp_path) -> None:
    write_image_folder(opened, tmp_path)
    with (tmp_path / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {
        opened.header.classes[0],
        "'=SUM(1,2)",
        opened.header.classes[2],
    }
    assert all(row["synthetic"] == "true" and (tmp_path / row["file_name"]).is_file() for row in rows)
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())


def test_our_own_layout_reads_images_and_masks(masked, tmp_path) -> None:
    write_image_folder(masked, tmp_path)
    cells = open_cells(tmp_path)
    assert cells.layout == "huggingface"
    assert not cells.faults
    assert len(cells.cells) == len(masked.images)
    assert all(cell.mask is not None and cell.mask.is_file() for cell in cells.cells)
    mask, marks = decode_png(cells.cells[0].mask.read_bytes(), "L")
    assert set(np.unique(mask)) <= {0, 1, 2}
    assert marks["Synthetic"] == "true"


def test_a_changed_set_is_not_passed_on(opened, tmp_path) -> None:
    shutil.copytree(opened.folder, tmp_path / "set")
    victim = tmp_path / "set" / opened.images[0].file
    Image.fromarray(opened.pixels(opened.images[0])).save(victim)  # the marks are gone
    with pytest.raises(DataError, match="not as its manifest says"):
        open_set(tmp_path / "set")


@pytest.mark.parametrize(
    ("format", "says"),
    [("imagefold", 'Did you mean "imagefolder"'), ("onnx", "is for runs"), ("dicom", "not an empty folder")],
)
def test_bad_requests_are_refused(opened, tmp_path, format, says) -> None:
    out = tmp_path / "out"
    if "empty" in says:
        out.mkdir()
        (out / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match=says):
        export(opened.folder, out, format)


def test_a_run_is_no_set_and_a_folder_is_neither(run, tmp_path) -> None:
    with pytest.raises(ConfigError, match="Make a set first"):
        export(run.path, tmp_path / "out", "imagefolder")
    with pytest.raises(ConfigError, match="neither a synthetic set"):
        export(tmp_path, tmp_path / "out", "cards")
