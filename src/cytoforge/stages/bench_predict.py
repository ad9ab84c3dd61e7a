"""How fast files become answers: ours beside the network as timm gives it, alternating in one process."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.core.device import computing_threads
from cytoforge.core.errors import DataError
from cytoforge.data.images import decode
from cytoforge.data.phantom.folder import write_phantom
from cytoforge.data.transform import Preparation, prepare
from cytoforge.evaluation.calibration import softmax
from cytoforge.evaluation.classifiers import Fitted
from cytoforge.evaluation.distances import Floats
from cytoforge.evaluation.recipes import RECIPES
from cytoforge.networks.backbones import Backbone
from cytoforge.networks.image_classifier import over_views
from cytoforge.stages.bench import alternate
from cytoforge.stages.engines import Engine, fast_classifier
from cytoforge.stages.pictures import pictures_in, prepared
from cytoforge.stages.predict import predict
from cytoforge.stages.trusted import open_trusted

_BATCH = 32
_CLASSES = 5


@dataclass(frozen=True)
class PredictBench:
    """Speed from files on disk to answers, median over the rounds.

    Attributes:
        ours: pictures per second.
        plain: pictures per second of timm's network, eager, pictures decoded one after the other.
        ratio: ours / plain.
        engine: that ours used.
        views: flips and turns of each picture that were looked at, by both.
        threads: of the network as timm gives it.
        difference: largest difference of a probability.
        same: share of pictures given the same class; 1 unless two classes tie.
    """

    ours: float
    plain: float
    ratio: float
    engine: str
    views: int
    threads: int
    difference: float
    same: float


def bench_predict(
    resolution: int = 128,
    pictures: int = 128,
    rounds: int = 5,
    views: int = 1,
    engine: Engine = "auto",
    source: Path | None = None,
) -> PredictBench:
    """Time how files become logits: reading, decoding, preparing and the network.

    Ours is the way of `predict`: the network on one thread, decoding on the others. The network is
    EfficientNet-Lite0 with a random last layer: speed does not depend on what it learned. Opening the
    classifier, sets, unknown kinds and written files are not timed.

    Args:
        resolution: of the network's input, in pixels.
        pictures: how many; each round answers all of them.
        rounds: of which the median counts; one more warms up.
        views: 1, or 8 to average all flips and quarter turns.
        engine: of ours.
        source: folder of pictures; simulated cells of 160 px where not given.
    """
    torch.manual_seed(0)
    recipe = RECIPES["lite0"].model_copy(update={"resolution": resolution, "views": views})
    network = Backbone(recipe.architecture, _CLASSES, resolution).eval().requires_grad_(False)
    fitted = Fitted(recipe, tuple("abcde"), network)
    eager = _as_timm_gives_it(fitted)
    with tempfile.TemporaryDirectory() as folder:
        files = pictures_in(source or _simulated(Path(folder), pictures))[:pictures]
        with computing_threads(1):
            quick = fast_classifier(fitted, engine, Path(folder))

        def ours() -> Floats:
            faults: dict[str, str] = {}
            with computing_threads(1):
                parts = [quick(images)[0] for _, images in prepared(files, recipe.preparation, faults)]
            return softmax(np.concatenate(parts))

        return _beside(ours, lambda: softmax(_logits(eager, files)), len(files), rounds, quick.engine, views)


def bench_run(
    run: Path, source: Path | None = None, pictures: int = 512, rounds: int = 3, engine: Engine = "auto"
) -> PredictBench:
    """Time the whole of `predict` by a trained classifier, from the command to the written files.

    Ours opens the classifier, reads, decodes, answers with sets and unknown kinds, and writes table and
    pictures. Beside it the network of the same run as timm gives it, already opened, that reads, decodes
    and computes probabilities with the same temperature.

    Args:
        run: folder of `classify train`; with `classify calibrate` the answers have sets and unknown kinds.
        source: folder of pictures, all of which are answered; simulated cells of 160 px where not given.
        pictures: how many cells are simulated.
        rounds: of which the median counts; one more warms up.
        engine: of ours.

    Raises:
        CheckpointError: it is no run of a classifier.
        ConfigError: the engine cannot be had.
        DataError: there is no picture, or one cannot be used.
    """
    trusted = open_trusted(run, engine=engine)
    eager = _as_timm_gives_it(trusted.quick.fitted)
    temperature, coverage = 1.0, 0.9
    if trusted.calibration is not None:
        temperature, coverage = trusted.calibration.temperature, float(min(trusted.calibration.thresholds))
    with tempfile.TemporaryDirectory() as folder:
        place, calls = source or _simulated(Path(folder), pictures), count()
        files = pictures_in(place)

        def ours() -> Floats:
            out = Path(folder) / f"answers-{next(calls)}"
            found = predict(run, place, out, coverage=coverage, engine=engine)
            if found.faults:
                raise DataError(f"{len(found.faults)} of {len(files)} pictures in {place} cannot be used.")
            return np.array(
                [[cell["probabilities"][name] for name in trusted.classes] for cell in found.cells]
            )

        return _beside(
            ours,
            lambda: softmax(_logits(eager, files), temperature),
            len(files),
            rounds,
            trusted.quick.engine,
            eager.recipe.views,
        )


def _simulated(folder: Path, pictures: int) -> Path:
    """So many simulated cells, or a few more: as many of each class."""
    write_phantom(folder / "cells", per_class=-(-pictures // _CLASSES), size=160)
    return folder / "cells" / "images"


def _as_timm_gives_it(fitted: Fitted) -> Fitted:
    network = copy.deepcopy(fitted.network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Fitted(fitted.recipe, fitted.classes, network)


def _beside(
    ours: Callable[[], Floats],
    plain: Callable[[], Floats],
    pictures: int,
    rounds: int,
    engine: str,
    views: int,
) -> PredictBench:
    """Time both, which give probabilities (N, K), and compare what they say."""
    (ours_seconds, first), (plain_seconds, second) = alternate([ours, plain], rounds, 1, "timing answers")
    return PredictBench(
        ours=pictures / ours_seconds,
        plain=pictures / plain_seconds,
        ratio=plain_seconds / ours_seconds,
        engine=engine,
        views=views,
        threads=torch.get_num_threads(),
        difference=float(np.abs(first - second).max()),
        same=float((first.argmax(1) == second.argmax(1)).mean()),
    )


def _logits(fitted: Fitted, files: list[Path]) -> NDArray[np.float32]:
    parts = (files[at : at + _BATCH] for at in range(0, len(files), _BATCH))
    return np.concatenate([_eager(fitted, part, fitted.recipe.preparation) for part in parts])


def _eager(fitted: Fitted, files: list[Path], preparation: Preparation) -> NDArray[np.float32]:
    """What a tutorial writes: decode, stack, NCHW, the network as it is."""
    images = np.stack([prepare(decode(path), preparation) for path in files])
    levels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
    with torch.inference_mode():
        return over_views(lambda view: fitted.network(view.contiguous()), levels, fitted.recipe.views).numpy()
