"""How much an experiment may cost."""

from __future__ import annotations

from typing import Literal

Scale = Literal["smoke", "full"]
"""`smoke` shows in minutes on two cores that everything works, `full` is what numbers are reported from."""
