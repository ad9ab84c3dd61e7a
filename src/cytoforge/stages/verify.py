"""Synthetic set in, list of problems out."""

from __future__ import annotations

from pathlib import Path

from cytoforge.sampling.provenance import Problem
from cytoforge.sampling.provenance import verify as find_problems


def verify(folder: Path) -> list[Problem]:
    """Everything that differs between a synthetic set and its manifest; empty where all is well.

    Args:
        folder: a synthetic set.

    Raises:
        DataError: it is no folder.
    """
    return find_problems(folder)
