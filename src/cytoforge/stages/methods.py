"""What can be trained, as the code itself describes it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from cytoforge.core.method import Method
from cytoforge.data.transform import Preparation
from cytoforge.methods.catalogue import METHODS
from cytoforge.training.loop import LoopConfig

Settings = dict[str, tuple[str, Any, str]]
"""Setting -> (kind, default, meaning)."""


@dataclass(frozen=True)
class Described:
    """One method.

    Attributes:
        name: word on the command line.
        summary: first line of its docstring.
        presets: preset name -> the settings that it changes.
        settings: its own; those of `describe_shared` come on top.
    """

    name: str
    summary: str
    presets: dict[str, dict[str, Any]]
    settings: Settings


def describe_methods() -> list[Described]:
    """Every method of the catalogue, in its order."""
    return [_describe(name, method) for name, method in METHODS.items()]


def _describe(name: str, method: type[Method]) -> Described:
    summary = (inspect.getdoc(method) or "").split("\n", 1)[0]
    presets = {preset: dict(changes) for preset, changes in method.presets.items()}
    return Described(name, summary, presets, _settings(method.config_type))


def describe_shared() -> dict[str, Settings]:
    """Settings that every method takes: of the loop and of the preparation of images."""
    return {"training": _settings(LoopConfig), "preparation": _settings(Preparation)}


def _settings(kind: type[BaseModel]) -> Settings:
    return {
        key: (_kind(field.annotation), field.get_default(), field.description or "")
        for key, field in kind.model_fields.items()
    }


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(get_args(annotation))
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if plain else str(annotation).replace("typing.", "")
