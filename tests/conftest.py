from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

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
