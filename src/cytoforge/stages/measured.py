"""Measurements of the cells of a synthetic set and of real ones, by the masks of both."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import DataError
from cytoforge.core.files import sha256_bytes
from cytoforge.core.png import decode_png
from cytoforge.data.cache import CachedCells
from cytoforge.data.split import Split
from cytoforge.evaluation.metrics import Morphometry
from cytoforge.evaluation.morphometry import compare_measurements, measure_cells
from cytoforge.masks.unsupervised import unsupervised_masks
from cytoforge.sampling.provenance import Manifest

Masks = Literal["given", "unsupervised", "none"]
"""By whose masks cells are measured."""


def morphometry(
    synthetic: Path,
    manifest: Manifest,
    pixels: NDArray[np.uint8],
    cached: CachedCells,
    split: Split,
    masks: Masks,
    seed: int,
) -> Morphometry | None:
    """Synthetic cells against unseen real ones; None where there are no masks to measure by.

    Args:
        synthetic: folder of the set.
        manifest: of the set.
        pixels: (N, R, R, 3) its images.
        cached: all real cells.
        split: of the training.
        masks: "given" where both sides have them, "unsupervised" made from the pictures of both, or "none".
        seed: of the floors' divisions.

    Raises:
        DataError: a mask of the set is not as its manifest says.
    """
    if masks == "none":
        return None
    if masks == "unsupervised":
        ours: NDArray[np.uint8] | None = np.stack(unsupervised_masks(list(pixels)))
        theirs: NDArray[np.uint8] | None = np.stack(unsupervised_masks(list(cached.images)))
    else:
        ours = _read_masks(synthetic, manifest, cached.shape.resolution)
        theirs = None if ours is None else cached.masks
    if ours is None or theirs is None:
        return None
    groups = np.array([split.groups.get(name, name) for name in cached.names])
    held = np.isin(cached.names, split.names("test"))
    images, classes = cached.images, cached.shape.classes
    labels = np.array([classes.index(entry.label) for entry in manifest.images], np.int64)
    return compare_measurements(
        measure_cells(images[held], theirs[held], cached.labels[held], list(groups[held])),
        measure_cells(pixels, ours, labels, [entry.file for entry in manifest.images]),
        measure_cells(images, theirs, cached.labels, list(groups)),
        classes,
        masks,
        seed,
    )


def _read_masks(synthetic: Path, manifest: Manifest, side: int) -> NDArray[np.uint8] | None:
    """The masks (N, R, R) that the images were drawn from, each checked; None where an image has none."""
    masks = []
    for entry in manifest.images:
        if entry.mask is None:
            return None
        path = synthetic / entry.mask
        content = path.read_bytes() if path.is_file() else b""
        if sha256_bytes(content) != entry.mask_sha256:
            raise DataError(
                f"{path} is missing or not as its manifest says; run `cytoforge verify {synthetic}`, "
                "then generate the set again."
            )
        mask, _ = decode_png(content, "L")
        if mask.shape != (side, side):
            raise DataError(f"{path} is not of the size of its image, {side} px; generate the set again.")
        masks.append(mask)
    return np.stack(masks)
