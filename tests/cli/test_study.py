from __future__ import annotations

import json
from pathlib import Path

import pytest

from cytoforge.cli.main import run
from cytoforge.cli.study import study
from cytoforge.core.errors import ConfigError


def test_dry_run_counts_and_trains_nothing(tiny_cells: Path, tmp_path: Path, capsys) -> None:
    command = ["study", str(tiny_cells), "--out", str(tmp_path / "out"), "--classifiers", "linear,lite0"]
    command += ["--real", "20,all", "--regimes", "orig,+trad,+prop", "--minutes", "2", "--dry-run", "--json"]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"generators": 30, "classifiers": 5 * 2 * 2 * 5, "generator_minutes": 60.0}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"real": "20,few"}, "numbers of cells"),
        ({"set_": ("batch=3",)}, "NAME.key=value"),
        ({"ratios": "two"}, "ratios"),
        ({"regimes": "orig,gan"}, "--control"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        study(tmp_path, out=tmp_path / "out", **options)
