"""Synthetic set or pictures in, list of problems out."""

from __future__ import annotations

from pathlib import Path

from cytoforge.sampling.picture_provenance import is_picture_folder, verify_pictures
from cytoforge.sampling.provenance import Problem
from cytoforge.sampling.provenance import verify as find_problems


def verify(folder: Path) -> list[Problem]:
    """Everything that differs between synthetic pictures and their manifest; empty where all is well.

    Args:
        folder: a synthetic set, translated cells, or pictures drawn by words.

    Raises:
        DataError: it is no folder.
    """
    return verify_pictures(folder) if is_picture_folder(folder) else find_problems(folder)
