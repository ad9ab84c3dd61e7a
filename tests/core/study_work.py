"""A small study for a cluster; in a file of its own so that workers can import it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytoforge.stages.study_jobs import Place, train_generator
from cytoforge.stages.study_plan import Plan

PHOTO = r"(\w+/\d+)_"
PLAN = Plan(
    generators=("cvae",),
    classifiers=("basic-cnn",),
    real=(6,),
    ratios=(1.0,),
    regimes=("orig", "+prop"),
    repeats=2,
    folds=2,
    resolution=32,
    images=16,
    settings={
        "cvae": {"channels": 4, "most_channels": 8, "perceptual": 0.0, "batch": 8},
        "basic-cnn": {"steps": 6, "batch": 8, "resolution": 16},
    },
)


def held(out: Path) -> Path:
    """Where the worker that waits to be killed says which process and which job it is."""
    return out / "held.txt"


def train_and_wait(parameters: Mapping[str, Any], folder: Path, place: Place) -> dict[str, Any]:
    """`train_generator`; the first one that is through waits to be killed before it can say so."""
    result = train_generator(parameters, folder, place)
    try:
        with held(Path(place.out)).open("x") as file:
            file.write(f"{os.getpid()} {folder.name}\n")
    except FileExistsError:
        return result
    time.sleep(500)
    raise AssertionError("nobody killed this worker")
