"""A classifier in one call: recipe and labelled images in, a function of images out.

Every recipe has a fixed number of optimiser steps, whatever the number of images, and nothing is chosen
while training: no early stopping, no best checkpoint. So regimes of a study take equal steps, and the
validation part of a split stays unseen for calibration.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoforge.core.batch import Batch, DataShape, to_float, to_uint8
from cytoforge.core.checkpoint import load_checkpoint, save_checkpoint
from cytoforge.core.device import fastest_precision
from cytoforge.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from cytoforge.core.files import sha256_bytes
from cytoforge.core.png import pixel_hash
from cytoforge.core.progress import progress
from cytoforge.core.randomness import derive, image_seeds, normal
from cytoforge.core.run import Run
from cytoforge.core.settings import checked
from cytoforge.data.augment import augment
from cytoforge.evaluation.recipes import Recipe, weights_sha256
from cytoforge.networks.efficientnet_lite import fold_batch_norm
from cytoforge.networks.image_classifier import ImageClassifier, StandardisedLinear, over_views
from cytoforge.tasks.classify import Classifier, ClassifierConfig, LinearHead, build_network
from cytoforge.training.loop import Loop, LoopConfig, TrainingData, Until
from cytoforge.training.state import load_modules, pack

METHOD = "classifier"
"""What config.json of a classifier's run says under "method"."""

_BATCH = 16
"""Images at a time: few enough that feature maps stay in the processor's cache."""

_SAME = 1e-3

_OTHER_CALL = (
    "Give the same recipe, images, labels, classes, seed and start, or choose another folder. A run that has "
    "None for images and labels was made by an earlier version, which did not note them, or by cytoforge "
    "classify train."
)


