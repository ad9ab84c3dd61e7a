"""Images in `.npz` archives, read row by row so that the archive never has to fit into memory."""

from __future__ import annotations

import threading
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import DataError
from cytoforge.data.images import MAX_PIXELS

_PARTS = ("train", "val", "test")
_HINT = "expected a MedMNIST archive with train_images, train_labels and the same for val and test"


def archive_parts(path: Path) -> dict[str, list[str]]:
    """Class names of the rows of each part, as text of equal length so that they sort by number.

    Raises:
        DataError: not such an archive, several labels per image, or counts that do not agree.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = list(archive)
            present = [part for part in _PARTS if f"{part}_images" in found]
            labels = {part: np.asarray(archive[f"{part}_labels"]) for part in present}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: {_HINT} ({error})") from error
    if not present:
        raise DataError(f"{path}: {_HINT}, found {', '.join(found[:8]) or 'nothing'}.")
    for part, values in labels.items():
        count = len(_Rows(path, f"{part}_images"))
        if values.size != count or values.dtype.kind not in "iub":
            raise DataError(
                f"{path}: {part}_labels has shape {values.shape} of {values.dtype} for {count} images; "
                "expected one whole number for each image (several labels per image are not supported)."
            )
    digits = len(str(max(int(values.max(initial=0)) for values in labels.values())))
    return {part: [f"{int(value):0{digits}d}" for value in values.ravel()] for part, values in labels.items()}


def read_row(path: Path, part: str, row: int) -> NDArray[np.uint8]:
    """One image of an archive as (H, W, 3) uint8; fastest when rows are asked for in rising order.

    Raises:
        DataError: the archive is damaged or has no such row.
    """
    image = _rows(path, f"{part}_images", path.stat().st_mtime_ns).read(row)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


class _Rows:
    """Rows of one array of an archive, streamed; going back starts again from the beginning."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self._lock = threading.Lock()
        self._stream: IO[bytes] | None = None
        self._next = 0
        self._open()

    def __len__(self) -> int:
        return self._count

    def read(self, row: int) -> NDArray[np.uint8]:
        if not 0 <= row < self._count:
            raise DataError(f"{self.path}: {self.key} has {self._count} rows, row {row} was asked for")
        with self._lock:
            try:
                if self._stream is None or row < self._next:
                    self._open()
                assert self._stream is not None
                size = int(np.prod(self._shape))
                for _ in range(row - self._next):
                    self._stream.read(size)
                content = self._stream.read(size)
                self._next = row + 1
            except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise DataError(f"{self.path}: {self.key} is damaged at row {row} ({error})") from error
        if len(content) < size:
            raise DataError(f"{self.path}: {self.key} is cut off at row {row}")
        return np.frombuffer(content, np.uint8).reshape(self._shape)

    def _open(self) -> None:
        try:
            self._stream = zipfile.ZipFile(self.path).open(f"{self.key}.npy")  # noqa: SIM115 - kept open
            version = np.lib.format.read_magic(self._stream)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = header(self._stream)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: {self.key} cannot be read ({error}); {_HINT}") from error
        pictures = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
        if (
            not pictures
            or dtype != np.uint8
            or fortran
            or np.prod(shape[1:3]) > MAX_PIXELS
            or min(shape[1:3]) < 1
        ):
            raise DataError(
                f"{self.path}: {self.key} has shape {shape} of {dtype}; "
                "expected uint8 (N, H, W) or (N, H, W, 3)"
            )
        self._count, self._shape, self._next = shape[0], shape[1:], 0


@lru_cache(maxsize=3)
def _rows(path: Path, key: str, _modified: int) -> _Rows:
    return _Rows(path, key)
