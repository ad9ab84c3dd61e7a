"""A run folder with a small untrained generator: what it draws is noise, and that is enough here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytoforge.core.checkpoint import save_checkpoint
from cytoforge.core.files import write_json
from cytoforge.core.randomness import derive
from cytoforge.core.run import Run
from cytoforge.methods.catalogue import rebuild

CLASSES = ("Dyskeratotic", "Koilocytotic", "<script>alert(1)</script>")

MakeRun = Callable[..., Run]


@pytest.fixture
def damages() -> Callable[[Path], Iterator[str]]:
    """A function that changes one bit of a folder after another, says which, and puts all back."""

    def changed(folder: Path) -> Iterator[str]:
        rng = np.random.default_rng(0)
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            original = path.read_bytes()
            for position in rng.integers(0, len(original), 12):
                content = bytearray(original)
                content[position] ^= 1 << int(rng.integers(8))
                path.write_bytes(content)
                yield f"{path}, byte {position}"
            path.write_bytes(original)

    return changed


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes a run of a tiny wgan-gp."""

    def make(name: str = "run", classes: tuple[str, ...] = CLASSES, weights: int = 0) -> Run:
        config: dict[str, Any] = {
            "method": "wgan-gp",
            "preset": "default",
            "settings": {"latent": 16, "generator_channels": 8, "critic_channels": 4, "most_channels": 16},
            "loop": {},
            "preparation": {"resolution": 32, "fit": "crop", "denoise": 0.0},
            "classes": list(classes),
            "mask_channels": 0,
            "data": {"root": "/home/somebody/secret-clinic", "layout": "folders"},
            "split_sha256": "5" * 64,
        }
        run = Run.create(tmp_path / name, config)
        parts = {f"{label}/secret-{n}.png": "train" for n, label in enumerate(classes)}
        write_json(run.split_path, {"parts": parts, "groups": {cell: cell for cell in parts}})
        torch.manual_seed(derive(weights, "weights"))
        method = rebuild(run.config)
        tensors = {
            f"{kind}/{network}/{key}": tensor * (0.5 if kind == "network" else 1.0)
            for network, module in method.networks.items()
            for key, tensor in module.state_dict().items()
            for kind in ("network", "average")
        }
        save_checkpoint(run.checkpoints, tensors, {"seen": 6400, "score": 0.5})
        return run

    return make


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    """One such run."""
    return make_run()
