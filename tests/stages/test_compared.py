from __future__ import annotations

from pathlib import Path

import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.core.run import Run
from cytoforge.sampling.provenance import Header
from cytoforge.stages.compared import find_split, run_of


def header_of(run: Run) -> Header:
    return Header(
        method="wgan-gp", config_sha256=run.config_hash, checkpoint="best", checkpoint_sha256="0" * 64, seen=1,
        truncation=1.0, preparation={"resolution": 32}, classes=("a",), folders={"a": "a"}, run="../run",
        split_sha256=None, versions={}, threads=1,
    )  # fmt: skip


def test_a_set_goes_with_its_own_run_and_with_no_other_in_its_place(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"method": "wgan-gp", "seed": 0})
    header = header_of(run)
    assert run_of(tmp_path / "set", header) == Run.open(run.path)
    run.path.rename(tmp_path / "earlier run")
    assert run_of(tmp_path / "set", header) is None
    Run.create(tmp_path / "run", {"method": "wgan-gp", "seed": 1})
    found = run_of(tmp_path / "set", header)
    assert found is None
    with pytest.raises(ConfigError, match=r"not at '\.\./run' any more.*--split RUN/split\.json"):
        find_split(None, found, header)
