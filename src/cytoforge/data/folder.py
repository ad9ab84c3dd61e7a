"""A folder of labelled cells: what is in it, and the pictures and masks one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.settings import suggestion
from cytoforge.data.archive import read_row
from cytoforge.data.cells import Cell, CellSet, Fault
from cytoforge.data.contours import NUCLEUS, UNKNOWN, rasterise, read_contour
from cytoforge.data.images import EXTENSIONS, decode, decode_bytes, quiet_decoders, read_bytes, size_of
from cytoforge.data.layouts import LAYOUTS, contour_names, detect

__all__ = ["Cell", "CellSet", "Fault", "decode", "open_cells", "read_image", "read_mask", "read_mask_file"]

_HERLEV_COLOURS = {(255, 0, 0): 0, (0, 0, 128): 1, (0, 0, 255): NUCLEUS, (128, 128, 128): UNKNOWN}
"""Segmentations as Herlev published them: red background, dark blue cytoplasm, light blue nucleus, grey."""
_FIRST = 50
_MASK_LEVELS = {(0, 255): (0, 1), (0, 127, 255): (0, 1, 2), (0, 128, 255): (0, 1, 2)}


def open_cells(root: Path, layout: str = "auto", group: str | None = None) -> CellSet:
    """The cells of a data folder; nothing is decoded yet.

    Args:
        root: data folder, or a MedMNIST `.npz`.
        layout: a key of `layouts.LAYOUTS`, or "auto" to recognise it.
        group: regular expression with one capture, searched in each cell's name; what it captures is
            the cell's group. Without it the layout decides.

    Returns:
        Cells sorted by name, with the files that cannot be used.

    Raises:
        DataError: no such folder, no image in it, only one class, or names that `group` does not fit.
        ConfigError: an unknown layout, or a `group` that is not a regular expression with one capture.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(
            f"{root} does not exist; give the path of a folder with one subfolder of images per class."
        )
    if root.is_file() and root.suffix.lower() != ".npz":
        raise DataError(f"{root} is a file; give the folder that holds the images (or a MedMNIST .npz).")
    name = detect(root) if layout == "auto" else layout
    if name not in LAYOUTS:
        raise ConfigError(
            f"layout {name!r} is unknown.{suggestion(name, LAYOUTS)} "
            f"Choose one of auto, {', '.join(LAYOUTS)}."
        )
    found = LAYOUTS[name](root)
    cells = sorted(found.cells, key=lambda cell: cell.name)
    classes = tuple(sorted({cell.label for cell in cells}))
    _check_classes(root, name, classes, found.faults)
    if group is not None:
        cells = _regroup(cells, group)
    faults = tuple(sorted(found.faults, key=lambda fault: (str(fault.path), fault.reason)))
    return CellSet(root, name, classes, tuple(cells), faults)


def read_image(cell: Cell) -> NDArray[np.uint8]:
    """The picture of a cell: (H, W, 3) uint8.

    Raises:
        DataError: the file cannot be decoded.
    """
    if cell.row is None:
        return decode(cell.path)
    part = cell.name.rpartition("#")[2].partition("/")[0]
    return read_row(cell.path, part, cell.row)


def read_mask(cell: Cell) -> NDArray[np.uint8] | None:
    """The mask of a cell: (H, W) uint8, 0 background, 1 cytoplasm, 2 nucleus, 3 unknown; None without one.

    Raises:
        DataError: the mask is damaged, of another size than the image, or holds other values.
    """
    if cell.mask is None:
        return None
    size = size_of(cell.path)
    if cell.mask.suffix.lower() == ".dat":
        return _contour_mask(cell, size)
    mask = read_mask_file(cell.mask, _greys(cell.mask.parent))
    if mask.shape != size:
        raise DataError(f"{cell.mask}: the mask has {mask.shape} px but its image has {size} (height, width)")
    return mask


def read_known_mask(cell: Cell) -> NDArray[np.uint8] | None:
    """The same, and None too where no pixel is known: nothing can be learned or measured by such a mask."""
    mask = read_mask(cell)
    return None if mask is None or (mask == UNKNOWN).all() else mask


def read_mask_file(path: Path, greys: int = 2) -> NDArray[np.uint8]:
    """Index values of a mask picture (H, W), as for `read_mask`; 0/255, 0/128/255 and Herlev's colours too.

    Args:
        path: of the picture.
        greys: 3 where its values are of 0, 128 and 255, although it may not have 128: a nucleus without
            cytoplasm.

    Raises:
        DataError: the file is damaged or holds other values.
    """
    levels = _mask_values(path)
    values = tuple(int(value) for value in np.unique(levels))
    if max(values) <= UNKNOWN:
        return levels.astype(np.uint8)
    known = next((key for key in _MASK_LEVELS if set(values) <= set(key) and greys <= len(key)), None)
    if known is None:
        shown = ", ".join(str(value) for value in values[:6])
        raise DataError(
            f"{path}: mask values {shown}{', ...' if len(values) > 6 else ''}; expected 0 background, "
            f"1 cytoplasm, {NUCLEUS} nucleus, {UNKNOWN} unknown (or 0/255, or 0/128/255)"
        )
    table = np.zeros(256, np.uint8)
    table[list(known)] = _MASK_LEVELS[known]
    return table[levels]


