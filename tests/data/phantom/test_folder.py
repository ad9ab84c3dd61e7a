from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json, sha256_file
from cytoforge.data.phantom import CLASSES, FAULTS, folder, write_phantom

SIZE = 32


def hashes(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): sha256_file(p) for p in sorted(root.rglob("*")) if p.is_file()}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("with spaces") / "phantöm"
    return root, write_phantom(root, 30, SIZE, 3, tuple(FAULTS), jobs=1)


def test_a_folder_holds_images_masks_and_the_truth(tmp_path: Path) -> None:
    truth = write_phantom(tmp_path / "a", 4, SIZE)
    assert truth == read_json(tmp_path / "a" / "truth.json")
    assert truth["classes"] == list(CLASSES)
    assert len(truth["cells"]) == 20
    for cell in truth["cells"]:
        assert pixels(tmp_path / "a" / cell["file"]).shape == (SIZE, SIZE, 3)
        assert pixels(tmp_path / "a" / cell["mask"]).shape == (SIZE, SIZE)
        match = re.search(truth["group"], cell["file"])
        assert match
        assert match[1] == cell["photo"]
        assert cell["class"] == cell["true_class"]
        assert 0 < cell["nc_ratio"] < 1
    assert not list(tmp_path.glob(".*"))


def test_the_same_seed_gives_the_same_bytes_in_one_process_or_two(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(folder, "_ALONE", 1)
    for name, jobs in (("one", 1), ("two", 2)):
        write_phantom(tmp_path / name, 2, SIZE, 7, jobs=jobs)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    write_phantom(tmp_path / "other", 2, SIZE, 8)
    assert hashes(tmp_path / "one") != hashes(tmp_path / "other")


def test_every_image_says_that_it_is_synthetic(tmp_path: Path) -> None:
    write_phantom(tmp_path / "a", 1, SIZE)
    for path in (tmp_path / "a" / "images").rglob("*.png"):
        with Image.open(path) as image:
            assert image.text["Synthetic"] == "true"


def test_planted_faults_are_in_the_files_that_the_truth_names(faulty: tuple[Path, dict[str, Any]]) -> None:
    root, truth = faulty
    found = {name: fault["found_in"] for name, fault in truth["faults"].items()}
    assert {name: len(places) for name, places in found.items()} == dict.fromkeys(FAULTS, 5)
    for place in found["duplicate"]:
        assert len({sha256_file(root / name) for name in place["files"]}) == 1
    for place in found["flipped"]:
        one, two = (pixels(root / name) for name in place["files"])
        copies = [np.rot90(side, turns) for side in (one, one[:, ::-1]) for turns in range(4)]
        assert not np.array_equal(one, two)
        assert any(np.array_equal(copy, two) for copy in copies)
    for place in found["recoloured"]:
        one, two = (pixels(root / name) for name in place["files"])
        assert np.abs(one - two).mean() > 2
        assert np.corrcoef(one.mean(2).ravel(), two.mean(2).ravel())[0, 1] > 0.95
    for place in found["truncated"]:
        with Image.open(root / place["files"][0]) as image, pytest.raises(OSError, match="truncated"):
            image.load()
    for place in found["overexposed"]:
        assert (pixels(root / place["files"][0]) == 255).mean() > 0.15
    for place in found["wrong_stain"]:
        red, green, blue = pixels(root / place["files"][0]).mean((0, 1))
        assert green > red + 20
        assert green > blue + 10


def test_recurring_cells_are_one_cell_in_two_photos(faulty: tuple[Path, dict[str, Any]]) -> None:
    rows = {cell["file"]: cell for cell in faulty[1]["cells"]}
    for place in faulty[1]["faults"]["recurring"]["found_in"]:
        one, two = (rows[name] for name in place["files"])
        assert one["cell"] == two["cell"]
        assert one["photo"] != two["photo"]
        assert one["cell_area"] == two["cell_area"]


def test_leaks_stand_in_the_published_split(faulty: tuple[Path, dict[str, Any]]) -> None:
    root, truth = faulty
    lines = (root / "metadata.csv").read_text().splitlines()
    assert lines[0] == "file_name,label,group,split,mask"
    assert len(lines) == 151
    splits: dict[str, set[str]] = {}
    for cell in truth["cells"]:
        splits.setdefault(cell["photo"], set()).add(cell["split"])
    leaking = {photo for photo, parts in splits.items() if len(parts) > 1}
    assert leaking == {place["photo"] for place in truth["faults"]["leak"]["found_in"]}


def test_a_phantom_is_kept_when_the_same_is_asked_for_and_replaced_when_not(tmp_path: Path) -> None:
    out = tmp_path / "a"
    write_phantom(out, 2, SIZE)
    (out / "notes.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    write_phantom(out, 2, SIZE)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(write_phantom(out, 1, SIZE)["cells"]) == 5
    assert len(list((out / "images").rglob("*.png"))) == 5
    assert (out / "notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="nothing was written"):
        write_phantom(tmp_path, 1, SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="is a file"):
        write_phantom(tmp_path / "thesis.txt", 1, SIZE)


def test_a_full_disk_leaves_nothing_behind_and_keeps_what_was_there(tmp_path: Path, monkeypatch) -> None:
    write_phantom(tmp_path / "a", 1, SIZE)
    before = hashes(tmp_path)

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="disk is full"):
        write_phantom(tmp_path / "a", 2, SIZE)
    assert hashes(tmp_path) == before
