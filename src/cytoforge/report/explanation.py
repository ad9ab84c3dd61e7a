"""The page that shows why a classifier says what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cytoforge.evaluation.gradcam import Likeness
from cytoforge.evaluation.trust import Calibration
from cytoforge.report.pages import render
from cytoforge.report.teaching import Meaning


@dataclass(frozen=True)
class Neighbour:
    """A training cell that resembles the explained one.

    Attributes:
        name: in the data set.
        label: its class.
        distance: in the classifier's features at unit length, 0 to 2.
        picture: address, or None where the data are not at hand.
    """

    name: str
    label: str
    distance: float
    picture: str | None


@dataclass(frozen=True)
class Explained:
    """One cell: facts as in explanation.json, addresses of its picture and heat map, neighbours, meaning."""

    facts: Mapping[str, Any]
    picture: str
    heat: str
    neighbours: Sequence[Neighbour]
    meaning: Meaning | None


def build_explanation(
    cells: Sequence[Explained],
    sanity: Mapping[int, Likeness],
    follows: bool | None,
    note: str,
    calibration: Calibration | None,
    coverage: float,
    faults: Mapping[str, str],
) -> str:
    """The page as self-contained HTML; every text of the user's comes out escaped.

    `follows` says whether the heat maps change with the weights, by `sanity`; None where that is not known.
    """
    return render(
        "explanation.html",
        cells=cells,
        sanity=sanity,
        follows=follows,
        note=note,
        calibration=calibration,
        coverage=coverage,
        faults=faults,
    )
