"""Settings from a YAML file, read as if the file came from an enemy.

Only plain YAML is accepted: no tags that build objects, no more than a few aliases (a chain of them can
expand to billions of values), no key twice, a bounded size and depth.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from cytoforge.core.errors import ConfigError
from cytoforge.core.record import Record
from cytoforge.core.settings import checked

MOST_BYTES = 64 * 1024
MOST_ALIASES = 16
MOST_DEPTH = 16


class TrainFile(Record):
    """What `cytoforge train --config` may say; each key is the option of that name, which overrides it."""

    method: str | None = None
    data: Path | None = None
    run: Path | None = None
    resolution: int | None = None
    images: str | int | None = None
    minutes: float | None = None
    seed: int | None = None
    preset: str | None = None
    split: Path | None = None
    layout: str | None = None
    group: str | None = None
    settings: dict[str, str | int | float | bool | list[float] | dict[str, str] | None] = Field({})


def read_train_file(path: Path) -> TrainFile:
    """The settings in a YAML file.

    Raises:
        ConfigError: the file is missing, not plain YAML, too large, or has keys or values that do not fit.
    """
    return checked(TrainFile, read_yaml(path), str(path))


def read_yaml(path: Path, option: str = "--config") -> dict[str, Any]:
    """The mapping in the YAML file that `option` named.

    Raises:
        ConfigError: the file is missing, too large or not one plain mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; give {option} an existing YAML file."
        ) from error
    if len(content) > MOST_BYTES:
        raise ConfigError(
            f"{path} is larger than {MOST_BYTES // 1024} KiB; the file of {option} is a short one."
        )
    try:
        value = yaml.load(content, Loader=_BoundedLoader)  # noqa: S506  a SafeLoader with tighter bounds
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{path} must hold `name: value` lines, for example `resolution: 64`.")
    return value


class _BoundedLoader(yaml.SafeLoader):
    """Safe YAML with a limit on aliases and depth, where a key may stand only once."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.aliases = 0
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            self._refuse_beyond(self.aliases, MOST_ALIASES, "aliases")
        self.depth += 1
        self._refuse_beyond(self.depth, MOST_DEPTH, "levels")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key.value, str) and key.value != "<<"]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{sorted(twice)} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)

    @staticmethod
    def _refuse_beyond(count: int, most: int, what: str) -> None:
        if count > most:
            raise yaml.YAMLError(f"more than {most} {what}")
