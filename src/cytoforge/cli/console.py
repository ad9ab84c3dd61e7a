"""What the user sees: results on standard output, everything else on standard error.

A verb returns an `Outcome`. Without `--json` its text is printed for a person; with it, the facts are printed
as one JSON object and nothing else reaches standard output.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cytoforge.core.errors import CytoforgeError, TrainingError

DONE = 0
BAD_INPUT = 2
CHECK_FAILED = 3
INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """What a verb did.

    Attributes:
        facts: what `--json` prints; paths, numbers, pydantic models and dataclasses may be in it.
        text: what a person reads, a string or anything rich can draw; None shows the facts as a table.
        failed: a check failed, so that the exit code is 3.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    text: RenderableType | None = None
    failed: bool = False


def show(outcome: Outcome, as_json: bool) -> int:
    """Print `outcome` on standard output; returns the exit code."""
    if as_json:
        print_json(outcome.facts)
    elif outcome.text is not None or outcome.facts:
        console = Console(highlight=False)
        text = _table(outcome.facts) if outcome.text is None else outcome.text
        console.print(text, soft_wrap=isinstance(text, str | Text), markup=False)
    return CHECK_FAILED if outcome.failed else DONE


def complain(kind: str, message: str, as_json: bool) -> None:
    """Print one error message on standard error and, with `--json`, an object with it on standard output."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if as_json:
        print_json({"error": {"kind": kind, "message": message}})


def note(message: str) -> None:
    """Tell the user something on standard error while a verb is at work."""
    Console(stderr=True, highlight=False).print(Text(message), soft_wrap=True)


def print_json(facts: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(plain(facts), ensure_ascii=True, allow_nan=False, indent=1) + "\n")


def exit_code(error: CytoforgeError) -> int:
    """3 where training stopped itself, 2 for whatever the user gave us.

    Example:
        >>> exit_code(TrainingError("the loss is NaN"))
        3
    """
    return CHECK_FAILED if isinstance(error, TrainingError) else BAD_INPUT


def plain(value: Any) -> Any:
    """`value` as JSON knows it: paths become strings, NaN and infinity null, models and dataclasses objects.

    Example:
        >>> plain({"out": PurePath("runs"), "kid": float("nan"), 3: (1, 2)})
        {'out': 'runs', 'kid': None, '3': [1, 2]}
    """
    if value is None or isinstance(value, str | int | float):
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, PurePath):
        return str(value)
    return _plain_object(value)


def _plain_object(value: Any) -> Any:
    import numpy as np
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({item.name: getattr(value, item.name) for item in dataclasses.fields(value)})
    raise TypeError(f"{type(value).__name__} has no JSON form; a verb's facts hold plain values.")


def _table(facts: Mapping[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        shown = plain(value)
        table.add_row(name, Text(shown if isinstance(shown, str) else json.dumps(shown)))
    return table
