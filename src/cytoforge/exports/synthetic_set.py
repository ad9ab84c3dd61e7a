"""A synthetic set that was checked, for exports to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import DataError
from cytoforge.core.files import sha256_file
from cytoforge.core.png import decode_png
from cytoforge.sampling.provenance import CARD, Entry, Header, Manifest, read_manifest, verify, write_manifest
from cytoforge.sampling.sealed import MANIFEST

ORIGIN = "origin-manifest.jsonl"
"""Name of the set's manifest inside an export."""

_SHOWN = 8


@dataclass(frozen=True)
class SyntheticSet:
    """A whole set.

    Attributes:
        folder: where it is.
        manifest: what it says of itself; images sorted by class and seed.
    """

    folder: Path
    manifest: Manifest

    @property
    def header(self) -> Header:
        """Who made it."""
        return self.manifest.header

    @property
    def images(self) -> tuple[Entry, ...]:
        """Its images."""
        return self.manifest.images

    @property
    def resolution(self) -> int:
        """Side of the images, in pixels."""
        return int(self.header.preparation["resolution"])

    @cached_property
    def sha256(self) -> str:
        """Of the manifest, which holds the hash of every file."""
        return sha256_file(self.folder / MANIFEST)

    @property
    def masked(self) -> bool:
        """Whether images come with the masks that they were drawn from."""
        return any(entry.mask is not None for entry in self.images)

    def pixels(self, entry: Entry) -> NDArray[np.uint8]:
        """One image: (R, R, 3)."""
        return decode_png((self.folder / entry.file).read_bytes())[0]

    def card(self) -> str:
        """The text of its data card."""
        return (self.folder / CARD).read_text(encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        """What every file of an export that has no text of its own says about its origin."""
        header = self.header
        return {
            "synthetic": True,
            "generator": header.generator,
            "method": header.method,
            "config_sha256": header.config_sha256,
            "checkpoint_sha256": header.checkpoint_sha256,
            "manifest_sha256": self.sha256,
        }


def open_set(folder: Path) -> SyntheticSet:
    """A set in which nothing is missing, changed or added.

    Raises:
        DataError: `folder` is no synthetic set, is empty, or is not as its manifest says.
    """
    manifest = read_manifest(folder)
    problems = verify(folder)
    if problems:
        first = "; ".join(f"{problem.file}: {problem.reason}" for problem in problems[:3])
        raise DataError(
            f"{folder} is not as its manifest says ({len(problems)} problems; {first}), and that would be "
            "passed on. Run `cytoforge generate` again, then export."
        )
    if not manifest.images:
        raise DataError(f"{folder} holds no images; generate some first.")
    return SyntheticSet(folder, manifest)


def copy_origin(opened: SyntheticSet, out: Path) -> None:
    """The set's manifest beside an export: seeds and hashes of every image, of the run's place the name."""
    header = opened.header.model_copy(update={"run": PurePosixPath(opened.header.run).name})
    write_manifest(out, replace(opened.manifest, header=header), ORIGIN)


def first_of_each(
    names: Mapping[str, list[NDArray[np.uint8]]],
) -> dict[str, NDArray[np.uint8]]:
    """Rows for a picture: class -> (N, R, R, 3), the first few of each that has some."""
    return {name: np.stack(images[:_SHOWN]) for name, images in names.items() if images}
