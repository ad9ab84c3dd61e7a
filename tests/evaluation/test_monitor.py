from __future__ import annotations

import numpy as np
import pytest
import torch

from cytoforge.core.errors import DataError
from cytoforge.evaluation.features import Extractor
from cytoforge.evaluation.monitor import Monitor


def embed(levels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(levels, 2).flatten(1)


EXTRACTOR = Extractor("grid@8", 8, 48, embed)


def cells(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def test_honest_images_score_zero_and_one_and_collapsed_ones_do_not() -> None:
    labels = np.arange(60) % 2
    monitor = Monitor(cells(60, 0), labels, EXTRACTOR)
    honest, collapsed = (
        monitor(cells(60, 1), labels),
        monitor(np.repeat(cells(2, 2), 30, 0), np.arange(60) // 30),
    )
    assert set(honest) == {"kid", "diversity"}
    assert honest["diversity"] == pytest.approx(1, abs=0.1)
    assert collapsed["diversity"] == pytest.approx(0, abs=1e-6)
    assert collapsed["kid"] > 10 * abs(honest["kid"])


def test_real_features_are_computed_once() -> None:
    calls: list[int] = []
    counting = Extractor("grid@8", 8, 48, lambda levels: (calls.append(len(levels)), embed(levels))[1])
    monitor = Monitor(cells(20, 0), np.zeros(20, np.int64), counting)
    monitor(cells(5, 1), np.zeros(5, np.int64))
    monitor(cells(5, 2), np.zeros(5, np.int64))
    assert sum(calls) == 30


def test_classes_of_one_image_are_refused() -> None:
    with pytest.raises(DataError, match="hold more images back"):
        Monitor(cells(2, 0), np.array([0, 1]), EXTRACTOR)
