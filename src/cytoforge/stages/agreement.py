"""Do the masks of a synthetic set show what is in its images? Synthetic set in, agreement.json out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.data.cache import CachedCells
from cytoforge.evaluation.triplets import PARTS, Segment, overlaps, present, summary, train_segmenter
from cytoforge.sampling.pictures import labelled_rows, painted_masks
from cytoforge.sampling.provenance import Manifest
from cytoforge.stages.compared import open_with_real, read_masks

IMAGES = 12_000
"""Real cells that the segmenter is shown; each counts every time."""

_SHOWN = 10


def agreement(
    synthetic: Path,
    real: Path,
    out: Path,
    *,
    split: Path | None = None,
    images: int = IMAGES,
    layout: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Dice between given masks and those that a segmenter finds, of synthetic and of unseen real pairs.

    The segmenter learns from the cells that the generator was trained on. Real pairs of the test part say
    how well it can do; synthetic pairs are compared with that, not with 1. Images in which neither mask has a
    part do not count for it; `present` is the share of given masks that have it, on both sides.

    Args:
        synthetic: set with masks.
        real: folder of the real cells, with masks.
        out: folder for agreement.json and agreement.png.
        split: split.json of the training; found by itself while the run folder is where it was.
        images: training images of the segmenter.
        layout: of the real folder; as in training where not given.
        seed: of the segmenter.

    Returns:
        The content of agreement.json.

    Raises:
        ConfigError: the set has no masks, or its split is unknown.
        DataError: the files are not as the manifest says, or real cells have no masks.
    """
    opened = open_with_real(synthetic, real, split, layout)
    manifest, parts, cells, pixels = opened.manifest, opened.split, opened.cells, opened.pixels
    masks = read_masks(synthetic, manifest, cells.shape.resolution)
    if masks is None:
        raise ConfigError(
            f"{synthetic} holds images without masks; only sets of methods that draw from masks (pix2pix, "
            "syncgan) are triplets."
        )
    segment = train_segmenter(cells.select(parts.names("train")).with_masks(), images, seed)
    held = cells.select(parts.names("test") or parts.names("val")).with_masks()
    found = _report(segment, pixels, masks, [entry.label for entry in manifest.images], None)
    names = [held.shape.classes[label] for label in held.labels]
    groups = [parts.groups[name] for name in held.names]
    content: dict[str, Any] = {
        "kind": "agreement",
        "segmenter_images": images,
        "seed": seed,
        "synthetic": found,
        "real": _report(segment, held.images, _held_masks(held), names, groups),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "agreement.json", content)
    picture = _gallery(segment, pixels, masks, manifest)
    write_atomic(out / "agreement.png", encode_png(picture, {"Synthetic": "true"}))
    return content


def _report(
    segment: Segment,
    images: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    labels: list[str],
    groups: list[str] | None,
) -> dict[str, Any]:
    """Part -> Dice, and the share of masks that have the part, over all images and by class."""
    values, there = overlaps(segment(np.asarray(images)), masks), present(masks)
    classes = sorted(set(labels))
    rows = {name: [row for row, label in enumerate(labels) if label == name] for name in classes}

    def numbers(part: str, chosen: Sequence[int]) -> dict[str, Any]:
        photos = None if groups is None else [groups[row] for row in chosen]
        share = float(there[part][chosen].mean())
        return {**asdict(summary(values[part][chosen], photos)), "present": share}

    return {
        part: {
            **numbers(part, range(len(labels))),
            "classes": {name: numbers(part, rows[name]) for name in classes},
        }
        for part in PARTS
    }


def _held_masks(cells: CachedCells) -> NDArray[np.uint8]:
    if cells.masks is None:
        raise DataError("the real cells have no masks; make some with: cytoforge mask DATA --out DIR")
    return cells.masks


def _gallery(
    segment: Segment, pixels: NDArray[np.uint8], masks: NDArray[np.uint8], manifest: Manifest
) -> NDArray[np.uint8]:
    """Some of each class: the mask that was given, the image, the mask that was found in it."""
    rows: dict[str, NDArray[np.uint8]] = {}
    for name in manifest.header.classes:
        own = [index for index, entry in enumerate(manifest.images) if entry.label == name][:_SHOWN]
        if own:
            rows[f"{name}: given"] = painted_masks(masks[own])
            rows[name] = pixels[own]
            rows[f"{name}: found"] = painted_masks(segment(pixels[own]))
    return labelled_rows(rows)
