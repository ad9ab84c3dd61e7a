"""What the jobs of the tests do; in a file of its own so that workers can import it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cytoforge.core.errors import DataError


def done(folder: Path) -> list[str]:
    """Keys of the jobs that are finished."""
    return sorted(path.parent.name for path in folder.glob("*/DONE"))


def square(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """n squared; a line in begun.txt and in finished.txt for each time it is worked out."""
    number = int(parameters["n"])
    with (folder / "begun.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    (folder / "parent.txt").write_text(f"{os.getppid()}\n")
    time.sleep(float(parameters.get("seconds", 0)))
    if parameters.get("fails") == "data":
        raise DataError(f"{number} is no cell")
    if parameters.get("fails") == "bug":
        raise ZeroDivisionError("nobody foresaw this")
    if parameters.get("fails") == "once" and len((folder / "begun.txt").read_text().splitlines()) == 1:
        (folder / "done.txt").write_text("\n".join(done(folder.parent)))
        os._exit(9)
    if parameters.get("fails") == "stopped" and len((folder / "begun.txt").read_text().splitlines()) == 1:
        raise KeyboardInterrupt  # as the training loop does where its process gets SIGTERM
    with (folder / "finished.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    noise = torch.randn(8, generator=torch.Generator().manual_seed(number))
    return {"square": number**2, "sum": float(noise.sum()), "threads": torch.get_num_threads()}
