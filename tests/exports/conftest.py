"""A run of a small untrained generator, and synthetic sets with and without masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cytoforge.core.checkpoint import save_checkpoint
from cytoforge.core.files import write_json
from cytoforge.core.randomness import derive
from cytoforge.core.run import Run
from cytoforge.exports.synthetic_set import SyntheticSet, open_set
from cytoforge.methods.catalogue import rebuild
from cytoforge.stages.generate import generate

CLASSES = ("Dyskeratotic", "=SUM(1,2)", "<script>alert('x')</script> \\ über")
SECRET = "secret-clinic"


def make_run(path: Path, method: str, settings: dict[str, Any], mask_channels: int = 0) -> Run:
    """A run with random weights, whose config and split name a place that must not get out."""
    config: dict[str, Any] = {
        "method": method,
        "preset": "default",
        "seed": 3,
        "settings": settings,
        "loop": {"batch": 32},
        "preparation": {"resolution": 32, "fit": "crop", "denoise": 0.0},
        "classes": list(CLASSES),
        "mask_channels": mask_channels,
        "data": {"root": f"/home/somebody/{SECRET}", "layout": "folders"},
        "split_sha256": "5" * 64,
        "threads": 1,
        "versions": {"torch": torch.__version__},
    }
    run = Run.create(path, config)
    parts = {
        f"{label}/{SECRET}-{n}.png": part for n, (label, part) in enumerate(zip(CLASSES, _PARTS, strict=True))
    }
    write_json(
        run.split_path, {"seed": 3, "parts": parts, "groups": {cell: cell for cell in parts}, "merged": []}
    )
    torch.manual_seed(derive(0, "weights"))
    tensors = {
        f"{kind}/{network}/{key}": tensor.clone()
        for network, module in rebuild(run.config).networks.items()
        for key, tensor in module.state_dict().items()
        for kind in ("network", "average")
    }
    save_checkpoint(run.checkpoints, tensors, {"seen": 6400, "score": 0.5})
    run.log({"kind": "losses", "seen": 6400})
    return run


_PARTS = ("train", "val", "test")
WGAN = {"latent": 16, "generator_channels": 8, "critic_channels": 4, "most_channels": 16}
SYNCGAN = {
    "width": 4, "most_width": 8, "mask_gan": "conditional", "mask_network": "convolutional", "latent": 8,
    "mask_width": 4, "mask_most_width": 8, "mask_discriminator_width": 4,
}  # fmt: skip


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of a tiny wgan-gp."""
    return make_run(tmp_path_factory.mktemp("exports") / "a run", "wgan-gp", WGAN)


@pytest.fixture(scope="session")
def opened(run: Run) -> SyntheticSet:
    """Four cells of each class."""
    generate(run.path, run.path.parent / "a set", per_class=4)
    return open_set(run.path.parent / "a set")


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> SyntheticSet:
    """Two cells of each class with the masks that they were drawn from."""
    folder = tmp_path_factory.mktemp("masked")
    run = make_run(folder / "run", "syncgan", SYNCGAN, mask_channels=2)
    generate(run.path, folder / "set", per_class=2)
    return open_set(folder / "set")
