"""The examination tells what is broken and never breaks itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cytoforge.cli import main
from cytoforge.stages import doctor as stage
from cytoforge.stages.doctor import Finding, examine


def test_everything_needed_works_here() -> None:
    findings = {finding.name: finding for finding in examine()}
    assert [finding.name for finding in findings.values() if finding.works is False] == []
    assert "efficientnet-lite0" in findings["offline weights"].value
    assert findings["torch"].works


def test_what_breaks_becomes_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_name: str) -> Finding:
        raise ImportError("no module named torch")

    monkeypatch.setattr(stage, "_EXAMINATIONS", {"torch": broken})
    assert main.run(["doctor", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["broken"] == ["torch"]
    assert "no module named torch" in told["findings"][0]["value"]
    assert main.run(["doctor"]) == 3
    assert "broken" in capsys.readouterr().out


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "_NEEDED_DISK_GIB", 1e9)
    disk = next(finding for finding in examine() if finding.name == "disk")
    assert disk.works is False
    assert "free some space" in disk.advice
