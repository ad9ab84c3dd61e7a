"""What a class means and what usually follows: a teaching text that users may replace by their own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import Field

from cytoforge.core.record import Record
from cytoforge.core.settings import checked


class Meaning(Record):
    """Of one class.

    Attributes:
        names: of the class in different data sets; case, spaces and punctuation do not count.
        kind: rough judgement.
        meaning: what the cells are.
        follow_up: what usually follows.
    """

    names: tuple[str, ...] = Field(min_length=1, max_length=50)
    kind: Literal["normal", "benign", "abnormal", "other"]
    meaning: str = Field(max_length=1000)
    follow_up: str = Field(max_length=1000)


class Teaching(Record):
    """The whole text.

    Attributes:
        note: what a reader must know before anything else.
        classes: the meanings.
    """

    note: str = Field(max_length=2000)
    classes: tuple[Meaning, ...] = Field(max_length=500)

    def of(self, label: str) -> Meaning | None:
        """The meaning of a class; None where the text does not know it."""
        wanted = _plain(label)
        return next((each for each in self.classes if wanted in map(_plain, each.names)), None)


def teaching(content: Mapping[str, Any] | None = None) -> Teaching:
    """The user's text, or the one that comes with cytoforge.

    Args:
        content: of the user's YAML file.

    Raises:
        ConfigError: it does not have the form of `report/teaching.yaml`.

    Example:
        >>> teaching().of("im_Koilocytotic") is None, teaching().of("koilocytotic").kind
        (True, 'abnormal')
    """
    if content is None:
        text = files("cytoforge.report").joinpath("teaching.yaml").read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    return checked(Teaching, content, "--meanings")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
