"""The finished report of another classifier on the same cells and folds."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json
from cytoforge.evaluation.classification import accuracy_gain
from cytoforge.evaluation.classifier_report import Against, ClassifierReport

_CELL = ("image", "group", "class")


@dataclass(frozen=True)
class OtherReport:
    """Another classifier's answers.

    Attributes:
        judged: its report.
        groups: (N,) of each cell.
        right: (N,) whether it named each cell rightly where photos were kept together.
    """

    judged: ClassifierReport
    groups: tuple[str, ...]
    right: NDArray[np.bool_]

    def against(self, right: NDArray[np.bool_], seed: int) -> Against:
        """What answers that are `right` (N,) gain over it."""
        return Against(
            recipe=self.judged.recipe,
            settings=self.judged.settings,
            accuracy=self.judged.grouped.scores.accuracy,
            gain=accuracy_gain(right, self.right, self.groups, seed),
        )


def read_other(folder: Path, cells: str, folds: int, seed: int) -> OtherReport:
    """The report in a folder of `classify report`.

    Args:
        folder: of classify.json and predictions.csv.
        cells: image, group and class of each cell that it must hold, as CSV.
        folds: that it must have.
        seed: likewise.

    Raises:
        DataError: it is not finished, or of other cells, groups or folds.
    """
    try:
        judged = ClassifierReport.model_validate(read_json(folder / "classify.json"))
        rows = _rows((folder / "predictions.csv").read_text(encoding="utf-8"))
        right = np.array([row["grouped found"] == row["class"] for row in rows])
        theirs = [[row[name] for name in _CELL] for row in rows]
    except (OSError, KeyError, ValueError, DataError) as error:
        raise DataError(
            f"--against {folder} is no finished classify report of this version: {error}"
        ) from error
    ours = [[row[name] for name in _CELL] for row in _rows(cells)]
    if theirs != ours or (judged.folds, judged.seed) != (folds, seed):
        raise DataError(
            f"--against {folder}: {len(theirs)} cells in {judged.folds} folds, seed {judged.seed}; expected "
            f"these {len(ours)} cells with their groups and classes in {folds} folds, seed {seed}. Make it "
            "with the same folder, --folds, --seed and --group."
        )
    return OtherReport(judged, tuple(group for _, group, _ in theirs), right)


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))