@dataclass(frozen=True)
class Fitted:
    """A trained classifier.

    Attributes:
        recipe: how it was trained.
        classes: names, in the order of its outputs.
        network: in evaluation mode, from images (N, 3, R, R) in [-1, 1] to logits.
        weights_sha256: of the checkpoint's tensors; empty where there is none.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    network: ImageClassifier
    weights_sha256: str = ""

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, K) of images (N, H, W, 3), which are resized to the recipe's resolution."""
        return self._each(images, self._logits, len(self.classes))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (N, K) of images (N, H, W, 3); rows add up to 1."""
        found: NDArray[np.float32] = torch.from_numpy(self.logits(images)).softmax(1).numpy()
        return found

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the last layer sees (N, D) of images (N, H, W, 3)."""
        return self._each(images, self.folded.features, self.network.width)

    @cached_property
    def folded(self) -> ImageClassifier:
        """The network with folded batch norm where that changes no answer: a third to a half of the time."""
        return _folded(self.network, self.recipe.resolution)

    def _logits(self, images: Tensor) -> Tensor:
        return over_views(self.folded, images, self.recipe.views)

    def _each(self, images: NDArray[np.uint8], compute: Any, width: int) -> NDArray[np.float32]:
        _check_images(images)
        found = np.empty((len(images), width), np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                part = slice(start, start + _BATCH)
                found[part] = compute(self.prepared(images[part])).float().numpy()
        return found

    def prepared(self, images: NDArray[np.uint8]) -> Tensor:
        """Images (N, H, W, 3) as network input (N, 3, R, R) in [-1, 1]."""
        return to_float(_resized(images, self.recipe.resolution)).to(memory_format=torch.channels_last)


def fit(
    recipe: Recipe,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    seed: int = 0,
    folder: Path | None = None,
    *,
    start: Fitted | None = None,
) -> Fitted:
    """Train a classifier.

    Args:
        recipe: how.
        images: (N, H, W, 3) uint8; resized to the recipe's resolution.
        labels: (N,) index of each image's class.
        classes: names; a class may be without images.
        seed: of weights, order and augmentation. The same call gives the same classifier.
        folder: of a run that is kept, and gone on with by the same call where it was interrupted; None keeps
            nothing.
        start: trained classifier of the same architecture to start from (its head too where classes agree).

    Raises:
        DataError: images or labels are not as said.
        ConfigError: recipe and data do not fit, or `folder` holds the run of another call.
        TrainingError: NaN or divergence.
        KeyboardInterrupt: stopped by the user; saved where there is a folder.
    """
    _check_images(images)
    if (
        images.shape[0] != len(labels)
        or not len(labels)
        or not 0 <= labels.min() <= labels.max() < len(classes)
    ):
        raise DataError(
            f"{len(images)} images, {len(labels)} labels and {len(classes)} classes do not fit each other."
        )
    cells = Pictures(_resized(images, recipe.resolution), labels, tuple(classes))
    config = {"seed": seed, "classes": list(classes), "cells": len(labels)}
    if folder is not None:
        seen = {**config, **_seen(recipe, images, labels, start)}
        return fit_run(recipe, cells, _begun(folder, recipe, seen), seed, start=start)
    with tempfile.TemporaryDirectory() as temporary:
        run = Run.create(Path(temporary) / "run", run_config(recipe, config))
        return fit_run(recipe, cells, run, seed, start=start, kept=False)


def fit_run(
    recipe: Recipe,
    cells: TrainingData,
    run: Run,
    seed: int,
    *,
    watched: Pictures | None = None,
    start: Fitted | None = None,
    kept: bool = True,
) -> Fitted:
    """Train a classifier in a run folder.

    Args:
        recipe: how.
        cells: training cells at the recipe's resolution.
        run: where to; gone on with where it holds checkpoints.
        seed: of weights, order and augmentation.
        watched: unseen cells whose accuracy and loss are logged while training; they choose nothing.
        start: classifier to start from.
        kept: whether the run shall be found again: pictures and checkpoints are written.
    """
    torch.manual_seed(derive(seed, "weights"))
    method = Classifier(_settings(recipe), cells.shape)
    if start is not None:
        _start_from(method.network, start, cells.shape.classes)
    if recipe.mode == "linear":
        _fit_head(recipe, method, cells, run, seed, kept)
        return Fitted(recipe, cells.shape.classes, _ready(method.network))
    watch = None if watched is None else _Watch(recipe, watched)
    settings = LoopConfig.model_validate(run.config["loop"])
    frozen = frozenset(f"classifier/{name}" for name in method.network.frozen)
    loop = Loop(method, cells, settings, run, seed, _fabric(), watch, frozen)
    if watch is not None:
        watch.loop = loop
    if any(run.checkpoints.glob("[0-9]*")):
        loop.resume()
    if kept:
        loop.train(Until(images=recipe.images))
    else:
        _take_steps(loop, recipe)
    return Fitted(recipe, cells.shape.classes, _averaged(method, loop))


def open_classifier(run: Run | Path, checkpoint: str = "best") -> Fitted:
    """The classifier of a run folder.

    Args:
        run: folder of a `classify train` or of `fit`.
        checkpoint: "best" or "newest"; the same, for nothing is chosen while training.

    Raises:
        CheckpointError: it is no run of a classifier, or has no intact checkpoint.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    if opened.config.get("method") != METHOD:
        raise CheckpointError(
            f"{opened.path} is a run of {opened.config.get('method')}, not of a classifier; "
            "make one with: cytoforge classify train DATA --run RUN."
        )
    recipe = checked(Recipe, opened.config["recipe"], f"{opened.path}/config.json")
    classes = tuple(opened.config["classes"])
    kept = load_checkpoint(opened.checkpoints, checkpoint)
    untrained = recipe.model_copy(update={"weights": "none"})
    network = build_network(_settings(untrained), DataShape(recipe.resolution, classes))
    load_modules(kept.tensors, "average", {"classifier": network})
    return Fitted(recipe, classes, _ready(network), kept.sha256)


def run_config(recipe: Recipe, facts: dict[str, Any]) -> dict[str, Any]:
    """The content of a classifier's config.json: recipe, and the same by the parts of every run."""
    return {
        "method": METHOD,
        "preset": "default",
        "recipe": recipe.model_dump(mode="json"),
        "settings": _settings(recipe).model_dump(mode="json"),
        "loop": loop_config(recipe).model_dump(mode="json"),
        "preparation": recipe.preparation.model_dump(mode="json"),
        "mask_channels": 0,
        **facts,
    }


def loop_config(recipe: Recipe) -> LoopConfig:
    """The loop's settings of a recipe; a linear layer learns from features: float32, not turned."""
    linear = recipe.mode == "linear"
    precision = "32-true" if linear else recipe.precision
    often = max(recipe.batch, recipe.images // 10)
    return LoopConfig(
        batch=recipe.batch,
        balanced=recipe.balanced,
        symmetry="" if linear else recipe.symmetry,
        average_half_life=recipe.average_half_life,
        log_every=max(recipe.batch, recipe.images // 50),
        measure_every=often,
        measure_images=2,
        save_every=often,
        precision=fastest_precision() if precision == "auto" else precision,
    )


@dataclass(frozen=True)
class Pictures:
    """Labelled images in memory, as the loop takes them.

    Attributes:
        images: (N, R, R, 3) uint8.
        labels: (N,) int64.
        classes: names.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def shape(self) -> DataShape:
        """Resolution and classes."""
        return DataShape(self.images.shape[1], self.classes)

    def batch(self, indices: NDArray[np.int64], seeds: NDArray[np.int64]) -> Batch:
        """The images at `indices` (n,) with one random seed (n,) for each."""
        labels = torch.from_numpy(self.labels[indices])
        return Batch(to_float(self.images[indices]), labels, torch.from_numpy(np.asarray(seeds, np.int64)))


class _Watch:
    """How the averaged network does on unseen cells, as the loop's measurement."""

    def __init__(self, recipe: Recipe, cells: Pictures) -> None:
        self.recipe, self.cells = recipe, cells
        self.loop: Loop | None = None

    def __call__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> dict[str, float]:
        """Accuracy and cross-entropy; the loop's own images and labels are not looked at."""
        assert self.loop is not None
        network = self.loop.average.networks["classifier"]
        assert isinstance(network, ImageClassifier)
        recipe = self.recipe.model_copy(update={"views": 1})
        logits = torch.from_numpy(Fitted(recipe, self.cells.classes, network).logits(self.cells.images))
        wanted = torch.from_numpy(self.cells.labels)
        return {
            "accuracy": float((logits.argmax(1) == wanted).float().mean()),
            "cross_entropy": float(nn.functional.cross_entropy(logits, wanted)),
        }


@dataclass(frozen=True)
class _Features:
    """Features of several copies of labelled images; an image's seed chooses the copy."""

    values: Tensor
    labels: NDArray[np.int64]
    shape: DataShape

    def batch(self, indices: NDArray[np.int64], seeds: NDArray[np.int64]) -> Batch:
        """Features (n, D, 1, 1) in place of images."""
        copies = torch.from_numpy(np.asarray(seeds, np.int64) % len(self.values))
        chosen = self.values[copies, torch.from_numpy(indices)][:, :, None, None]
        return Batch(
            chosen, torch.from_numpy(self.labels[indices]), torch.from_numpy(np.asarray(seeds, np.int64))
        )


def _seen(
    recipe: Recipe, images: NDArray[np.uint8], labels: NDArray[np.int64], start: Fitted | None
) -> dict[str, str | None]:
    """What tells a call of `fit` from others, besides recipe, seed and classes, for config.json."""
    return {
        "images_sha256": sha256_bytes("".join(map(pixel_hash, images)).encode()),
        "labels_sha256": sha256_bytes(np.asarray(labels, np.int64).tobytes()),
        "start_sha256": None if start is None else _content(start),
        **weights_sha256(recipe),
    }


def _content(fitted: Fitted) -> str:
    """SHA-256 of a classifier's classes and weights."""
    weights = fitted.network.state_dict()
    lines = [f"{name}\t{sha256_bytes(value.numpy().tobytes())}" for name, value in sorted(weights.items())]
    return sha256_bytes("\n".join([repr(fitted.classes), *lines]).encode())


def _begun(folder: Path, recipe: Recipe, facts: dict[str, Any]) -> Run:
    """The run in a folder, which is new or was begun with the same recipe and facts."""
    config = run_config(recipe, facts)
    if not (folder / "config.json").is_file():
        return Run.create(folder, config)
    run = Run.open(folder)
    asked = {name: config[name] for name in ("method", "recipe", *facts)}
    run.require_same(asked, {"recipe": Recipe}, _OTHER_CALL)
    return run


def _fit_head(
    recipe: Recipe, method: Classifier, cells: TrainingData, run: Run, seed: int, kept: bool
) -> None:
    """Train the head of `method`'s network, in place, on features that are computed once."""
    network = _ready(method.network)
    values = _copies(recipe, _folded(network, recipe.resolution), cells, seed)
    if isinstance(network.head, StandardisedLinear):
        network.head.fit_scale(values.flatten(0, 1))
    network.head.requires_grad_(True)
    features = _Features(values, cells.labels, DataShape(1, cells.shape.classes))
    learner = LinearHead(_settings(recipe), features.shape, network.head)
    loop = Loop(learner, features, loop_config(recipe), run, seed, _fabric())
    _take_steps(loop, recipe)
    network.head.load_state_dict(loop.average.networks["head"].state_dict())
    network.requires_grad_(False)
    if kept:
        tensors = pack({}, {"classifier": network}, {})
        save_checkpoint(run.checkpoints, tensors, {"seen": loop.seen, "steps": loop.steps, "score": None})


def _copies(recipe: Recipe, network: ImageClassifier, cells: TrainingData, seed: int) -> Tensor:
    """Features (copies, N, D): of the images themselves, then of changed copies."""
    count = len(cells.labels)
    places = [(copy, start) for copy in range(recipe.copies) for start in range(0, count, _BATCH)]
    values = torch.empty(recipe.copies, count, network.width)
    with torch.inference_mode(), progress("features", recipe.copies * count) as advance:
        for copy, start in places:
            rows = np.arange(start, min(start + _BATCH, count))
            batch = cells.batch(rows, image_seeds(derive(seed, "copies", copy), rows))
            images = batch.images
            if copy:
                images = augment(images, recipe.symmetry, batch.seeds, "symmetry")
                images = augment(images, recipe.augment, batch.seeds, "colours", strength=recipe.strength)
            levels = images.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
            values[copy, rows] = network.features(levels)
            advance(len(rows))
    return values


def _take_steps(loop: Loop, recipe: Recipe) -> None:
    with progress("classifier", recipe.steps) as advance:
        while loop.steps < recipe.steps:
            loop.step()
            advance(1)
    averages = [value for network in loop.average.networks.values() for value in network.parameters()]
    if not all(value.isfinite().all() for value in averages):
        raise TrainingError("the classifier met NaN or infinity. Lower its learning_rate.")


def _folded(network: ImageClassifier, resolution: int) -> ImageClassifier:
    plain = copy.deepcopy(network).cpu().eval()
    quick = fold_batch_norm(copy.deepcopy(plain))
    assert isinstance(quick, ImageClassifier)
    images = normal(np.arange(2), (3, resolution, resolution), "folded").clamp(-1, 1)
    with torch.inference_mode():
        same = torch.allclose(plain(images), quick(images), atol=_SAME)
    return _ready(quick if same else plain)


def _settings(recipe: Recipe) -> ClassifierConfig:
    return ClassifierConfig.model_validate(
        {name: getattr(recipe, name) for name in ClassifierConfig.model_fields}
    )


def _fabric() -> Fabric:
    return Fabric(accelerator="auto" if torch.cuda.is_available() else "cpu", devices=1)


def _averaged(method: Classifier, loop: Loop) -> ImageClassifier:
    network = method.replaced({**loop.modules, **loop.average.networks}).networks["classifier"]
    assert isinstance(network, ImageClassifier)
    return _ready(network)


def _ready(network: ImageClassifier) -> ImageClassifier:
    ready: ImageClassifier = network.cpu().eval().requires_grad_(False)
    return ready.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _start_from(network: ImageClassifier, start: Fitted, classes: tuple[str, ...]) -> None:
    """Copy the weights of a trained classifier; its head only where it knows the same classes."""
    same = start.classes == classes
    state = {
        key: value for key, value in start.network.state_dict().items() if same or not key.startswith("head.")
    }
    own = network.state_dict()
    odd = [key for key, value in own.items() if key in state and state[key].shape != value.shape]
    odd += [key for key in own if key not in state and not key.startswith("head.")]
    if odd:
        raise ConfigError(
            f"a {start.recipe.architecture} at {start.recipe.resolution} px cannot be the start of this "
            f"classifier ({odd[0]} does not fit); use the same architecture, head and resolution."
        )
    network.load_state_dict({**own, **state})


def _check_images(images: NDArray[np.uint8]) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise DataError(f"expected images (N, H, W, 3) of uint8, got {images.shape} of {images.dtype}.")


def _resized(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Images (N, side, side, 3), antialiased bicubic."""
    if images.shape[1:3] == (side, side):
        return images
    parts = []
    for start in range(0, len(images), _BATCH):
        levels = to_float(np.ascontiguousarray(images[start : start + _BATCH]))
        parts.append(
            to_uint8(nn.functional.interpolate(levels, (side, side), mode="bicubic", antialias=True))
        )
    return np.concatenate(parts) if parts else np.empty((0, side, side, 3), np.uint8)
