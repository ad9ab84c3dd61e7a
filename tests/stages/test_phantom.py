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


def test_all_stands_for_every_fault() -> None:
    with pytest.raises(ConfigError, match="faults need 30 cells"):
        phantom(Path("never-written"), per_class=2, faults=("all",))


def test_the_command_says_what_it_wrote_and_where_the_truth_is(tmp_path: Path) -> None:
    outcome = command(tmp_path / "a", per_class=2, size=16)
    assert outcome.facts["images"] == 10
    assert "10 simulated cells" in str(outcome.text)
    assert "truth.json" in str(outcome.text)
