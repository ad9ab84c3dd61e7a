"""One look at every cell: can it be decoded, how large, sharp and bright is it, and what repeats."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json, sha256_bytes, write_json
from cytoforge.core.grey import GREY
from cytoforge.core.png import pixel_hash
from cytoforge.core.progress import progress
from cytoforge.data.cache import cache_directory
from cytoforge.data.cells import Cell, CellSet, Fault
from cytoforge.data.duplicates import SIZE, Repeat, Repeats, find_repeats
from cytoforge.data.folder import read_image, read_mask
from cytoforge.data.images import decode_bytes, quiet_decoders, read_bytes

MEASURES: Final = (
    "width", "height", "finest", "detail", "fine", "coarse", "brightness", "dark", "light", "clipped",
    "green_red", "blue_yellow", "red", "green", "blue", "ground_red", "ground_green", "ground_blue",
)  # fmt: skip
"""Columns of `Scan.measures`."""
MOST_COMPARED: Final = 20_000
"""Above so many cells only exact copies are searched: the time of the full search grows with the square."""
NOT_SEARCHED: Final = (
    f"Above {MOST_COMPARED:,} cells only exact copies are searched: altered copies and cells that recur in "
    "other photos are not found."
)

_GREY: Final = GREY.astype(np.float32)
_FORMAT: Final = 7
_NO_THUMBNAIL: Final = np.empty(0, np.uint8)


@dataclass(frozen=True)
class Scan:
    """What was seen of the N usable cells of a data set.

    Attributes:
        cells: the cells that can be decoded.
        faults: files that cannot be used or had to be converted, and masks that cannot be used.
        measures: (N, 18), columns as in `MEASURES`: width and height in pixels; all others of the picture at
            96 px: log of the energy of structures of 1.4-2.8 px, less that of noise, over 2.8-5.6 px
            ("finest"), of 2-4 px, less that of noise, over 4-8 px ("detail"), of 1-2 px over 4-8 px ("fine")
            and 1.5-3 px over 6-12 px ("coarse"), which blur lowers; mean, 2nd and 98th percentile of grey,
            0..255; share of values at 254 or above; mean CIELAB a and b; mean red, green and blue, and their
            median in the brightest tenth of the picture ("ground"), 0..255. (N, 0) where not wanted.
        thumbnails: (N, 96, 96) uint8 grey, stretched; (N, 0) above `MOST_COMPARED`, where none is used.
        hashes: N SHA-256 of size and decoded pixels.
        nucleus: (N,) share of the mask that is nucleus, NaN where there is no usable mask.
    """

    cells: CellSet
    faults: tuple[Fault, ...]
    measures: NDArray[np.float64]
    thumbnails: NDArray[np.uint8]
    hashes: tuple[str, ...]
    nucleus: NDArray[np.float64]

    @property
    def fully_compared(self) -> bool:
        """Whether they are few enough to search for altered copies and recurring cells, see `repeats_of`."""
        return bool(self.thumbnails.shape[1])

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


def scan_cells(cells: CellSet, measured: bool = True) -> Scan:
    """Decode every cell once and measure it; rows of an archive in their order, for it is a stream.

    Args:
        cells: of a data set.
        measured: whether measures are wanted, which take six times as long as all the rest.

    Raises:
        DataError: not one cell can be decoded.
    """
    archived, few = any(cell.row is not None for cell in cells.cells), len(cells) <= MOST_COMPARED
    with (
        quiet_decoders(),
        ThreadPoolExecutor(1 if archived else min(4, os.cpu_count() or 1)) as pool,
        progress("looking at cells", len(cells)) as advance,
    ):
        looks = []
        for look in pool.map(partial(_look, measured=measured), cells.cells):
            looks.append(look if few or look.thumbnail is None else replace(look, thumbnail=_NO_THUMBNAIL))
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
    compared = scan.thumbnails if scan.fully_compared else scan.thumbnails[:0]
    repeats = find_repeats(compared, scan.cells.names, scan.cells.labels, scan.hashes)
    write_json(path, asdict(repeats))
    return repeats


def _look(cell: Cell, measured: bool) -> _Look:
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
    return _Look(
        faults,
        np.round(grey).astype(np.uint8),
        (image.shape[1], image.shape[0], *measures_of(small)) if measured else (),
        pixel_hash(image),
        nucleus,
    )


def _decode(cell: Cell) -> tuple[NDArray[np.uint8], Sequence[str]]:
    if cell.row is not None:
        return read_image(cell), ()
    return decode_bytes(read_bytes(cell.path), cell.path)


def measures_of(picture: NDArray[np.uint8]) -> tuple[float, ...]:
    """The measures of one picture (S, S, 3) after width and height, in the order of `MEASURES`."""
    grey = picture @ _GREY
    values = picture.reshape(-1, 3).astype(np.float64)
    dark, light, bright = np.percentile(grey, (2, 98, 90))
    lab = rgb2lab(picture).reshape(-1, 3).mean(0)
    ground = np.median(values[grey.ravel() >= bright], axis=0)
    focus = _band_ratio(grey, (1, 2), (4, 8)), _band_ratio(grey, (1.5, 3), (6, 12))
    exposure = float(grey.mean()), float(dark), float(light), float((picture >= 254).mean())
    noise = float(np.var(grey - gaussian_filter(grey, 0.7)))
    detail = _detail(grey, (1.4, 2.8, 5.6), 0.0354 * noise), _detail(grey, (2, 4, 8), 0.0174 * noise)
    return (
        *detail,
        *focus,
        *exposure,
        float(lab[1]),
        float(lab[2]),
        *values.mean(0).tolist(),
        *ground.tolist(),
    )


def _detail(grey: NDArray[np.float32], sigmas: tuple[float, float, float], noise: float) -> float:
    """Log of the energy between the first two sigmas, less that of noise, over that between the last two.

    Args:
        grey: (S, S).
        sigmas: in pixels.
        noise: energy of noise between the first two; of white noise that is a fixed share of what lies below
            a sigma of 0.7 px.
    """
    fine, middle, coarse = (gaussian_filter(grey, sigma) for sigma in sigmas)
    energy = max(np.var(fine - middle) - noise, 0.0)
    return float(np.log((energy + 0.02) / (np.var(middle - coarse) + 0.02)))


def _band_ratio(grey: NDArray[np.float32], fine: tuple[float, float], coarse: tuple[float, float]) -> float:
    """Log of the energy of fine structures over that of coarse ones, each between two sigmas in pixels."""
    energy = [
        np.var(gaussian_filter(grey, low) - gaussian_filter(grey, high)) for low, high in (fine, coarse)
    ]
    return float(np.log((energy[0] + 0.01) / (energy[1] + 0.01)))


def _nucleus(cell: Cell, faults: list[Fault]) -> float:
    """Share of nucleus in the mask; a mask that cannot be used is added to `faults`."""
    try:
        mask = read_mask(cell)
    except DataError as error:
        faults.append(Fault(cell.mask or cell.path, f"mask: {error}", used=True))
        return float("nan")
    return float("nan") if mask is None else float((mask == 2).mean())
