"""Masks that images are drawn from, where the method does not draw masks itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes, sha256_file
from cytoforge.data.contours import UNKNOWN
from cytoforge.data.folder import read_mask_file
from cytoforge.data.images import EXTENSIONS
from cytoforge.data.transform import Preparation, prepare_mask
from cytoforge.sampling.provenance import class_folders


@dataclass(frozen=True)
class MaskFolder:
    """Masks by class; the image of a seed is drawn from the mask at that seed's place in the list.

    Attributes:
        root: the folder.
        files: class -> mask files, sorted by name; empty for a class without masks.
        preparation: how masks are brought to the size of the images.
        sha256: hash of all names and contents, in order.
    """

    root: Path
    files: Mapping[str, tuple[Path, ...]]
    preparation: Preparation
    sha256: str

    def of(self, label: str, seed: int) -> NDArray[np.uint8]:
        """The mask (R, R) for a class and a seed: 0 background, 1 cytoplasm, 2 nucleus.

        Raises:
            ConfigError: there is no mask of the class.
            DataError: the file is no mask.
        """
        files = self.files[label]
        if not files:
            raise ConfigError(
                f"{self.root} has no masks of class {label!r}; expected {self.root}/masks/{label}/*.png."
            )
        levels = prepare_mask(read_mask_file(files[seed % len(files)]), self.preparation)
        return np.where(levels == UNKNOWN, np.uint8(0), levels)


def open_masks(root: Path, classes: Sequence[str], preparation: Preparation) -> MaskFolder:
    """The masks of a data set in the paired layout (`masks/<class>/...`), or of a synthetic set.

    Args:
        root: the folder; one with `<class>/...` of masks directly in it will do too.
        classes: names in the run.
        preparation: of the run.

    Raises:
        DataError: no such folder, or no mask of any class in it.
    """
    place = root / "masks" if (root / "masks").is_dir() else root
    if not place.is_dir():
        raise DataError(f"{root} is not a folder; give a data set with masks/<class>/ in it.")
    spelled = class_folders(classes)
    files = {name: _mask_files([place / name, place / spelled[name]]) for name in classes}
    if not any(files.values()):
        raise DataError(
            f"{root} has no masks of any class of the run; expected {place}/<class>/*.png with a class "
            f"out of {', '.join(map(repr, classes))}."
        )
    listed = [
        f"{name}\t{path.relative_to(place).as_posix()}\t{sha256_file(path)}"
        for name, own in files.items()
        for path in own
    ]
    return MaskFolder(root, files, preparation, sha256_bytes("\n".join(listed).encode()))


def _mask_files(folders: Sequence[Path]) -> tuple[Path, ...]:
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        return ()
    return tuple(path for path in sorted(folder.rglob("*")) if path.suffix.lower() in EXTENSIONS)
