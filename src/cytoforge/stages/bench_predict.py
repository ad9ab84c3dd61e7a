"""How fast files become logits: ours beside the network as timm gives it, alternating in one process."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.core.device import computing_threads
from cytoforge.data.augment import square_views
from cytoforge.data.images import decode
from cytoforge.data.phantom.folder import write_phantom
from cytoforge.data.transform import Preparation, prepare
from cytoforge.evaluation.classifiers import Fitted
from cytoforge.evaluation.recipes import RECIPES
from cytoforge.networks.backbones import Backbone
from cytoforge.stages.bench import alternate
from cytoforge.stages.engines import Engine, fast_classifier
from cytoforge.stages.pictures import pictures_in, prepared

_BATCH = 32
_CLASSES = 5


@dataclass(frozen=True)
class PredictBench:
    """Speed from files on disk to logits, median over the rounds.

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
    eager = Fitted(
        recipe,
        fitted.classes,
        copy.deepcopy(network).to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
    )
    preparation = recipe.preparation
    with tempfile.TemporaryDirectory() as folder:
        if source is None:
            write_phantom(Path(folder) / "cells", per_class=-(-pictures // 5), size=160)
            source = Path(folder) / "cells" / "images"
        files = pictures_in(source)[:pictures]
        with computing_threads(1):
            quick = fast_classifier(fitted, engine, Path(folder))

        def ours() -> NDArray[np.float32]:
            faults: dict[str, str] = {}
            with computing_threads(1):
                return np.concatenate(
                    [quick(images)[0] for _, images in prepared(files, preparation, faults)]
                )

        def plain() -> NDArray[np.float32]:
            return np.concatenate(
                [_eager(eager, files[at : at + _BATCH], preparation) for at in range(0, len(files), _BATCH)]
            )

        (ours_seconds, ours_found), (plain_seconds, plain_found) = alternate(
            [ours, plain], rounds, 1, "timing answers"
        )
    first, second = (torch.from_numpy(found).softmax(1).numpy() for found in (ours_found, plain_found))
    return PredictBench(
        ours=len(files) / ours_seconds,
        plain=len(files) / plain_seconds,
        ratio=plain_seconds / ours_seconds,
        engine=quick.engine,
        views=views,
        threads=torch.get_num_threads(),
        difference=float(np.abs(first - second).max()),
        same=float((first.argmax(1) == second.argmax(1)).mean()),
    )


def _eager(fitted: Fitted, files: list[Path], preparation: Preparation) -> NDArray[np.float32]:
    """What a tutorial writes: decode, stack, NCHW, the network as it is."""
    images = np.stack([prepare(decode(path), preparation) for path in files])
    levels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
    with torch.inference_mode():
        logits = torch.zeros(len(files), len(fitted.classes))
        views = square_views(levels)[: fitted.recipe.views]
        for view in views:
            logits += fitted.network(view.contiguous())
    return (logits / len(views)).numpy()
