import json

import pytest

from cytoforge.cli.main import run as cytoforge
from cytoforge.core.errors import ConfigError
from cytoforge.core.files import write_json
from cytoforge.experiments import catalogue
from cytoforge.experiments.catalogue import EXPERIMENTS, Experiment, experiment_of


def count(data, out, scale):
    write_json(out / "result.json", {"scale": scale})
    return {"scale": scale, "data": data}


@pytest.fixture(autouse=True)
def _counting(monkeypatch):
    monkeypatch.setattr(catalogue, "EXPERIMENTS", {**EXPERIMENTS, "counting": Experiment("Count.", count)})


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match='Did you mean "counting"'):
        experiment_of("countin")


def test_the_verb_lists_runs_and_refuses(tmp_path, capsys):
    assert cytoforge(["experiment", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["experiments"]["counting"] == "Count."
    out = str(tmp_path / "out")
    assert cytoforge(["experiment", "counting"]) == 2
    assert "--out" in capsys.readouterr().err
    assert cytoforge(["experiment", "counting", "--out", out, "--scale", "full", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == {"scale": "full", "data": None}
    assert cytoforge(["experiment", "counting", "--out", out]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_only_the_same_call_goes_on(tmp_path, capsys):
    call = ["experiment", "counting", "--out", str(tmp_path / "out")]
    assert cytoforge(call) == 0
    assert cytoforge(call) == 0
    assert cytoforge([*call, "--scale", "full"]) == 2
    assert "not an empty folder" in capsys.readouterr().err
