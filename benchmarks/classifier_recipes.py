"""One fold of a data set under several settings of a recipe, before the full report is paid for.

    python benchmarks/classifier_recipes.py DATA --out DIR --recipe lite0 --fold 0 \
        --try "" --try "frozen_norm=true" --try "learning_rate=5e-4 steps=1200"

Each line of settings is one training; `DIR/recipes.jsonl` gets accuracy with one view and with eight, seconds
of training and the settings; lines that are there are not computed again. A fold that was used to choose a
recipe flatters it in the report: name it beside the result.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytoforge.data.cache import open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.folds import grouped_folds, random_folds
from cytoforge.data.split import Split
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.classifiers import Fitted, fit
from cytoforge.evaluation.recipes import recipe_of
from cytoforge.stages.split import split


def main() -> None:
    """Read the arguments and work through the settings."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    known = arguments.out / "split.json"
    if not known.is_file():
        split(arguments.data, known)
    table = arguments.out / "recipes.jsonl"
    lines = table.read_text().splitlines() if table.is_file() else []
    done = [json.loads(line)["asked"] for line in lines]
    for settings in arguments.tries or [""]:
        asked = f"{arguments.recipe} {arguments.protocol} {arguments.fold} {settings}".strip()
        if asked in done:
            continue
        found = {"asked": asked, **measure(arguments, Split.load(known).groups, settings)}
        with table.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps(found), flush=True)


def measure(arguments: argparse.Namespace, groups: dict[str, str], settings: str) -> dict[str, Any]:
    """Train on all folds but one and test on that one."""
    recipe = recipe_of(arguments.recipe, dict(pair.split("=", 1) for pair in settings.split()))
    cells = open_cache(open_cells(arguments.data), Preparation(resolution=recipe.resolution, fit=recipe.fit))
    labels, images = cells.labels, np.asarray(cells.images)
    folds = (
        random_folds(labels, 5, 0)
        if arguments.protocol == "random"
        else grouped_folds(labels, [groups[name] for name in cells.names], 5, 0)
    )
    fold = folds[arguments.fold]
    start = time.monotonic()
    fitted = fit(recipe, images[fold.train], labels[fold.train], cells.shape.classes, arguments.seed)
    seconds = round(time.monotonic() - start, 1)
    accuracy = {}
    for views in (1, 8):
        seen = Fitted(recipe.model_copy(update={"views": views}), fitted.classes, fitted.network)
        right = seen.logits(images[fold.test]).argmax(1) == labels[fold.test]
        accuracy[f"views_{views}"] = round(float(right.mean()), 4)
    return {"accuracy": accuracy, "tested": len(fold.test), "seconds": seconds, "steps": recipe.steps}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="lite0")
    parser.add_argument("--protocol", choices=["grouped", "random"], default="grouped")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--try", dest="tries", action="append", help="settings as key=value, by spaces")
    return parser.parse_args()


if __name__ == "__main__":
    main()