@lru_cache(maxsize=64)
def _greys(folder: Path) -> int:
    """3 where one of the first masks of a folder has a middle grey, so that 255 means nucleus, else 2."""
    masks = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)[:_FIRST]
    for path in masks:
        with suppress(DataError):
            values = set(np.unique(_mask_values(path)).tolist())
            if values & {127, 128} and any(values <= set(key) for key in _MASK_LEVELS):
                return 3
    return 2


def mask_files(cell: Cell) -> tuple[Path, ...]:
    """The files that `read_mask` reads for a cell: one picture, one or two contours, or none."""
    if cell.mask is None or cell.mask.suffix.lower() != ".dat":
        return () if cell.mask is None else (cell.mask,)
    return tuple(path for path in _contours(cell).values() if path is not None)


def _check_classes(root: Path, layout: str, classes: tuple[str, ...], faults: Sequence[Fault]) -> None:
    if len(classes) >= 2:
        return
    listed = "".join(f"\n  {fault.path}: {fault.reason}" for fault in faults[:5])
    if not classes:
        raise DataError(
            f"{root}: no usable image found (layout {layout}); expected a subfolder of BMP, PNG, JPEG, TIFF "
            f"or WebP images per class. {len(faults)} files cannot be used.{listed}"
        )
    raise DataError(
        f"{root}: only one class, {classes[0]!r} (layout {layout}); at least two are needed, "
        f"one subfolder each.{listed}"
    )


def _regroup(cells: Sequence[Cell], group: str) -> list[Cell]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ConfigError(f"group {group!r} is not a regular expression: {error}.") from error
    if pattern.groups != 1:
        raise ConfigError(
            f"group {group!r} has {pattern.groups} captures; put exactly one pair of (round brackets)."
        )
    matches = [(cell, pattern.search(cell.name)) for cell in cells]
    missed = [cell.name for cell, match in matches if match is None or match[1] is None]
    if missed:
        raise DataError(
            f"group {group!r} fits {len(cells) - len(missed)} of {len(cells)} names; not {missed[0]!r}."
        )
    return [replace(cell, group=match[1]) for cell, match in matches if match is not None]


def _contour_mask(cell: Cell, size: tuple[int, int]) -> NDArray[np.uint8]:
    assert cell.mask is not None
    points = {part: None if path is None else read_contour(path) for part, path in _contours(cell).items()}
    try:
        return rasterise(points["cyt"], points["nuc"], size, in_photo=cell.mask.parent != cell.path.parent)
    except DataError as error:
        raise DataError(f"{cell.mask}: {error}") from error


def _contours(cell: Cell) -> dict[str, Path | None]:
    """The contour files of cytoplasm ("cyt") and nucleus ("nuc"), both from the folder of `cell.mask`."""
    assert cell.mask is not None
    photo, _, number = cell.path.stem.partition("_")
    found: dict[str, Path | None] = {}
    for part in ("cyt", "nuc"):
        beside = [path for path in contour_names(cell.path, photo, number, part) if path.is_file()]
        found[part] = next((path for path in beside if path.parent == cell.mask.parent), None)
    return found


def _mask_values(path: Path) -> NDArray[np.int64]:
    """Stored numbers of a mask: palette indices, grey levels, what R, G and B share, or Herlev's colours."""
    content = read_bytes(path)
    with quiet_decoders():
        rgb = decode_bytes(content, path)[0]
        grey = bool((rgb == rgb[..., :1]).all())
        coloured = None if grey else _of_colours(rgb)
        if coloured is not None:
            return coloured
        with Image.open(path) as image:
            indexed = image.mode in ("P", "L", "I;16", "1")
            values = np.asarray(image) if indexed else rgb
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.ndim == 3:
        if not grey:
            raise DataError(
                f"{path}: a colour picture, expected a mask of index values (grey or palette) or Herlev's "
                "colours (red background, dark blue cytoplasm, light blue nucleus, grey unknown)"
            )
        values = values[..., 0]
    return values.astype(np.int64)


def _of_colours(rgb: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """Index values (H, W) of a picture in Herlev's colours, None where it is another one."""
    values = np.full(rgb.shape[:2], -1, np.int64)
    for colour, value in _HERLEV_COLOURS.items():
        values[(rgb == colour).all(-1)] = value
    return None if (values < 0).any() else values
