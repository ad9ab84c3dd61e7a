"""How much an experiment may cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator

Scale = Literal["smoke", "full"]
"""`smoke` shows in minutes on two cores that everything works, `full` is what numbers are reported from."""

Item = TypeVar("Item")


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


OneOrMore = Annotated[tuple[Item, ...], BeforeValidator(_listed)]
"""Several values of a budget, which a command line may give as text with commas or as a single one."""

Ascending = Annotated[OneOrMore[Item], AfterValidator(lambda values: tuple(sorted(set(values))))]
"""The same in order, each once: moments of a training, seeds."""
