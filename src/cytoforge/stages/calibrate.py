"""A trained classifier learns from held-out cells how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from skimage.measure import label as components

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes, write_atomic, write_json
from cytoforge.core.mask import NUCLEUS
from cytoforge.core.progress import progress
from cytoforge.core.randomness import unsigned
from cytoforge.data.cache import CachedCells, open_cache
from cytoforge.data.cells import CellSet, Part
from cytoforge.data.folder import read_image
from cytoforge.data.split import UNGROUPED, Split, check_split
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.calibration import abstention
from cytoforge.evaluation.conformal import Score
from cytoforge.evaluation.novelty import Kind, learn_known
from cytoforge.evaluation.trust import CALIBRATION, Calibration, Held, answer, judge
from cytoforge.evaluation.trust import calibrate as learn
from cytoforge.masks.unsupervised import unsupervised_masks
from cytoforge.report.calibration import calibration_picture
from cytoforge.stages.engines import Engine
from cytoforge.stages.trained_cells import cells_of
from cytoforge.stages.trusted import FOLDER, NAMES, REFERENCE, Trusted, open_plain

_PICTURE = "calibration.png"
_CHUNK = 256
_FRAMED = 60
_SIDE: Final[dict[str, Callable[[Sequence[int]], float]]] = {
    "crop": min,
    "pad": max,
    "stretch": lambda sides: float(np.sqrt(sides[0] * sides[1])),
}
"""Side of the square that a picture becomes, in pixels of the picture; of a stretched one by its area."""
_WITHOUT_GROUPS = (
    "No photo, slide or patient is known: each cell counted as one of its own, so sets and false alarms are "
    "promised for other cells of the same photos only; for a new photo nothing is promised. Not for "
    "diagnosis."
)


def calibrate(
    run: Path,
    *,
    data: Path | None = None,
    part: Part = "val",
    judged_on: Part = "test",
    coverages: Sequence[float] = (0.8, 0.9, 0.95),
    score: Score = "lac",
    by_class: bool = False,
    novelty: Kind = "neighbours",
    false_alarm: float = 0.05,
    checkpoint: str = "best",
    engine: Engine = "auto",
    seed: int = 0,
) -> Calibration:
    """Write calibration.json into a run, with features of its training cells and a picture in calibration/.

    Args:
        run: folder of `classify train`.
        data: its data folder, where that has moved.
        part: of the split to fit on; cells of it must not have chosen anything in training.
        judged_on: another part, to check the result.
        coverages: stated, each between 0 and 1.
        score: of the conformal sets.
        by_class: a threshold for each class.
        novelty: kind of the distance to training cells.
        false_alarm: share of cells of known kinds that may be called unknown.
        checkpoint: "best" or "newest".
        engine: that computes.
        seed: of comparisons with chance.

    Raises:
        CheckpointError: it is no run of a classifier.
        ConfigError: an option makes no sense.
        DataError: the cells cannot be had, or are too few.
    """
    _check(part, judged_on, coverages, false_alarm)
    trusted = open_plain(run, checkpoint, engine)
    cells, split = cells_of(trusted.run, data), Split.load(trusted.run.split_path)
    check_split(split, cells)
    cached = open_cache(cells, trusted.preparation).without_masks()
    train = _held(trusted, cached, split, "train", features_only=True)
    held = _held(trusted, cached, split, part)
    known = learn_known(train.features, train.labels, novelty)
    names = cached.select(split.names("train")).names
    reference = _reference(train.features, train.labels)
    found = learn(
        held,
        known,
        trusted.classes,
        part=part,
        weights_sha256=trusted.weights_sha256,
        reference_sha256=sha256_bytes(reference),
        coverages=coverages,
        score=score,
        by_class=by_class,
        false_alarm=false_alarm,
    )
    folder = trusted.run.path / FOLDER
    others = _held(trusted, cached, split, judged_on) if split.names(judged_on) else None
    judged = None if others is None else judge(found, known, others, judged_on, seed)
    framings = _framings(cells, split, trusted.preparation, seed)
    found = found.model_copy(update={"judged": judged, "framings": framings})
    if UNGROUPED in split.warnings:
        found = found.model_copy(update={"caveat": _WITHOUT_GROUPS})
    write_atomic(folder / REFERENCE, reference)
    write_json(folder / NAMES, {"names": names, "sha256": found.reference_sha256})
    write_json(trusted.run.path / CALIBRATION, found.model_dump(mode="json"))
    if judged is not None and others is not None:
        own = answer(found, known, others.logits, others.features, coverages[0])
        picture = calibration_picture(
            judged,
            abstention(others.labels, own.probabilities),
            own.distances,
            known.distances(held.features),
            found.novelty_threshold,
        )
        write_atomic(folder / _PICTURE, picture)
    return found


def _check(part: str, judged_on: str, coverages: Sequence[float], false_alarm: float) -> None:
    for name in (part, judged_on):
        if name not in ("train", "val", "test"):
            raise ConfigError(f'there is no part "{name}" of a split; choose val or test.')
    if part == "train":
        raise ConfigError(
            "--part train: these cells were learned from, so nothing can be calibrated on them."
        )
    if judged_on in ("train", part):
        raise ConfigError(
            f"--judged-on {judged_on}: these cells were learned from, so nothing can be judged on them; "
            f"choose {'test' if part == 'val' else 'val'}."
        )
    if not coverages or not all(0 < each < 1 for each in coverages):
        raise ConfigError(f"--coverages must lie between 0 and 1, got {', '.join(map(str, coverages))}.")
    if not 0 < false_alarm < 0.5:
        raise ConfigError(f"--false-alarm must lie between 0 and 0.5, got {false_alarm}.")


def _held(
    trusted: Trusted, cached: CachedCells, split: Split, part: Part, features_only: bool = False
) -> Held:
    """The cells of one part as the classifier sees them; where only features count, from one view."""
    names = split.names(part)
    if not names:
        raise DataError(f"{trusted.run.split_path} has no cells in {part}; choose another part.")
    own = cached.select(names)
    quick = trusted.quick
    if features_only:
        plain = replace(quick.fitted, recipe=quick.fitted.recipe.model_copy(update={"views": 1}))
        quick = replace(quick, fitted=plain)
    logits = np.empty((len(own), len(trusted.classes)), np.float32)
    features = np.empty((len(own), quick.fitted.network.width), np.float32)
    with progress(f"cells of {part}", len(own)) as advance:
        for start in range(0, len(own), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(own)))
            logits[rows], features[rows] = quick(own.read(rows))
            advance(len(rows))
    return Held(logits, features, own.labels, tuple(split.groups[name] for name in own.names))


def _reference(features: NDArray[np.float32], labels: NDArray[np.int64]) -> bytes:
    tensors = {"features": torch.from_numpy(features), "labels": torch.from_numpy(labels)}
    return cast(bytes, safetensors.torch.save(tensors))


def _framings(
    cells: CellSet, split: Split, preparation: Preparation, seed: int
) -> tuple[float, float, float] | None:
    """How much wider than their nucleus training pictures are once they are square: the quartiles."""
    trained = cells.select(split.names("train")).cells
    chosen = np.random.default_rng(unsigned(seed)).permutation(len(trained))[:_FRAMED]
    pictures = [read_image(trained[index]) for index in chosen]
    ratios = []
    for picture, mask in zip(pictures, unsupervised_masks(pictures), strict=True):
        sizes = np.bincount(components(mask == NUCLEUS).ravel())[1:]
        if len(sizes):
            ratios.append(_SIDE[preparation.fit](picture.shape[:2]) / np.sqrt(sizes.max()))
    if not ratios:
        return None
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)
