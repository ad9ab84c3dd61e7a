"""CSV that a spreadsheet shows as it is: no cell of it is taken for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV; words that begin like a formula get an apostrophe, numbers stay as they are.

    Example:
        >>> csv_text(["name", "n"], [["=1+1", -2]]).splitlines()
        ['name,n', "'=1+1,-2"]
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for row in (header, *rows):
        table.writerow([harmless(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue()


def harmless(word: str) -> str:
    """The word, with an apostrophe before it where a spreadsheet would compute it."""
    return f"'{word}" if word.startswith(_FORMULA) else word
