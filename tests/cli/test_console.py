"""What reaches standard output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from cytoforge.cli.console import Outcome, complain, plain, show


@dataclass(frozen=True)
class Point:
    x: float


class Model(BaseModel):
    place: Path


def test_plain_values() -> None:
    facts = {
        "point": Point(float("inf")),
        "model": Model(place=Path("runs")),
        "numbers": np.arange(2),
        "number": np.float32(0.5),
        "set": {"b", "a"},
    }
    assert plain(facts) == {
        "point": {"x": None},
        "model": {"place": "runs"},
        "numbers": [0, 1],
        "number": 0.5,
        "set": ["a", "b"],
    }
    with pytest.raises(TypeError, match="object"):
        plain(object())


def test_text_is_not_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show(Outcome(text="[red]cells[/red] in [/nowhere]"), as_json=False)
    complain("DataError", "[bold] is a folder's name", as_json=False)
    printed = capsys.readouterr()
    assert "[red]cells[/red] in [/nowhere]" in printed.out
    assert "[bold] is a folder's name" in printed.err


def test_a_long_path_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a folder/" + "x" * 200
    complain("DataError", f"{path} is missing", as_json=True)
    printed = capsys.readouterr()
    assert path in printed.err
    assert json.loads(printed.out) == {"error": {"kind": "DataError", "message": f"{path} is missing"}}


def test_facts_become_a_table_where_there_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Outcome({"images": 3, "out": Path("cells")}), as_json=False) == 0
    assert capsys.readouterr().out.split() == ["images", "3", "out", "cells"]
