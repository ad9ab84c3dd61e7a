"""Tables that spreadsheets open without harm."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """A table as CSV, text that a spreadsheet would take for a formula made harmless.

    Args:
        rows: column -> value; columns that a row lacks are left empty.
        columns: in their order.

    Example:
        >>> print(csv_text([{"label": "=1+1", "seed": -3}], ["label", "seed"]), end="")
        label,seed
        '=1+1,-3
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(columns)
    writer.writerow([safe_cell(name) for name in names])
    writer.writerows([safe_cell(row.get(name, "")) for name in names] for row in rows)
    return text.getvalue()


def safe_cell(value: Any) -> Any:
    """Text with an apostrophe before it where it begins like a formula; anything else as it is.

    Example:
        >>> safe_cell("@cmd"), safe_cell("Parabasal"), safe_cell(-1.5)
        ("'@cmd", 'Parabasal', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
