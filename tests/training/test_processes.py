"""Several processes: the real thing, started by torchrun through the command line."""

import subprocess
import sys

import pytest
import torch

from cytoforge.core.checkpoint import load_checkpoint

SMALL = [
    "latent=8",
    "generator_channels=4",
    "critic_channels=4",
    "most_channels=8",
    "batch=16",
    "measure_every=1000000",
]


def train(data, run, images, processes, *options):
    settings = [word for pair in (*SMALL, "precision=32-true") for word in ("--set", pair)]
    command = [sys.executable, "-m", "cytoforge", "train", "wgan-gp", str(data), "--run", str(run)]
    command += [
        "--resolution",
        "32",
        "--images",
        str(images),
        "--processes",
        str(processes),
        *settings,
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_checkpoint(run / "checkpoints").tensors


def test_two_gloo_processes_equal_one(tiny_cells, tmp_path):
    """R5: the same images, noise and penalty points, dealt out; weights differ by rounding only."""
    one, two = (train(tiny_cells, tmp_path / f"run{count}", 96, count) for count in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        if name.startswith("network/"):
            torch.testing.assert_close(tensor, two[name], atol=2e-5, rtol=0, msg=name)


@pytest.mark.slow
def test_two_processes_resume_bit_for_bit(tiny_cells, tmp_path):
    """R1 with two processes."""
    whole = train(tiny_cells, tmp_path / "whole", 96, 2)
    train(tiny_cells, tmp_path / "broken", 48, 2)
    broken = train(tiny_cells, tmp_path / "broken", 96, 2, "--resume")
    assert all(torch.equal(tensor, broken[name]) for name, tensor in whole.items())
