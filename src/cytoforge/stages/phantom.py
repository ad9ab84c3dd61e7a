"""A folder of simulated cells: the only data set that this package brings along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cytoforge.data.phantom import FAULTS, write_phantom


def phantom(
    out: Path, per_class: int = 200, size: int | None = 96, seed: int = 0, faults: Sequence[str] = ()
) -> dict[str, Any]:
    """Write a phantom and tell what was written.

    Args:
        out: folder to write; missing, empty or an older phantom.
        per_class: cells in each of the five classes.
        size: pixels along a side; None for native sizes, which differ by class.
        seed: the same seed gives the same folder.
        faults: faults to plant, keys of `cytoforge.data.phantom.FAULTS`, or "all".

    Returns:
        folder, number of images, classes, photos and of files with each planted fault.

    Raises:
        ConfigError: a setting cannot be had.
        DataError: `out` holds something else, or cannot be written.
    """
    wanted = tuple(FAULTS) if "all" in faults else faults
    truth = write_phantom(out, per_class, size, seed, wanted)
    return {
        "folder": str(out),
        "images": len(truth["cells"]),
        "classes": truth["classes"],
        "photos": len({cell["photo"] for cell in truth["cells"]}),
        "faults": {name: len(planted["found_in"]) for name, planted in truth["faults"].items()},
        "truth": str(out / "truth.json"),
    }
