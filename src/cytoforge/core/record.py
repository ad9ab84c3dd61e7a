"""What every file of settings or results is read into."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Values that do not change, checked when they are made; a field that is not known is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")
