"""Herlev's own table of measurements, published beside its pictures."""

from __future__ import annotations

from pathlib import Path

from cytoforge.core.errors import ConfigError, DataError

TABLE = "features.xls"

COLUMNS = (
    "Kerne_A", "Cyto_A", "K/C", "Kerne_Ycol", "Cyto_Ycol", "KerneShort", "KerneLong", "KerneElong",
    "KerneRund", "CytoShort", "CytoLong", "CytoElong", "CytoRund", "KernePeri", "CytoPeri", "KernePos",
    "KerneMax", "KerneMin", "CytoMax", "CytoMin",
)  # fmt: skip
"""Names of the 20 published measurements (Kerne: nucleus, A: area, Ycol: brightness, Rund: roundness)."""


def published_measurements(root: Path) -> dict[str, dict[str, float]]:
    """Herlev's published table: file name of a cell without extension -> name in `COLUMNS` -> value.

    Args:
        root: folder that holds features.xls.

    Raises:
        ConfigError: xlrd, which reads .xls files, is not installed.
        DataError: there is no such table in the folder, or it has other columns.

    Reference:
        Jantzen, Norup, Dounias and Bjerregaard, Pap-smear benchmark data for pattern classification, 2005.
    """
    try:
        import xlrd
    except ImportError as error:
        raise ConfigError("features.xls needs a reader of .xls files: pip install xlrd") from error
    path = root / TABLE
    try:
        sheet = xlrd.open_workbook(path).sheet_by_index(0)
    except (OSError, xlrd.XLRDError) as error:
        raise DataError(f"{path} is not Herlev's table of measurements ({error}).") from error
    names = [str(name) for name in sheet.row_values(0)] if sheet.nrows else []
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; expected {', '.join(COLUMNS)}.")
    places = {name: names.index(name) for name in COLUMNS}
    table = {}
    for row in range(1, sheet.nrows):
        values = sheet.row_values(row)
        table[Path(str(values[0])).stem] = {name: float(values[place]) for name, place in places.items()}
    return table
