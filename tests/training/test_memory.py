"""Must hold: ten times the images, at most 10 % more resident memory in training."""

import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import sys, numpy as np, torch
from pathlib import Path
from lightning_fabric import Fabric
from cytoforge.core.run import Run
from cytoforge.data.cache import open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.transform import Preparation
from cytoforge.methods.wgan_gp import WGANGP, WGANGPConfig
from cytoforge.training.loop import Loop, LoopConfig

torch.set_num_threads(1)
data, out = Path(sys.argv[1]), Path(sys.argv[2])
open_cache(open_cells(data), Preparation(resolution=64), out / "cache")
if sys.argv[3] == "train":
    cells = open_cache(open_cells(data), Preparation(resolution=64), out / "cache")
    config = WGANGPConfig(latent=8, generator_channels=4, critic_channels=4, most_channels=8)
    loop = Loop(WGANGP(config, cells.shape), cells, LoopConfig(batch=64, precision="32-true"),
                Run.create(out / "run", {}), 0, Fabric(accelerator="cpu", devices=1))
    for _ in range(3):
        loop.step()
    for start in range(0, len(cells), 64):
        rows = np.arange(start, min(start + 64, len(cells)))
        cells.batch(rows, rows)
    resident = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    print(resident.split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_does_not_grow_with_the_data(tmp_path):
    resident = {}
    for count in (2_000, 20_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        images = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
        labels = (np.arange(count) % 2)[:, None]
        np.savez(folder / "cells.npz", train_images=images, train_labels=labels)
        for what in ("build", "train"):
            command = [sys.executable, "-c", SCRIPT, str(folder / "cells.npz"), str(folder), what]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        resident[count] = int(done.stdout) / 1024
    assert resident[20_000] < 1.1 * resident[2_000], resident
