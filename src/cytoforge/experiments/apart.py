"""A training in a process of its own, so that its peak of memory is its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code, negative for a signal.
        gib: the most main memory that it held, in GiB.
    """

    code: int
    gib: float


def train_apart(words: Sequence[str], log: Path) -> Ended:
    """Run `cytoforge train` with these words; an interruption ends it too.

    Args:
        words: after `cytoforge train`.
        log: what it prints is added to this file; its folder is made.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as printed:
        command = [sys.executable, "-m", "cytoforge", "train", *words]
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            _, status, usage = os.wait4(process.pid, 0)  # the only call that tells one child's memory
            process.returncode = os.waitstatus_to_exitcode(status)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    return Ended(process.returncode, usage.ru_maxrss / 2**20)
