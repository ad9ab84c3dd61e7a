"""Folds of a classifier on measurements: the folder is measured once, every fold learns from that table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.cells import CellSet
from cytoforge.data.folds import Fold
from cytoforge.evaluation.classifier_report import Measuring
from cytoforge.evaluation.measurement_classifiers import MeasurementRecipe, fit_measurements, used_columns
from cytoforge.evaluation.measurements import Masks, Measured, measure_folder


def measurements_beside(cells: CellSet, out: Path, masks: Masks) -> Measured:
    """The measurements of a folder, kept in `out`/measurements-<masks>.csv.

    Whoever calls this makes sure that `out` belongs to these very files, as its split.json does.

    Args:
        cells: of the folder.
        out: folder of results.
        masks: by whose masks; see `evaluation.measurements`.

    Raises:
        DataError: nothing can be measured.
    """
    path = out / f"measurements-{masks}.csv"
    if path.is_file():
        return Measured.load(path)
    found = measure_folder(cells, masks)
    found.save(path)
    return found


def measured_fold(
    recipe: MeasurementRecipe,
    measured: Measured,
    names: Sequence[str],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    classes: Sequence[str],
    fold: Fold,
    seed: int,
) -> dict[str, Any]:
    """Search and train on a fold's training cells, judge its test cells.

    Args:
        recipe: how.
        measured: of the whole folder.
        names: (N) the cells that the fold's rows count.
        labels: (N,).
        groups: (N).
        classes: names.
        fold: rows.
        seed: of inner folds and initial weights.

    Returns:
        "rows" of the tested cells, their "logits", "seconds", "parameters", what was "chosen" and with which
        "inner_accuracy".
    """
    values = measured.rows(names)
    own = [groups[row] for row in fold.train]
    start = time.monotonic()
    fitted = fit_measurements(recipe, values[fold.train], labels[fold.train], own, classes, seed)
    seconds = time.monotonic() - start
    return {
        "rows": fold.test.tolist(),
        "logits": [[round(float(value), 5) for value in row] for row in fitted.logits(values[fold.test])],
        "seconds": round(seconds, 1),
        "parameters": fitted.parameters,
        "chosen": fitted.chosen,
        "inner_accuracy": fitted.inner_accuracy,
    }


def measuring(recipe: MeasurementRecipe, measured: Measured, names: Sequence[str]) -> Measuring:
    """How many of the cells `names` lack measurements that the recipe uses."""
    missing = np.isnan(used_columns(recipe, measured.rows(names)))
    unmeasured = missing.all(1)
    return Measuring(
        from_given_masks=measured.from_given_masks,
        unmeasured=int(unmeasured.sum()),
        incomplete=int((missing.any(1) & ~unmeasured).sum()),
    )
