"""Picture files for a classifier: which there are, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.data.images import EXTENSIONS, decode
from cytoforge.data.transform import Preparation, prepare

_AHEAD, _BATCH = 64, 32


def pictures_in(source: Path, out: Path | None = None) -> list[Path]:
    """The picture, or all pictures below a folder, sorted.

    Args:
        source: a picture or a folder.
        out: folder for results; what lies below it is no picture to look at.

    Raises:
        ConfigError: `out` is the folder itself.
        DataError: there is no picture.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source} does not exist; give a picture or a folder of pictures.")
    base, made = source.resolve(), None if out is None else out.resolve()
    if made == base:
        raise ConfigError(
            f"--out {out} is the folder of the pictures: results would be taken for pictures the next time. "
            f"Choose another, such as {source / 'answers'}."
        )
    within = made if made is not None and made.is_relative_to(base) else None
    found = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and not (within and path.parent.resolve().is_relative_to(within))
    )
    if not found:
        raise DataError(f"{source} holds no picture ({', '.join(sorted(EXTENSIONS))}).")
    return found


def prepared(
    paths: Sequence[Path], preparation: Preparation, faults: dict[str, str]
) -> Iterator[tuple[list[Path], NDArray[np.uint8]]]:
    """Pictures (n, R, R, 3) in batches, decoded in threads while earlier ones are looked at.

    Args:
        paths: the files.
        preparation: how they become input.
        faults: gets an entry for each that cannot be used.
    """

    def read(path: Path) -> NDArray[np.uint8] | DataError:
        try:
            return prepare(decode(path), preparation)
        except DataError as error:
            return error

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(8, available)) as pool:
        waiting = iter(paths)
        queue: list[tuple[Path, Future[NDArray[np.uint8] | DataError]]] = []
        names: list[Path] = []
        images: list[NDArray[np.uint8]] = []
        while True:
            queue += [(path, pool.submit(read, path)) for path in islice(waiting, _AHEAD - len(queue))]
            if not queue:
                break
            path, future = queue.pop(0)
            result = future.result()
            if isinstance(result, DataError):
                faults[str(path)] = str(result)
            else:
                names.append(path)
                images.append(result)
            if len(images) == _BATCH:
                yield names, np.stack(images)
                names, images = [], []
        if images:
            yield names, np.stack(images)
