"""Measurements of the cells of a folder: 26 of the nucleus, 26 of the cytoplasm, and their ratio of areas."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import write_atomic
from cytoforge.core.progress import progress
from cytoforge.core.table import csv_text, harmless
from cytoforge.data.cells import Cell, CellSet
from cytoforge.data.folder import read_image, read_known_mask
from cytoforge.data.images import quiet_decoders
from cytoforge.masks.unsupervised import unsupervised_masks
from cytoforge.morphology.features import FEATURES, REGIONS, measure_cell

MEASUREMENTS = (*(f"{region}_{name}" for region in REGIONS for name in FEATURES), "nc_ratio")
"""Names of the 53 columns of a table of measurements."""

Source = Literal["given", "unsupervised"]
Masks = Literal["auto", "given", "unsupervised"]
"""By whose masks cells are measured: "auto" takes those of the data set and finds the others."""

_CHUNK = 300
_FAULT = "fault: "


@dataclass(frozen=True)
class Measured:
    """Cells with their measurements.

    Attributes:
        names: (N) as in the data set.
        values: (N, 53) float64, columns as in `MEASUREMENTS`; NaN where a cell lacks the region.
        sources: (N) where each cell's mask is from.
        faults: name of a cell that could not be measured, or whose mask could not be used -> why.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    sources: tuple[Source, ...]
    faults: dict[str, str]

    @property
    def from_given_masks(self) -> float:
        """Share of the measured cells whose masks the data set itself gives."""
        return self.sources.count("given") / len(self.sources)

    def save(self, path: Path) -> None:
        """Write a table for spreadsheets: name, source of the mask, 53 numbers in full precision."""
        rows: list[list[Any]] = []
        for name, source, row in zip(self.names, self.sources, self.values.tolist(), strict=True):
            rows.append([name, source, *("" if np.isnan(value) else value for value in row)])
        for name, reason in self.faults.items():
            rows.append([name, f"{_FAULT}{reason}", *[""] * len(MEASUREMENTS)])
        write_atomic(path, csv_text(["cell", "mask", *MEASUREMENTS], rows))

    def rows(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Measurements (M, 53) of these cells; NaN throughout for one that could not be measured."""
        place = {name: index for index, name in enumerate(self.names)}
        nothing = np.full(len(MEASUREMENTS), np.nan)
        found = [self.values[place[name]] if name in place else nothing for name in names]
        return np.array(found, np.float64).reshape(len(names), len(MEASUREMENTS))

    @staticmethod
    def load(path: Path) -> Measured:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, or is not such a table.
        """
        try:
            with path.open(encoding="utf-8", newline="") as file:
                head, *rows = csv.reader(file)
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"{path} is not a table of measurements ({error}).") from error
        if head != ["cell", "mask", *MEASUREMENTS] or any(len(row) != len(head) for row in rows):
            raise DataError(f"{path} is not a table of the {len(MEASUREMENTS)} measurements of cytoforge.")
        names, sources, faults = list[str](), list[Source](), dict[str, str]()
        values = []
        for name, source, *numbers in rows:
            if source.startswith(_FAULT):
                faults[_plain(name)] = source.removeprefix(_FAULT)
                continue
            names.append(_plain(name))
            sources.append("given" if source == "given" else "unsupervised")
            values.append([float(number) if number else np.nan for number in numbers])
        table = np.array(values, np.float64).reshape(len(values), len(MEASUREMENTS))
        return Measured(tuple(names), table, tuple(sources), faults)


def measure_folder(cells: CellSet, masks: Masks = "auto") -> Measured:
    """Measure every cell in its own pixels, before any scaling of ours.

    Args:
        cells: of a data folder.
        masks: see `Masks`. With "given", cells without a mask are left out, as a fault.

    Returns:
        Measurements in the order of the cells; cells that cannot be decoded are among the faults.

    Raises:
        DataError: not one cell could be measured.
    """
    if masks not in ("auto", "given", "unsupervised"):
        raise ConfigError(f'masks="{masks}": choose auto, given or unsupervised.')
    names, sources, rows, faults = list[str](), list[Source](), list[NDArray[np.float64]](), dict[str, str]()
    with quiet_decoders(), progress("measuring cells", len(cells)) as advance:
        for start in range(0, len(cells), _CHUNK):
            part = cells.cells[start : start + _CHUNK]
            for name, source, row in _measured(part, masks, faults):
                names.append(name)
                sources.append(source)
                rows.append(row)
            advance(len(part))
    if not rows:
        first = next(iter(faults.values()), "it is empty")
        raise DataError(f"{cells.root}: none of the {len(cells)} cells can be measured ({first}).")
    return Measured(tuple(names), np.stack(rows), tuple(sources), faults)


def measure_row(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The measurements (53,) of one cell; arguments as for `measure_cell`."""
    found = measure_cell(image, mask)
    return np.array([found.get(name, np.nan) for name in MEASUREMENTS], np.float64)


def _measured(
    cells: Sequence[Cell], masks: Masks, faults: dict[str, str]
) -> Iterator[tuple[str, Source, NDArray[np.float64]]]:
    """Name, source of the mask and measurements of each cell that can be measured."""
    images, given = dict[str, NDArray[np.uint8]](), dict[str, NDArray[np.uint8]]()
    for cell in cells:
        try:
            images[cell.name] = read_image(cell)
        except DataError as error:
            faults[cell.name] = str(error)
            continue
        mask = None if masks == "unsupervised" else _given(cell, faults)
        if mask is not None:
            given[cell.name] = mask
        elif masks == "given":
            faults.setdefault(cell.name, "it has no mask")
    missing = [] if masks == "given" else [name for name in images if name not in given]
    found = dict(zip(missing, unsupervised_masks([images[name] for name in missing]), strict=True))
    for name, image in images.items():
        if name in given:
            yield name, "given", measure_row(image, given[name])
        elif name in found:
            yield name, "unsupervised", measure_row(image, found[name])


def _given(cell: Cell, faults: dict[str, str]) -> NDArray[np.uint8] | None:
    """The data set's own mask, or None where it has none, or none that is known anywhere."""
    try:
        return read_known_mask(cell)
    except DataError as error:
        faults[cell.name] = f"its own mask cannot be used: {error}"
        return None


def _plain(word: str) -> str:
    """What `harmless` made a word of the table of."""
    return word[1:] if word.startswith("'") and harmless(word[1:]) == word else word
