"""What can be trained, as the code itself describes it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from cytoforge.core.method import Method
from cytoforge.methods.catalogue import METHODS


@dataclass(frozen=True)
class Described:
    """One method.

    Attributes:
        name: word on the command line.
        summary: first line of its docstring.
        presets: preset name -> the settings that it changes.
        settings: setting -> (kind, default, meaning).
    """

    name: str
    summary: str
    presets: dict[str, dict[str, Any]]
    settings: dict[str, tuple[str, Any, str]]


def describe_methods() -> list[Described]:
    """Every method of the catalogue, in its order."""
    return [_describe(name, method) for name, method in METHODS.items()]


def _describe(name: str, method: type[Method]) -> Described:
    summary = (inspect.getdoc(method) or "").split("\n", 1)[0]
    presets = {preset: dict(changes) for preset, changes in method.presets.items()}
    settings = {
        key: (_kind(field.annotation), field.get_default(), field.description or "")
        for key, field in method.config_type.model_fields.items()
    }
    return Described(name, summary, presets, settings)


def _kind(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
