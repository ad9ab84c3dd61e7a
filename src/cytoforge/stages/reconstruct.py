"""Run of an autoencoder and cells in, pictures of reconstructions and interpolations out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.core.run import Run
from cytoforge.data.cache import CachedCells, open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, fingerprints
from cytoforge.data.transform import Preparation
from cytoforge.sampling.generator import Generator, open_generator
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.sampling.reconstruction import codes, decoded, way_between
from cytoforge.stages.trained_cells import cached_cells_of

SHOWN = 10
_NOTE = "rows in pairs: real cells, and below them what the autoencoder makes of their codes"
_WAY = "first and last real, between them the images of the codes from one to the other"


@dataclass(frozen=True)
class Reconstructed:
    """What `reconstruct` found.

    Attributes:
        cells: how many were reconstructed.
        error: root mean squared error of a value, in grey levels.
        error_of_mean: the same if each cell were replaced by the mean of the others of its class, for
            comparison.
        by_class: error in each class.
    """

    cells: int
    error: float
    error_of_mean: float
    by_class: dict[str, float]


def reconstruct(
    run: Path, out: Path, *, data: Path | None = None, checkpoint: str = "best", device: str = "cpu"
) -> Reconstructed:
    """Write reconstructions.png, interpolations.png and reconstructions.json.

    No cell that the run learned from is used: of its own data set the validation part, of another folder all
    cells but those whose content was in the training part.

    Args:
        run: folder of a training of an autoencoder.
        out: folder for the files.
        data: cells to reconstruct; validation cells of the run's own data set where not given.
        checkpoint: "best" or "newest".
        device: "cpu" or "cuda".

    Raises:
        CheckpointError: there is no usable checkpoint.
        ConfigError: the run is no autoencoder's, or the classes differ.
        DataError: the cells cannot be read.
    """
    opened = Run.open(run)
    generator = open_generator(opened, checkpoint, device)
    cells = _held_out(opened, data)
    if cells.shape.classes != generator.classes:
        raise ConfigError(
            f"the run's classes are {', '.join(generator.classes)}, those of the data "
            f"{', '.join(cells.shape.classes)}; give --data with the same classes."
        )
    images, labels = np.ascontiguousarray(cells.images), cells.labels
    made = decoded(generator, codes(generator, images, labels), labels)
    found = _compared(images, made, labels, generator.classes)
    marks = {"Generator": generator.method.name, "Contains": "real cells and reconstructions"}
    for name, picture in _pictures(generator, images, made, labels).items():
        write_atomic(out / name, encode_png(picture, marks))
    write_json(out / "reconstructions.json", vars(found))
    return found


def _held_out(run: Run, data: Path | None) -> CachedCells:
    """Validation cells of the run's own data, or those of another folder that were not learned from."""
    split = Split.load(run.split_path)
    if data is not None and data.resolve() != Path(run.config["data"]["root"]).resolve():
        cells = open_cells(data)
        learned = {split.hashes[name] for name in split.names("train")}
        unseen = [name for name, content in fingerprints(cells).items() if content not in learned]
        if not unseen:
            raise DataError(f"the run was trained on all cells of {data}; give --data FOLDER with others.")
        return open_cache(cells, Preparation.model_validate(run.config["preparation"])).select(unseen)
    names = split.names("val")
    if not names:
        raise DataError(f"{run.split_path} has no validation cells; give --data FOLDER with other cells.")
    return cached_cells_of(run).select(names)


def _compared(
    images: NDArray[np.uint8], made: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> Reconstructed:
    real = images.astype(np.float32)
    squares = ((made - real) ** 2).mean((1, 2, 3))
    means = _means_of_others(real, labels)
    by_class = {
        name: float(np.sqrt(squares[labels == label].mean()))
        for label, name in enumerate(classes)
        if (labels == label).any()
    }
    return Reconstructed(
        len(labels), float(np.sqrt(squares.mean())), float(np.sqrt(((means - real) ** 2).mean())), by_class
    )


def _means_of_others(images: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each image (N, R, R, 3) the mean of the others of its class; of all where it is the only one."""
    means = images.astype(np.float64)
    for label in np.unique(labels):
        own = labels == label
        pool = images[own] if own.sum() > 1 else images
        if len(pool) > 1:
            means[own] = (pool.sum(axis=0, dtype=np.float64) - images[own]) / (len(pool) - 1)
    return means


def _pictures(
    generator: Generator, images: NDArray[np.uint8], made: NDArray[np.uint8], labels: NDArray[np.int64]
) -> dict[str, NDArray[np.uint8]]:
    pairs, ways = {}, {}
    for label, name in enumerate(generator.classes):
        own = np.flatnonzero(labels == label)
        if len(own):
            pairs[name] = images[own[:SHOWN]]
            pairs[f"{name} →"] = made[own[:SHOWN]]
        if len(own) > 1:
            ways[name] = way_between(generator, images[own[[0, -1]]], label)
    pictures = {"reconstructions.png": labelled_rows(pairs, _NOTE)}
    if ways:
        pictures["interpolations.png"] = labelled_rows(ways, _WAY)
    return pictures
