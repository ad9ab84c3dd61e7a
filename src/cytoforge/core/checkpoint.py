"""Checkpoints that survive a crash at any instant.

```
checkpoints/000000128000/        named after the images seen
    tensors.safetensors          flat: network/<name>/<parameter>, average/..., optimizer/<name>/<index>/<key>
    state.json                   everything that is not a tensor
    manifest.json                sha256 of both; written last
```

A checkpoint is written under a temporary name, synced and renamed: a folder under its final name is whole.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from cytoforge.core.errors import CheckpointError
from cytoforge.core.files import sha256_bytes, sha256_file

_TENSORS = "tensors.safetensors"
KEPT = 2
"""How many of the newest checkpoints stay, besides the best."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read back.

    Attributes:
        path: its folder.
        tensors: flat name -> tensor.
        state: what is not a tensor; `state["seen"]` images, `state["score"]` (lower is better) or None.
        skipped: damaged newer checkpoints that were passed over, with the reason.
    """

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    skipped: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """SHA-256 of the file with its tensors."""
        return sha256_file(self.path / _TENSORS)


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write one checkpoint and drop those that are neither among the newest two nor the best.

    Args:
        folder: the run's `checkpoints` folder.
        tensors: flat name -> tensor, any device and layout.
        state: JSON values; needs "seen" (images) and "score" (lower is better, None where not measured).

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: the disk is full or not writable; earlier checkpoints are intact.
    """
    final = folder / f"{state['seen']:012d}"
    partial = folder / f".partial-{final.name}-{os.getpid()}"
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files = {
        _TENSORS: safetensors.torch.save(packed),
        "state.json": json.dumps(state, indent=1, allow_nan=False).encode(),
    }
    digests = {name: sha256_bytes(content) for name, content in files.items()}
    files["manifest.json"] = json.dumps({"format": 1, "sha256": digests}, indent=1).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
        for name, content in files.items():
            _write_synced(partial / name, content)
        _sync_folder(partial)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"cannot save a checkpoint in {folder}: {error.strerror}. Earlier checkpoints are intact; free "
            "some space or make the folder writable, then run the same command with --resume."
        ) from error
    _drop_old(folder)
    return final


def load_checkpoint(folder: Path, which: str = "newest") -> Checkpoint:
    """The newest (or best) intact checkpoint of a run.

    Args:
        folder: the run's `checkpoints` folder.
        which: "newest", or "best" for the lowest score (the newest where none that was measured is intact).

    Raises:
        CheckpointError: there is none, or none is intact.
    """
    paths = _finished(folder)
    if which == "best":
        scores = {path: _score(path) for path in paths}
        scored = [(score, path) for path, score in scores.items() if score is not None]
        paths = [path for path in paths if scores[path] is None]
        paths += [path for _, path in sorted(scored, reverse=True)]
    elif which != "newest":
        raise CheckpointError(f'checkpoint "{which}" is unknown; choose "newest" or "best".')
    skipped: list[str] = []
    for path in reversed(paths):
        try:
            tensors, state = _read(path)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            skipped.append(f"{path.name}: {error}")
            continue
        return Checkpoint(path, tensors, state, tuple(skipped))
    reasons = "".join(f"\n  {reason}" for reason in skipped) or " there is none yet"
    raise CheckpointError(
        f"no intact checkpoint in {folder}:{reasons}\nTrain first: cytoforge train ... --run RUN"
    )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    digests = json.loads((path / "manifest.json").read_bytes())["sha256"]
    contents = {}
    for name in (_TENSORS, "state.json"):
        contents[name] = (path / name).read_bytes()
        if sha256_bytes(contents[name]) != digests[name]:
            raise ValueError(f"{name} is damaged (its sha256 differs from the manifest's)")
    return safetensors.torch.load(contents[_TENSORS]), json.loads(contents["state.json"])


def _finished(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())


def _score(path: Path) -> float | None:
    try:
        score = json.loads((path / "state.json").read_bytes())["score"]
    except (OSError, ValueError, KeyError):
        return None
    return float(score) if score is not None and math.isfinite(score) else None


def _drop_old(folder: Path) -> None:
    paths = _finished(folder)
    scored = [(score, path) for path in paths if (score := _score(path)) is not None]
    best = min(scored)[1] if scored else None
    for path in paths[:-KEPT]:
        if path != best:
            shutil.rmtree(path, ignore_errors=True)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make renames and new names inside `path` durable; a no-op where folders cannot be opened (Windows)."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
