"""A trained classifier with everything that says how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
from numpy.typing import NDArray

from cytoforge.core.errors import CheckpointError, DataError
from cytoforge.core.files import read_json, sha256_bytes
from cytoforge.core.run import Run
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.calibration import softmax
from cytoforge.evaluation.classifiers import open_classifier
from cytoforge.evaluation.novelty import Known, learn_known
from cytoforge.evaluation.trust import Answers, Calibration, answer, read_calibration
from cytoforge.stages.engines import Engine, FastClassifier, fast_classifier

FOLDER = "calibration"
"""Below a run: what its calibration.json refers to."""

REFERENCE, NAMES = "reference.safetensors", "reference.json"
"""Features and labels of the training cells there, and their names."""


@dataclass(frozen=True)
class Trusted:
    """A classifier with everything that says how far to trust it.

    Attributes:
        run: its folder.
        quick: the classifier, ready to answer.
        calibration: None where it was not calibrated.
        known: training cells as the classifier sees them, None likewise.
        names: (T,) names of these training cells.
        labels: (T,) their classes.
    """

    run: Run
    quick: FastClassifier
    calibration: Calibration | None = None
    known: Known | None = None
    names: tuple[str, ...] = ()
    labels: NDArray[np.int64] | None = None

    @property
    def weights_sha256(self) -> str:
        """Of the classifier's checkpoint."""
        return self.quick.fitted.weights_sha256

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.quick.fitted.classes

    @property
    def preparation(self) -> Preparation:
        """How pictures become the classifier's input."""
        return self.quick.fitted.recipe.preparation


def open_plain(run: Path, checkpoint: str = "best", engine: Engine = "auto") -> Trusted:
    """The classifier of a run, without calibration.

    Raises:
        CheckpointError: it is no run of a classifier.
        ConfigError: the engine cannot be had.
    """
    opened = Run.open(run)
    return Trusted(opened, fast_classifier(open_classifier(opened, checkpoint), engine, run / "engines"))


def open_trusted(run: Path, checkpoint: str = "best", engine: Engine = "auto") -> Trusted:
    """The classifier of a run with its calibration, where it has one.

    Raises:
        CheckpointError: it is no run of a classifier, or its calibration is broken or of other weights.
        ConfigError: the engine cannot be had.
    """
    plain = open_plain(run, checkpoint, engine)
    calibration = read_calibration(run, plain.weights_sha256, plain.classes)
    if calibration is None:
        return plain
    again = f"run cytoforge classify calibrate {run} again."
    try:
        content = (run / FOLDER / REFERENCE).read_bytes()
        names = read_json(run / FOLDER / NAMES)["names"]
        tensors = safetensors.torch.load(content)
        features, labels = tensors["features"].float().numpy(), tensors["labels"].numpy()
    except (OSError, KeyError, TypeError, DataError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"the calibration in {run} cannot be read ({error}); {again}") from error
    if calibration.reference_sha256 != sha256_bytes(content) or len(names) != len(labels):
        raise CheckpointError(f"{run / FOLDER / REFERENCE} was changed after it was written; {again}")
    known = learn_known(features, labels, calibration.novelty)
    return replace(plain, calibration=calibration, known=known, names=tuple(names), labels=labels)


def answered(
    trusted: Trusted, logits: NDArray[np.float32], features: NDArray[np.float32], coverage: float
) -> Answers:
    """What is said about cells; without a calibration only the network's own probabilities."""
    if trusted.calibration is not None and trusted.known is not None:
        return answer(trusted.calibration, trusted.known, logits, features, coverage)
    count, classes = logits.shape
    return Answers(softmax(logits), np.ones((count, classes), bool), np.zeros(count), np.zeros(count, bool))
