"""Measurements of the cells of a synthetic set and of real ones, by the masks of both."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.cells import Part
from cytoforge.evaluation.metrics import Morphometry
from cytoforge.evaluation.morphometry import compare_measurements, measure_cells
from cytoforge.masks.unsupervised import unsupervised_masks
from cytoforge.stages.compared import OpenedSet, read_masks

MaskSource = Literal["given", "unsupervised", "none"]
"""By whose masks cells are measured."""


def morphometry(
    synthetic: Path,
    opened: OpenedSet,
    masks: MaskSource,
    seed: int,
    unseen: tuple[Part, ...] = ("test",),
) -> Morphometry | None:
    """Synthetic cells against unseen real ones; None where there are no masks to measure by.

    Args:
        synthetic: folder of the set.
        opened: the set with the real cells.
        masks: "given" where both sides have them, "unsupervised" made from the pictures of both, or "none".
        seed: of the floors' divisions.
        unseen: parts of the split whose cells count as unseen.

    Raises:
        DataError: a mask of the set is not as its manifest says.
    """
    if masks == "none":
        return None
    manifest, pixels, cached, split = opened.manifest, opened.pixels, opened.cells, opened.split
    if masks == "unsupervised":
        ours: NDArray[np.uint8] | None = np.stack(unsupervised_masks(list(pixels)))
        theirs: NDArray[np.uint8] | None = np.stack(unsupervised_masks(list(cached.images)))
    else:
        ours = read_masks(synthetic, manifest, cached.shape.resolution)
        theirs = None if ours is None else cached.masks
    if ours is None or theirs is None:
        return None
    groups = np.array([split.groups.get(name, name) for name in cached.names])
    held = np.isin(cached.names, [name for part in unseen for name in split.names(part)])
    images, classes = cached.images, cached.shape.classes
    return compare_measurements(
        measure_cells(images[held], theirs[held], cached.labels[held], list(groups[held])),
        measure_cells(pixels, ours, manifest.labels, [entry.file for entry in manifest.images]),
        measure_cells(images, theirs, cached.labels, list(groups)),
        classes,
        masks,
        seed,
    )
