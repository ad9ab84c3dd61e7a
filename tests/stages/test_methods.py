"""Methods describe themselves."""

from __future__ import annotations

import json

import pytest

from cytoforge.cli import main
from cytoforge.methods.catalogue import METHODS
from cytoforge.stages.methods import describe_methods, describe_shared


def test_every_method_is_described() -> None:
    described = {method.name: method for method in describe_methods()}
    assert list(described) == list(METHODS)
    for method in described.values():
        assert method.summary
        assert all(meaning for _kind, _default, meaning in method.settings.values()), method.name
        known = set(method.settings).union(*describe_shared().values())
        assert all(set(changes) <= known for changes in method.presets.values())


def test_the_verb_shows_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["methods"]) == 0
    shown = capsys.readouterr().out
    assert "wgan-gp" in shown
    assert "weight of the gradient penalty" in " ".join(shown.split())
    assert main.run(["methods", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"][0]["settings"]["penalty"][1] == 10.0
