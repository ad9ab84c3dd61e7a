"""How far simulated cells are from real ones: `python benchmarks/phantom.py [--per-class 150]`.

Needs the real cells (CYTOFORGE_DATA, or ../shared/data beside the checkout). Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cytoforge.data.phantom import CLASSES, simulate
from cytoforge.evaluation.features import extract, open_extractor
from cytoforge.evaluation.fidelity import kernel_distance

SIZE = 96

Table = dict[str, NDArray[np.float64]]


def real_cells(
    root: Path, label: str, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[str]]:
    """Square crops of one class, photo by photo until there are enough, and their photos."""
    photos: dict[str, list[Path]] = {}
    for path in sorted((root / "sipakmed" / f"im_{label}" / f"im_{label}" / "CROPPED").glob("*.png")):
        photos.setdefault(path.stem.partition("_")[0], []).append(path)
    names = [sorted(photos)[index] for index in rng.permutation(len(photos))]
    paths = [path for name in names for path in photos[name]][:count]
    return np.stack([square(path) for path in paths]), [
        f"{label}/{path.stem.partition('_')[0]}" for path in paths
    ]


def square(path: Path) -> NDArray[np.uint8]:
    """The middle square of a crop at `SIZE` pixels."""
    with Image.open(path) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC, box))


def probe(features: NDArray[np.float64], labels: list[str], groups: list[str] | None = None) -> float:
    """Accuracy of a linear classifier, five-fold over groups."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    folds = GroupKFold(5).split(features, labels, groups or [str(index) for index in range(len(labels))])
    return float(cross_val_score(model, features, labels, cv=list(folds)).mean())


def without_colour(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same images in grey."""
    return np.repeat(images.mean(3, keepdims=True).astype(np.uint8), 3, 3)


def shapes_only(masks: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Nuclear share, nuclear and cell extent of masks: nothing of colour or texture."""
    rows = []
    for mask in masks:
        cell, nucleus = (mask > 0).sum(), (mask == 2).sum()
        rows.append((nucleus / cell, nucleus / mask.size, cell / mask.size))
    return np.array(rows, np.float64)


def distances(fake: Table, real: Table) -> dict[str, dict[str, float]]:
    """Kernel distance of each simulated class to each real one."""
    return {
        label: {other: round(kernel_distance(fake[label], real[other]), 4) for other in CLASSES}
        for label in CLASSES
    }


def classifiers(fake: Table, real: Table, grey: Table, shapes: Table, photos: list[str]) -> dict[str, float]:
    """Accuracy of linear classifiers on simulated and real cells, and from one to the other."""
    labels = [label for label in CLASSES for _ in fake[label]]
    real_labels = [label for label in CLASSES for _ in real[label]]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(
        joined(fake), labels
    )
    scores = {
        "phantom": probe(joined(fake), labels),
        "phantom_grey": probe(joined(grey), labels),
        "phantom_masks_only": probe(joined(shapes), labels),
        "real_by_photo": probe(joined(real), real_labels, photos),
        "phantom_to_real": float(model.score(joined(real), real_labels)),
    }
    return {name: round(score, 3) for name, score in scores.items()}


def joined(table: Table) -> NDArray[np.float64]:
    """All classes below each other."""
    return np.concatenate([table[label] for label in CLASSES])


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-class", type=int, default=150)
    count = parser.parse_args().per_class
    root = Path(os.environ.get("CYTOFORGE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    extractor = open_extractor()
    began = time.process_time()
    cells = {label: [simulate(label, seed, SIZE) for seed in range(count)] for label in CLASSES}
    speed = 5 * count / (time.process_time() - began)
    images = {label: np.stack([cell.image for cell in cells[label]]) for label in CLASSES}
    rng = np.random.default_rng(0)
    drawn = {label: real_cells(root, label, 2 * count, rng) for label in CLASSES}
    fake = {label: extract(images[label], extractor) for label in CLASSES}
    grey = {label: extract(without_colour(images[label]), extractor) for label in CLASSES}
    real = {label: extract(drawn[label][0], extractor) for label in CLASSES}
    shapes = {label: shapes_only([cell.mask for cell in cells[label]]) for label in CLASSES}
    photos = [photo for label in CLASSES for photo in drawn[label][1]]
    halves = {label: round(kernel_distance(real[label][:count], real[label][count:]), 4) for label in CLASSES}
    found = {
        "extractor": extractor.name,
        "per_class": count,
        "size": SIZE,
        "cells_per_cpu_second": round(speed, 1),
        "kernel_distance": distances(fake, real),
        "kernel_distance_real_halves": halves,
        "kernel_distance_all": round(kernel_distance(joined(fake), joined(real)), 4),
        "accuracy": classifiers(fake, real, grey, shapes, photos),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
