from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.core.png import decode_png
from cytoforge.experiments import text_to_image
from cytoforge.experiments.text_to_image import BUDGETS, METHOD, STEERED, TAUGHT, UNTAUGHT, savings
from cytoforge.stages.train import plan


def budget_for(model, **changed):
    settings = {"size": 32, "steps": 2, "rank": 2, "learning_rate": 1e-2}
    return BUDGETS["smoke"].model_copy(update={"checkpoint": str(model), "settings": settings, **changed})


def test_a_model_has_to_be_named_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="--set checkpoint=FOLDER"):
        text_to_image.run(None, tmp_path / "out", "smoke")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("card", [False, True])
def test_each_saving_is_a_setting(card):
    together = {}
    for saving in savings(4, card).values():
        together |= saving
        assert plan(METHOD, "cpu", together).settings.checkpointing == together["checkpointing"]
    assert ("offload" in together) == card


@pytest.mark.parametrize(
    ("script", "gib"),
    [("echo 'CUDA out of memory. Tried to allocate' >&2; exit 1", None), ("kill -9 $$", None)],
)
def test_a_step_that_does_not_fit_is_a_result(tmp_path, tiny_cells, monkeypatch, script, gib):
    program = tmp_path / "train.sh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    found = text_to_image._memory(tiny_cells, tmp_path / "memory", budget_for("model"))
    assert found == dict.fromkeys(savings(4, card=False), gib)


def test_a_step_that_fails_otherwise_is_none(tmp_path, tiny_cells):
    with pytest.raises(ConfigError, match=r"a step of training failed \(exit code 2\): see .*0\.log"):
        text_to_image._memory(tiny_cells, tmp_path / "memory", budget_for(tmp_path / "no model"))
    assert "no model" in (tmp_path / "memory" / "0.log").read_text()


@pytest.mark.slow
def test_memory_teaching_and_outlines_with_a_tiny_model(tiny_stable_diffusion, tmp_path):
    budget = budget_for(tiny_stable_diffusion)
    result = text_to_image.run(None, tmp_path, "smoke", budget)
    assert json.loads((tmp_path / "result.json").read_text()) == json.loads(json.dumps(result))
    assert list(result["numbers"]) == ["real cells (floor)", UNTAUGHT, TAUGHT, STEERED]
    assert all(np.isfinite(list(each.values())).all() for each in result["numbers"].values())
    assert result["memory"].keys() == savings(4, card=False).keys()
    assert all(0.1 < gib < 10 for gib in result["memory"].values())
    assert "| activations computed again |" in (tmp_path / "table.md").read_text()
    rows = decode_png((tmp_path / "cells.png").read_bytes())[0]
    assert rows.std() > 5
    again = text_to_image.run(None, tmp_path, "smoke", budget)
    assert again == result
