"""The same classifier, faster: for answers only, never for training.

Measured for EfficientNet-Lite0 at 128 px on one core, images a second: 55 as timm gives it, 130 with folded
batch norm and channels last, 310 by ONNX Runtime in small batches. All compute in float32: bfloat16 is no
faster than ONNX Runtime and changes answers.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoforge.core.errors import CheckpointError, ConfigError, DataError
from cytoforge.core.onnx_session import open_session
from cytoforge.data.augment import square_views
from cytoforge.evaluation.classifiers import Fitted
from cytoforge.exports.onnx_network import Graph, write_onnx
from cytoforge.networks.image_classifier import ImageClassifier

Engine = Literal["auto", "onnx", "torch"]
"""auto: ONNX Runtime where it is installed and the network can be written for it, else torch."""

BATCH = 8
"""Images at a time: small enough that feature maps stay in the processor's cache."""

_SAME = 1e-3
_INPUT, _LOGITS, _FEATURES = "images", "logits", "features"

Compute = Callable[[Tensor], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""(N, 3, R, R) in [-1, 1] -> logits (N, K) and features (N, D)."""


@dataclass(frozen=True)
class FastClassifier:
    """A classifier ready to answer.

    Attributes:
        fitted: what it is.
        engine: "onnx" or "torch".
        answers: one batch.
    """

    fitted: Fitted
    engine: str
    answers: Compute

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (N, K), averaged over the recipe's views, and features (N, D) of images (N, H, W, 3)."""
        logits = np.empty((len(images), len(self.fitted.classes)), np.float32)
        features = np.empty((len(images), self.fitted.network.width), np.float32)
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            logits[part], features[part] = self._batch(images[part])
        return logits, features

    def _batch(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        upright = self.fitted.prepared(images)
        logits, features = self.answers(upright)
        if self.fitted.recipe.views == 1:
            return logits, features
        others = square_views(upright)[1:]
        summed = logits.astype(np.float64)
        for view in others:
            summed += self.answers(view)[0]
        return (summed / (1 + len(others))).astype(np.float32), features


def fast_classifier(fitted: Fitted, engine: Engine = "auto", cache: Path | None = None) -> FastClassifier:
    """The classifier on the fastest engine that gives the same answers.

    Args:
        fitted: classifier; stays as it is.
        engine: see `Engine`. "auto" takes torch where anything is wrong with ONNX.
        cache: folder that keeps the network as an ONNX file, which takes seconds to write; None writes none.

    Raises:
        ConfigError: "onnx" was asked for and cannot be had.
        CheckpointError: "onnx" was asked for and computes something else.
    """
    if engine not in ("auto", "onnx", "torch"):
        raise ConfigError(f'engine "{engine}" is unknown; choose auto, onnx or torch.')
    if engine != "torch":
        try:
            return FastClassifier(fitted, "onnx", _onnx(fitted, cache))
        except (ConfigError, CheckpointError, DataError):
            if engine == "onnx":
                raise
    return FastClassifier(fitted, "torch", _torch(fitted))


class BothOutputs(nn.Module):
    """A classifier that gives its logits and its features."""

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and features (N, D) of images (N, 3, R, R) in [-1, 1]."""
        features = self.network.features(images)
        return self.network.head(features), features


def _torch(fitted: Fitted) -> Compute:
    both = BothOutputs(fitted.folded)

    def answers(images: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            logits, features = both(images.contiguous(memory_format=torch.channels_last))
        return logits.float().numpy(), features.float().numpy()

    return answers


def _onnx(fitted: Fitted, cache: Path | None) -> Compute:
    if cache is None:
        with tempfile.TemporaryDirectory() as folder:
            return _onnx(fitted, Path(folder))
    path = cache / f"{_digest(fitted)}.onnx"
    if not path.is_file():
        write_onnx(classifier_graph(fitted), path)
    session = open_session(path)

    def answers(images: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, features = session.run([_LOGITS, _FEATURES], {_INPUT: images.contiguous().numpy()})
        return logits, features

    _require_same(fitted, answers, path)
    return answers


def classifier_graph(fitted: Fitted) -> Graph:
    """The quick classifier: `images` (N, 3, R, R) in [-1, 1] to `logits` and `features`, one view."""
    network = copy.deepcopy(fitted.folded).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    side = fitted.recipe.resolution
    return Graph(
        BothOutputs(network).eval(),
        (_INPUT,),
        (_LOGITS, _FEATURES),
        lambda count: (_example(side, count),),
        {"content": "classifier of cells; for research, not for diagnosis"},
        _SAME,
    )


def _require_same(fitted: Fitted, answers: Compute, path: Path) -> None:
    """Refuse a file that is not this classifier."""
    images = _example(fitted.recipe.resolution)
    with torch.inference_mode():
        expected = fitted.network(images).numpy()
    found = answers(images)[0]
    if found.shape != expected.shape or not np.allclose(found, expected, atol=_SAME, rtol=1e-3):
        raise CheckpointError(f"{path} gives other answers than the classifier; remove it.")


def _example(side: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _digest(fitted: Fitted) -> str:
    """Names a classifier by its weights and the size of its input."""
    digest = hashlib.sha256(f"1 {fitted.recipe.resolution} {torch.__version__}".encode())
    for name, value in fitted.network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]
