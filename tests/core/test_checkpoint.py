import json
import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from cytoforge.core.checkpoint import load_checkpoint, save_checkpoint
from cytoforge.core.errors import CheckpointError


def save(folder: Path, seen: int, score: float | None = None, size: int = 10) -> Path:
    return save_checkpoint(folder, {"x": torch.full((size,), float(seen))}, {"seen": seen, "score": score})


def test_round_trip(tmp_path):
    tensors = {
        "network/a/w": torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last),
        "optimizer/a/0/step": torch.tensor(7.0),
    }
    save_checkpoint(tmp_path, tensors, {"seen": 5, "score": None, "note": "ü"})
    found = load_checkpoint(tmp_path)
    assert found.state == {"seen": 5, "score": None, "note": "ü"}
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())


def test_keeps_the_newest_two_and_the_best(tmp_path):
    for seen, score in ((1, 0.5), (2, 0.1), (3, 0.4), (4, None), (5, 0.3)):
        save(tmp_path, seen, score)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [2, 4, 5]
    assert load_checkpoint(tmp_path, "best").state["seen"] == 2
    assert load_checkpoint(tmp_path).state["seen"] == 5


def test_best_is_the_newest_where_nothing_was_measured(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert load_checkpoint(tmp_path, "best").state["seen"] == 2


def test_where_the_best_is_damaged_what_was_not_measured_is_taken(tmp_path):
    (save(tmp_path, 1, 0.1) / "tensors.safetensors").write_bytes(b"")
    save(tmp_path, 2)
    assert load_checkpoint(tmp_path, "best").state["seen"] == 2


@pytest.mark.parametrize("damage", ["truncate", "flip", "state", "manifest"])
def test_damage_is_found_and_the_one_before_is_used(tmp_path, damage):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    file = newest / {"state": "state.json", "manifest": "manifest.json"}.get(damage, "tensors.safetensors")
    content = bytearray(file.read_bytes())
    if damage == "truncate":
        content = content[:-1]
    elif damage == "manifest":
        content = bytearray(b"")
    else:
        content[len(content) // 2] ^= 1
    file.write_bytes(content)
    found = load_checkpoint(tmp_path)
    assert found.state["seen"] == 1
    assert len(found.skipped) == 1
    assert "000000000002" in found.skipped[0]


def test_nothing_intact_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="Train first"):
        load_checkpoint(tmp_path)
    (save(tmp_path, 1) / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path)


def test_nan_cannot_be_written_as_a_score(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path, 1, float("nan"))
    assert not any(tmp_path.glob("[0-9]*"))


def _save_for_ever(folder: Path, first: int) -> None:
    torch.set_num_threads(1)
    for seen in range(first, first + 100_000):
        save(folder, seen, size=50_000)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_killed_while_saving_a_hundred_times(tmp_path):
    """Whatever instant a kill hits, the newest finished checkpoint loads and is whole."""
    context = multiprocessing.get_context("fork")
    chance = random.Random(0)
    save(tmp_path, 0)
    newest = halfway = 0
    for _ in range(100):
        process = context.Process(target=_save_for_ever, args=(tmp_path, newest + 1))
        process.start()
        patience = time.monotonic() + 10
        while not any(tmp_path.glob(f".partial-*-{process.pid}")) and time.monotonic() < patience:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        halfway += any(tmp_path.glob(f".partial-*-{process.pid}"))
        found = load_checkpoint(tmp_path)
        assert not found.skipped
        assert found.state["seen"] >= newest
        assert torch.equal(found.tensors["x"].unique(), torch.tensor([float(found.state["seen"])]))
        newest = found.state["seen"]
    assert newest > 0
    assert halfway > 10, "too few kills hit a save that was under way to prove anything"
    save(tmp_path, newest + 1)
    assert not list(tmp_path.glob(".partial-*"))


def _save_on_a_full_disk(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        save(folder, 2, size=100_000)
    except CheckpointError as error:
        (folder.parent / "message").write_text(str(error))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_full_disk_loses_nothing(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, 1)
    process = multiprocessing.get_context("fork").Process(target=_save_on_a_full_disk, args=(folder,))
    process.start()
    process.join()
    assert "Earlier checkpoints are intact" in (tmp_path / "message").read_text()
    assert load_checkpoint(folder).state["seen"] == 1
    assert [path.name for path in folder.iterdir()] == ["000000000001"]


def test_no_code_is_stored(tmp_path):
    path = save(tmp_path, 1)
    assert sorted(item.name for item in path.iterdir()) == [
        "manifest.json",
        "state.json",
        "tensors.safetensors",
    ]
    json.loads((path / "manifest.json").read_bytes())
