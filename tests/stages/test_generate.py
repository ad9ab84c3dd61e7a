"""The verbs `generate` and `verify`, from the command line down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cytoforge.cli.main import run as cytoforge
from cytoforge.core.checkpoint import save_checkpoint
from cytoforge.core.errors import ConfigError
from cytoforge.core.files import sha256_file
from cytoforge.core.run import Run
from cytoforge.methods.catalogue import rebuild
from cytoforge.stages.generate import generate
from cytoforge.stages.verify import verify


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    config = {
        "method": "wgan-gp",
        "settings": {"latent": 8, "generator_channels": 4, "critic_channels": 4, "most_channels": 8},
        "preparation": {"resolution": 32},
        "classes": ["Koilocytotic", "carcinoma in situ"],
        "mask_channels": 0,
    }
    run = Run.create(tmp_path / "my run é", config)
    torch.manual_seed(0)
    networks = rebuild(run.config).networks
    tensors = {
        f"{kind}/{name}/{key}": tensor.clone()
        for kind in ("network", "average")
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }
    save_checkpoint(run.checkpoints, tensors, {"seen": 64, "score": None})
    return run.path


def test_a_selected_set_takes_back_what_it_had_and_nothing_else(trained: Path, tmp_path: Path) -> None:
    """Dropped images would come back, and the file that tells of the selection would no longer fit."""
    out = tmp_path / "selected" / "set"
    generate(trained, out, per_class=2)
    told = {"rules": ["copies"], "extractor": "x", "kept": 4, "images": 6}
    kept = sha256_file(out / "manifest.jsonl")
    (out.parent / "selection.json").write_text(json.dumps({**told, "kept_manifest_sha256": kept}))
    with pytest.raises(ConfigError, match="selected from a larger set"):
        generate(trained, out, per_class=3)
    lost = next(out.rglob("Koilocytotic/*.png"))
    lost.unlink()
    assert generate(trained, out, per_class=2).made == 1
    assert sha256_file(out / "manifest.jsonl") == kept


def test_generate_then_verify(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my set"
    assert cytoforge(["generate", str(trained), "--out", str(out), "--per-class", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "images": 6, "made": 6, "kept": 0}
    more = ["--class", "carcinoma in situ", "--seeds", "0-1,9"]
    assert cytoforge(["generate", str(trained), "--out", str(out), *more, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 9
    assert cytoforge(["verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    (out / "contact.png").unlink()
    assert cytoforge(["verify", str(out), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["problems"] == [
        {"file": "contact.png", "reason": "it is missing"}
    ]


def test_bad_requests_say_what_to_do(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for request, expected in (
        ([], "--per-class N"),
        (["--per-class", "2", "--seeds", "1"], "--per-class N"),
        (["--class", "Koilocytotic"], "--seeds"),
        (["--class", "Parabasal", "--seeds", "1"], "no class 'Parabasal'"),
        (["--per-class", "0"], "1 to 1000000"),
        (["--per-class", "2", "--truncation", "2"], "--truncation"),
    ):
        assert cytoforge(["generate", str(trained), "--out", str(tmp_path / "set"), *request]) == 2
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
    assert cytoforge(["generate", str(tmp_path), "--out", str(tmp_path / "set"), "--per-class", "1"]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert cytoforge(["verify", str(tmp_path / "nowhere")]) == 2


def test_stages_are_plain_functions(trained: Path, tmp_path: Path) -> None:
    assert generate(trained, tmp_path / "set", label="Koilocytotic", seeds="4,7").images == 2
    assert verify(tmp_path / "set") == []
    with pytest.raises(ConfigError, match="--class NAME"):
        generate(trained, tmp_path / "set")
