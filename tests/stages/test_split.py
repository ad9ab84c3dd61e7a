from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cytoforge.core.errors import DataError
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, check_split
from cytoforge.stages.split import split


@pytest.fixture
def folder(tmp_path):
    """Two classes of 12 pictures; one picture is a mirrored copy, one file is broken."""
    rng = np.random.default_rng(0)
    root = tmp_path / "mit Leerzeichen ü"
    for label in ("b", "a"):
        (root / label).mkdir(parents=True)
        for i in range(12):
            cells = np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            Image.fromarray(cells).save(root / label / f"{i:02d}.png")
            if (label, i) == ("a", 3):
                Image.fromarray(cells[:, ::-1]).save(root / "b" / "copy.png")
    content = (root / "a" / "05.png").read_bytes()
    (root / "a" / "05.png").write_bytes(content[: len(content) // 2])
    return root


def test_copies_stay_together_and_broken_files_are_left_out(folder, tmp_path):
    made = split(folder, tmp_path / "out", seed=1)
    assert Split.load(tmp_path / "out" / "split.json") == made
    assert made.groups["a/03.png"] == made.groups["b/copy.png"]
    assert made.parts["a/03.png"] == made.parts["b/copy.png"]
    assert made.left_out == ("a/05.png",)
    assert made.merged
    check_split(made, open_cells(folder))


def test_out_may_be_a_file_name(folder, tmp_path):
    made = split(open_cells(folder), tmp_path / "mine.json")
    assert Split.load(tmp_path / "mine.json").sha256 == made.sha256


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        split(tmp_path / "nothing")
