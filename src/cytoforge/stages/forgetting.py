"""What a refined model has lost of the classes that it knew before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import write_atomic, write_json
from cytoforge.core.mask import UNKNOWN
from cytoforge.core.png import encode_png
from cytoforge.core.run import ANOTHER_OUT, Run, require_empty
from cytoforge.data.cache import CachedCells, cache_directory, mask_channels
from cytoforge.data.split import Split
from cytoforge.evaluation.classes import train_classifier
from cytoforge.evaluation.distances import unit_length
from cytoforge.evaluation.diversity import pairwise_distance
from cytoforge.evaluation.features import Extractor, extract, fair_extractor, open_extractor
from cytoforge.evaluation.fidelity import kernel_distance_interval
from cytoforge.masks.unsupervised import unsupervised_mask
from cytoforge.sampling.generator import Generator, open_generator
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.stages.compared import flattery, opponent_of
from cytoforge.stages.trained_cells import cached_cells_of

_COLUMNS = 10
_FEWEST = 10


@dataclass(frozen=True)
class Remembered:
    """One class of the first run, drawn by one model.

    Attributes:
        kernel_distance: to real cells of the class that the first run held back.
        low: lower end of its 95 % interval.
        high: upper end.
        pairwise_distance: how different two images are, over that of two real cells.
        recognised: share that a classifier of the first run's training cells takes for the class.
    """

    kernel_distance: float
    low: float
    high: float
    pairwise_distance: float
    recognised: float


@dataclass(frozen=True)
class Forgetting:
    """One class before and after refinement.

    Attributes:
        before: by the first run.
        after: by the refined run; None where it does not know the class any more.
        forgotten: the kernel distance rose by more than both intervals explain, or the class is gone.
        moved: how far the image of a seed moved, as one minus the cosine of features, over the pairwise
            distance of real cells; 0 for none, about 1 for images that have nothing in common any more.
    """

    before: Remembered
    after: Remembered | None
    forgotten: bool
    moved: float | None


@dataclass(frozen=True)
class Refinement:
    """What refinement did to the classes of the first run.

    Attributes:
        classes: class -> what became of it; those with fewer than ten unseen real cells are left out.
        extractor: name of the network whose features were compared.
        warnings: what a reader must know before quoting a number.
    """

    classes: dict[str, Forgetting]
    extractor: str
    warnings: tuple[str, ...]


def forgetting(
    run: Path,
    out: Path,
    *,
    real: Path | None = None,
    base: Path | None = None,
    per_class: int = 100,
    extractor: str | None = None,
) -> Refinement:
    """Draw the same seeds with both models and write `out`/forgetting.json and `out`/forgetting.png.

    Models that paint onto masks, follow edges or translate images get those of cells that the first run held
    back. Where these have no masks, masks are found in them without annotation.

    Args:
        run: the refined run.
        out: new or empty folder.
        real: cells that the first run was trained on; where it found them if not given.
        base: the first run; as `run` names it if not given.
        per_class: images of each class from each model.
        extractor: name of the network whose features are compared; where not given the default, or
            MobileNetV2 where one of the runs trained against the default and it is installed.

    Returns:
        What became of each class, and by which network.

    Raises:
        ConfigError: `run` is no refinement, or no class has enough unseen cells.
        DataError: the cells are not those of the first run.
    """
    if per_class < _FEWEST:
        raise ConfigError(f"--per-class: give {_FEWEST} or more images, not {per_class}.")
    require_empty(out, advice=ANOTHER_OUT)
    refined = Run.open(run)
    if base is None and "base" not in refined.config:
        raise ConfigError(
            f"{run} was not started from another run; give the one to compare with: --base RUN."
        )
    first = Run.open(base or Path(refined.config["base"]))
    cells, split = cached_cells_of(first, real), Split.load(first.split_path)
    generators = open_generator(first), open_generator(refined)
    if generators[0].shape.resolution != generators[1].shape.resolution:
        raise ConfigError("the two runs make images of different sizes, which cannot be compared.")
    opponents = [opponent_of(each.config["method"], each) for each in (first, refined)]
    network = fair_extractor(*opponents) if extractor is None else open_extractor(extractor)
    warnings = tuple(flattery(network, *opponents))
    held = cells.select([*split.names("val"), *split.names("test")])
    judge = _Judge(cells.select(split.names("train")), held, split, network)
    found: dict[str, Forgetting] = {}
    rows: dict[str, NDArray[np.uint8]] = {}
    for label, name in enumerate(cells.shape.classes):
        if judge.unseen(label) >= _FEWEST:
            images = [_drawn(generator, held, name, per_class) for generator in generators]
            found[name] = judge.compare(label, *images)
            rows |= _rows(name, images)
    if not found:
        raise ConfigError(
            f"no class has {_FEWEST} cells that {first.path} held back; nothing can be measured."
        )
    write_json(
        out / "forgetting.json",
        {
            "before": str(first.path),
            "after": str(refined.path),
            "extractor": network.name,
            "warnings": warnings,
            "images": per_class,
            "classes": {name: asdict(item) for name, item in found.items()},
        },
    )
    note = "synthetic; the same seeds in both rows of a class"
    write_atomic(out / "forgetting.png", encode_png(labelled_rows(rows, note), {"Synthetic": "true"}))
    return Refinement(found, network.name, warnings)


class _Judge:
    """Real cells of the first run, and how a class is measured against them."""

    def __init__(self, train: CachedCells, held: CachedCells, split: Split, network: Extractor) -> None:
        self.network = network
        self.labels, self.held = held.labels, extract(held.images, network, cache_directory())
        self.groups = np.array([split.groups[name] for name in held.names])
        features = extract(train.images, network, cache_directory())
        self.classifier = train_classifier(features, train.labels)

    def unseen(self, label: int) -> int:
        """Cells of a class that the first run held back."""
        return int((self.labels == label).sum())

    def compare(
        self, label: int, before: NDArray[np.uint8] | None, after: NDArray[np.uint8] | None
    ) -> Forgetting:
        """One class as both models draw it."""
        assert before is not None
        first, earlier = self._measure(label, before)
        if after is None:
            return Forgetting(earlier, None, True, None)
        second, later = self._measure(label, after)
        # Half the squared distance of unit vectors is one minus their cosine, and 0 for two zeros.
        apart = ((unit_length(first) - unit_length(second)) ** 2).sum(1) / 2
        moved = float(apart.mean() / pairwise_distance(self.held[self.labels == label]))
        return Forgetting(earlier, later, later.low > earlier.high, moved)

    def _measure(self, label: int, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], Remembered]:
        own = self.labels == label
        real, fake = self.held[own], extract(images, self.network)
        value, low, high = kernel_distance_interval(real, fake, tuple(self.groups[own]))
        recognised = self.classifier.predict(fake) == label
        spread = pairwise_distance(fake) / pairwise_distance(real)
        return fake, Remembered(value, low, high, spread, float(recognised.mean()))


def _drawn(generator: Generator, held: CachedCells, name: str, count: int) -> NDArray[np.uint8] | None:
    if name not in generator.classes:
        return None
    condition = _condition(generator, held, name, count)
    return generator.images(generator.classes.index(name), range(count), condition=condition)


def _condition(generator: Generator, held: CachedCells, name: str, count: int) -> Tensor | None:
    """What the images of a class are drawn from: cells that were held back, in turn."""
    method = generator.method
    if method.draws_masks():
        return None
    sources = method.source_labels(torch.tensor([generator.classes.index(name)]))
    source = name if sources is None else generator.classes[int(sources[0])]
    own = [index for index, label in enumerate(held.labels) if held.shape.classes[label] == source]
    if not own:
        raise ConfigError(f"no cell of class {source!r} was held back, to be translated into {name!r}.")
    rows = np.array(own)[np.arange(count) % len(own)]
    cells = held.without_masks().batch(rows, np.arange(count))
    masks = _masks(held, rows) if generator.shape.mask_channels else None
    return method.condition(replace(cells, masks=masks))


def _masks(held: CachedCells, rows: NDArray[np.int64]) -> Tensor:
    """Masks (n, 2, R, R) of some cells, found without annotation where they have none."""
    given = [None] * len(rows) if held.masks is None else held.masks[rows]
    levels = [
        unsupervised_mask(image) if mask is None or (mask == UNKNOWN).all() else mask
        for image, mask in zip(held.read(rows), given, strict=True)
    ]
    return mask_channels(np.stack(levels))


def _rows(name: str, images: list[NDArray[np.uint8] | None]) -> dict[str, NDArray[np.uint8]]:
    rows = zip((f"{name}: before", f"{name}: after"), images, strict=True)
    return {title: made[:_COLUMNS] for title, made in rows if made is not None}
