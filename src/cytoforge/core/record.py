"""What every file of settings or results is read into."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Tone = Literal["good", "bad", "unsure", "note"]
"""How a line of a report is meant: its colour and its mark."""


class Record(BaseModel):
    """Values that do not change, checked when they are made; a field that is not known is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")
