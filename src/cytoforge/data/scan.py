"""One look at every cell: can it be decoded, how large, sharp and bright is it, and what repeats."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, laplace

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json, sha256_bytes, write_json
from cytoforge.core.progress import progress
from cytoforge.data.cache import cache_directory
from cytoforge.data.cells import Cell, CellSet, Fault
from cytoforge.data.duplicates import SIZE, Repeat, Repeats, find_repeats
from cytoforge.data.folder import read_image, read_mask
from cytoforge.data.images import decode_bytes, quiet_decoders, read_bytes

MEASURES: Final = (
    "width",
    "height",
    "sharpness",
    "brightness",
    "contrast",
    "clipped",
    "red",
    "green",
    "blue",
)
"""Columns of `Scan.measures`."""
MOST_COMPARED: Final = 20_000
"""Above so many cells only exact copies are searched: the time of the full search grows with the square."""

_GREY: Final = np.array([0.299, 0.587, 0.114], np.float32)
_FORMAT: Final = 1


@dataclass(frozen=True)
class Scan:
    """What was seen of the N usable cells of a data set.

    Attributes:
        cells: the cells that can be decoded.
        faults: files that cannot be used or had to be converted, and masks that cannot be used.
        measures: (N, 9), columns as in `MEASURES`: width and height in pixels; sharpness (see `sharpness_of`)
            at 96 px; mean and standard deviation of grey, 0..255; share of values that are 0 or 255; mean
            optical density of red, green and blue.
        thumbnails: (N, 96, 96) uint8 grey, stretched.
        hashes: N SHA-256 of size and decoded pixels.
        nucleus: (N,) share of the mask that is nucleus, NaN where there is no usable mask.
    """

    cells: CellSet
    faults: tuple[Fault, ...]
    measures: NDArray[np.float64]
    thumbnails: NDArray[np.uint8]
    hashes: tuple[str, ...]
    nucleus: NDArray[np.float64]

    def measure(self, name: str) -> NDArray[np.float64]:
        """(N,) one column of the measures."""
        column: NDArray[np.float64] = self.measures[:, MEASURES.index(name)]
        return column


@dataclass(frozen=True)
class _Look:
    """One cell; `thumbnail` is None where it cannot be decoded."""

    faults: list[Fault]
    thumbnail: NDArray[np.uint8] | None = None
    measures: tuple[float, ...] = ()
    digest: str = ""
    nucleus: float = float("nan")


def scan_cells(cells: CellSet) -> Scan:
    """Decode every cell once and measure it.

    Raises:
        DataError: not one cell can be decoded.
    """
    with (
        quiet_decoders(),
        ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool,
        progress("looking at cells", len(cells)) as advance,
    ):
        looks = []
        for look in pool.map(_look, cells.cells):
            looks.append(look)
            advance(1)
    faults = [*cells.faults, *(fault for look in looks for fault in look.faults)]
    usable = [
        (cell, look) for cell, look in zip(cells.cells, looks, strict=True) if look.thumbnail is not None
    ]
    if not usable:
        listed = "".join(f"\n  {fault.path}: {fault.reason}" for fault in faults[:5])
        raise DataError(f"{cells.root}: none of its {len(cells)} images can be decoded.{listed}")
    return Scan(
        cells=cells.select(cell.name for cell, _ in usable),
        faults=tuple(faults),
        measures=np.array([look.measures for _, look in usable], np.float64),
        thumbnails=np.stack([look.thumbnail for _, look in usable if look.thumbnail is not None]),
        hashes=tuple(look.digest for _, look in usable),
        nucleus=np.array([look.nucleus for _, look in usable]),
    )


def repeats_of(scan: Scan) -> Repeats:
    """Cells that are shown more than once; kept in the cache folder, for the search takes its time.

    Above `MOST_COMPARED` cells only exact copies are found, and the threshold is 1.
    """
    rows = zip(scan.cells.names, scan.cells.labels.tolist(), scan.hashes, strict=True)
    key = sha256_bytes(repr((_FORMAT, list(rows))).encode())[:32]
    path = cache_directory() / f"repeats-{key}.json"
    with contextlib.suppress(DataError, KeyError, TypeError):
        kept = read_json(path)
        return Repeats(
            tuple(Repeat(**pair) for pair in kept["pairs"]), kept["threshold"], kept["false_alarms"]
        )
    compared = scan.thumbnails if len(scan.cells) <= MOST_COMPARED else scan.thumbnails[:0]
    repeats = find_repeats(compared, scan.cells.names, scan.cells.labels, scan.hashes)
    write_json(path, asdict(repeats))
    return repeats


def sharpness_of(grey: NDArray[np.float32]) -> float:
    """How much of a picture's contrast is fine: log of Laplacian energy over variance.

    Args:
        grey: (S, S) grey levels.

    Returns:
        Natural logarithm; blur lowers it, brightness and contrast do not change it.
    """
    smooth = gaussian_filter(grey, 0.7)
    return float(np.log((np.var(laplace(smooth)) + 1e-3) / (np.var(smooth) + 1.0)))


def _look(cell: Cell) -> _Look:
    try:
        image, notes = _decode(cell)
    except DataError as error:
        reason = str(error).removeprefix(f"{cell.path}: ")
        return _Look([Fault(cell.path, reason)])
    faults = [Fault(cell.path, note, used=True) for note in notes]
    small = np.asarray(
        Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    )
    grey = small @ _GREY
    nucleus = _nucleus(cell, faults)
    digest = sha256_bytes(repr(image.shape).encode() + image.tobytes())
    return _Look(faults, np.round(grey).astype(np.uint8), _measures(image, small, grey), digest, nucleus)


def _decode(cell: Cell) -> tuple[NDArray[np.uint8], Sequence[str]]:
    if cell.row is not None:
        return read_image(cell), ()
    return decode_bytes(read_bytes(cell.path), cell.path)


def _measures(
    image: NDArray[np.uint8], small: NDArray[np.uint8], grey: NDArray[np.float32]
) -> tuple[float, ...]:
    clipped = ((small == 0) | (small == 255)).mean()
    density = -np.log((small.reshape(-1, 3).astype(np.float64) + 1) / 256).mean(0)
    height, width = image.shape[:2]
    return (
        width,
        height,
        sharpness_of(grey),
        float(grey.mean()),
        float(grey.std()),
        float(clipped),
        *density,
    )


def _nucleus(cell: Cell, faults: list[Fault]) -> float:
    """Share of nucleus in the mask; a mask that cannot be used is added to `faults`."""
    try:
        mask = read_mask(cell)
    except DataError as error:
        faults.append(Fault(cell.mask or cell.path, f"mask: {error}", used=True))
        return float("nan")
    return float("nan") if mask is None else float((mask == 2).mean())
