"""Synthetic set or pictures in, list of problems out."""

from __future__ import annotations

from pathlib import Path

from cytoforge.core.errors import DataError
from cytoforge.sampling.picture_provenance import is_picture_folder, verify_pictures
from cytoforge.sampling.provenance import Problem
from cytoforge.sampling.provenance import verify as find_problems
from cytoforge.sampling.sealed import MANIFEST


def verify(folder: Path) -> list[Problem]:
    """Everything that differs between synthetic pictures and their manifest; empty where all is well.

    Args:
        folder: a synthetic set, translated cells, or pictures drawn by words.

    Raises:
        DataError: it is no folder.
    """
    try:
        if is_picture_folder(folder):
            return verify_pictures(folder)
    except DataError as error:
        if folder.is_dir():
            return [Problem(MANIFEST, str(error))]
    return find_problems(folder)
