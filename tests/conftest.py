from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Root of the real cells: CYTOFORGE_DATA, or ../shared/data beside the checkout."""
    place = os.environ.get("CYTOFORGE_DATA")
    root = Path(place) if place else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip("no real cells here: set CYTOFORGE_DATA to a folder with sipakmed/ and herlev/")
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test session caches in a temporary folder, never in the user's."""
    monkeypatch.setenv("CYTOFORGE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def tiny_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes, 40 pictures of 40 x 36 px each, four to a photo (`<photo>_<cell>.png`)."""
    root = tmp_path_factory.mktemp("tiny") / "cells of mine"
    generator = np.random.default_rng(0)
    for label, colour in (("blue", 2), ("red", 0)):
        (root / label).mkdir(parents=True)
        for index in range(40):
            picture = generator.integers(0, 160, (40, 36, 3), np.uint8)
            picture[8:30, 8:28, colour] = 220
            Image.fromarray(picture).save(root / label / f"{index // 4:03d}_{index % 4:02d}.png")
    return root
