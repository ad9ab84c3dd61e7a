"""How much an experiment may cost, and on what machine it began."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator

from cytoforge.core.files import read_json, write_json

Scale = Literal["smoke", "full"]
"""`smoke` shows in minutes on two cores that everything works, `full` is what numbers are reported from."""

Item = TypeVar("Item")


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


OneOrMore = Annotated[tuple[Item, ...], BeforeValidator(_listed)]
"""Several values of a budget, which a command line may give as text with commas or as a single one."""

Ascending = Annotated[OneOrMore[Item], AfterValidator(lambda values: tuple(sorted(set(values))))]
"""The same in order, each once: moments of a training, seeds."""


def begun_with(out: Path, here: dict[str, Any]) -> dict[str, Any]:
    """What the machine that began an experiment offered: another one goes on with the same jobs.

    Args:
        out: folder of the experiment; machine.json in it is written by the first call.
        here: what this machine offers, such as its number format.
    """
    note = out / "machine.json"
    if not note.is_file():
        write_json(note, here)
    return dict(read_json(note))
