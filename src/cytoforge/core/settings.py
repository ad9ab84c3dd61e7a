"""Settings that a user wrote, checked all at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cytoforge.core.errors import ConfigError

Settings = TypeVar("Settings", bound=BaseModel)


def checked(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """The settings in `values`, which may be strings from a command line.

    Args:
        kind: the settings' class.
        values: field -> value.
        where: what the message calls the place they came from, for example "--set".

    Raises:
        ConfigError: some do not fit; the message names every one with the path of its field.

    Example:
        >>> class Size(BaseModel, extra="forbid"):
        ...     width: int
        >>> checked(Size, {"width": "3"}, "--set")
        Size(width=3)
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        faults = [_describe(kind, fault) for fault in error.errors(include_url=False)]
    listed = "".join(f"\n  - {fault}" for fault in faults)
    raise ConfigError(f"{where}: {len(faults)} setting{'s' * (len(faults) > 1)} cannot be used:{listed}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Did you mean ...? with the known word that is closest, or nothing.

    Example:
        >>> suggestion("learning_rat", ["latent", "learning_rate"])
        ' Did you mean "learning_rate"?'
        >>> suggestion("zzz", ["latent"])
        ''
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f' Did you mean "{close[0]}"?' if close else ""


def _describe(kind: type[BaseModel], fault: ErrorDetails) -> str:
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _fields(kind, fault["loc"][:-1])
        return (
            f"{path} is not a setting.{suggestion(str(fault['loc'][-1]), known)} Known: {', '.join(known)}."
        )
    if fault["type"] == "missing":
        return f"{path} is missing."
    shown = repr(fault["input"])
    return f"{path}: {fault['msg']}, not {shown if len(shown) <= 60 else shown[:57] + '...'}."


def _fields(kind: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    fields = kind.model_fields
    for part in path:
        nested = fields[str(part)].annotation if str(part) in fields else None
        if not (isinstance(nested, type) and issubclass(nested, BaseModel)):
            return []
        fields = nested.model_fields
    return list(fields)
