"""Several processes: the real thing, started by torchrun through the command line."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.run import Run

SMALL = [
    "latent=8",
    "generator_channels=4",
    "critic_channels=4",
    "most_channels=8",
    "batch=16",
    "measure_every=1000000",
]


def train(data, run, images, processes, *options):
    done = start(data, run, images, processes, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["seen"] == images, "one object, however many processes"
    return load_checkpoint(run / "checkpoints").tensors


def start(data, run, images, processes, *options):
    command = words(data, run, images, processes, *options)
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def words(data, run, images, processes, *options):
    settings = [word for pair in (*SMALL, "precision=32-true") for word in ("--set", pair)]
    command = [sys.executable, "-m", "cytoforge", "train", "wgan-gp", str(data), "--run", str(run)]
    command += [
        "--resolution",
        "32",
        "--images",
        str(images),
        "--processes",
        str(processes),
        "--json",
        *settings,
        *options,
    ]
    return command


def test_two_gloo_processes_equal_one(tiny_cells, tmp_path):
    """The same images, noise and penalty points, dealt out; weights differ by rounding only."""
    one, two = (train(tiny_cells, tmp_path / f"run{count}", 96, count) for count in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        if name.startswith("network/"):
            torch.testing.assert_close(tensor, two[name], atol=2e-5, rtol=0, msg=name)


def test_ctrl_c_in_a_terminal_saves_and_says_so(tiny_cells, tmp_path):
    """R3: the terminal signals the whole group, and a step takes longer than a launcher waits."""
    command = words(tiny_cells, tmp_path / "run", 10**6, 2, "--set", "log_every=16", "--set", "batch=512")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        log, deadline = tmp_path / "run" / "log.jsonl", time.monotonic() + 120
        while not (log.is_file() and '"losses"' in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told[-3000:]
    assert Run.open(tmp_path / "run").last_event() == "interrupted"
    assert load_checkpoint(tmp_path / "run" / "checkpoints").state["seen"] > 0


@pytest.mark.slow
def test_two_processes_resume_bit_for_bit(tiny_cells, tmp_path):
    """R1 with two processes."""
    whole = train(tiny_cells, tmp_path / "whole", 96, 2)
    train(tiny_cells, tmp_path / "broken", 48, 2)
    broken = train(tiny_cells, tmp_path / "broken", 96, 2, "--resume")
    assert all(torch.equal(tensor, broken[name]) for name, tensor in whole.items())


@pytest.mark.slow
def test_two_processes_that_stop_themselves_say_so(tiny_cells, tmp_path):
    done = start(tiny_cells, tmp_path / "run", 96, 2, "--set", "learning_rate=1e30", "--set", "log_every=16")
    assert done.returncode == 3
    assert "met NaN" in done.stderr or "diverged" in done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "TrainingError"
