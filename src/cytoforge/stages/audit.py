"""A data folder becomes audit.json and audit.html."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.files import write_json
from cytoforge.data.audit import audit_cells
from cytoforge.data.cache import cache_directory, open_cache
from cytoforge.data.findings import Audit
from cytoforge.data.folder import open_cells
from cytoforge.data.scan import Scan, repeats_of, scan_cells
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.features import DEFAULT_EXTRACTOR, extract, open_extractor
from cytoforge.evaluation.measurements import measure_folder
from cytoforge.report.audit import build_audit

SMALLEST_PROBE = 20
"""With fewer cells no classifier is asked."""


def audit(
    data: Path,
    out: Path,
    *,
    layout: str = "auto",
    group: str | None = None,
    extractor: str = DEFAULT_EXTRACTOR,
    seed: int = 0,
    pictures: bool = True,
) -> Audit:
    """Look for everything that would spoil a result, and write audit.json and audit.html.

    Args:
        data: data folder.
        out: folder to write.
        layout: a key of `data.layouts.LAYOUTS`, or "auto".
        group: regular expression with one capture, searched in each cell's name, that gives its group.
        extractor: what computes features for the classifier checks, or "none" to leave them out.
        seed: of the folds.
        pictures: whether the page shows the cells it speaks of.

    Returns:
        All findings; `Audit.blocking` are those that forbid to go on.

    Raises:
        DataError: the folder cannot be used, or `out` cannot be written.
        ConfigError: no such layout or extractor.
    """
    scan = scan_cells(open_cells(data, layout, group))
    repeats = repeats_of(scan)
    features, name = _features(scan, extractor)
    measurements = None if features is None else _measurements(scan)
    found = audit_cells(scan, repeats, features, name, seed, measurements)
    write_json(out / "audit.json", found.model_dump(mode="json"))
    build_audit(out / "audit.html", found, scan, pictures)
    return found


def _features(
    scan: Scan, extractor: str
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]] | None, str]:
    """(N, D) features of the usable cells and the name of what computed them."""
    if extractor == "none" or len(scan.cells) < SMALLEST_PROBE:
        return None, ""
    opened = open_extractor(extractor)
    cached = open_cache(scan.cells, Preparation(resolution=opened.size))
    features = extract(cached.images, opened, cache_directory())
    row = {name: index for index, name in enumerate(cached.names)}
    return features[[row[name] for name in scan.cells.names]], opened.name


def _measurements(scan: Scan) -> NDArray[np.float64] | None:
    """(N, 53) of the usable cells by the masks of the data set; None where a tenth or more have none."""
    masked = [cell.name for cell in scan.cells.cells if cell.mask]
    if len(masked) < 0.9 * len(scan.cells):
        return None
    return measure_folder(scan.cells.select(masked), "given").rows(scan.cells.names)
