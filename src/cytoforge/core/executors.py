"""Names of the places where many jobs can be done; light, for the command line reads it at every start."""

from __future__ import annotations

from typing import Literal

Executor = Literal["serial", "loky", "ray", "dask"]
"""Where jobs are done: here, in processes of this machine, on a Ray or on a Dask cluster."""
