from __future__ import annotations

from pathlib import Path

import pytest

from cytoforge.cli.phantom import phantom as command
from cytoforge.core.errors import ConfigError
from cytoforge.stages.phantom import phantom


def test_it_tells_what_was_written(tmp_path: Path) -> None:
    made = phantom(tmp_path / "a", per_class=3, size=32)
    assert made["images"] == 15
    assert made["faults"] == {}
    assert Path(made["truth"]).is_file()


def test_unknown_faults_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recurring"):
        phantom(tmp_path / "a", faults=("ghost",))
    assert not (tmp_path / "a").exists()


def test_the_command_plants_all_faults_and_says_so(tmp_path: Path) -> None:
    outcome = command(tmp_path / "a", per_class=30, size=16, faults=("all",))
    assert len(outcome.facts["faults"]) == 10
    assert "150 simulated cells" in str(outcome.text)
