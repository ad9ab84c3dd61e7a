from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss

from cytoforge.core.errors import DataError
from cytoforge.evaluation.calibration import (
    abstention,
    brier,
    chance_errors,
    expected_calibration_error,
    fit_temperature,
    reliability,
    softmax,
)
from cytoforge.networks.torchvision_cpu import prepare_torchvision


def stated(count: int, seed: int = 0, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at `temperature` is exactly right, and labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = 2.5 * rng.normal(size=(count, 4))
    probabilities = softmax(logits, temperature)
    return logits, (probabilities.cumsum(1) < rng.random((count, 1))).sum(1).clip(0, 3)


def test_errors_equal_those_of_other_libraries():
    prepare_torchvision()
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = stated(500)
    probabilities = softmax(logits)
    for bins in (10, 15):
        theirs = multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=4, n_bins=bins
        )
        assert expected_calibration_error(labels, probabilities, bins) == pytest.approx(
            float(theirs), abs=1e-6
        )
    theirs = brier_score_loss(labels, probabilities, labels=range(4), scale_by_half=False)
    assert brier(labels, probabilities) == pytest.approx(theirs)


def test_the_temperature_that_made_the_labels_is_found():
    logits, labels = stated(20_000, temperature=2.0)
    assert fit_temperature(logits, labels) == pytest.approx(2.0, rel=0.05)
    assert fit_temperature(logits / 8, labels) == pytest.approx(0.25, rel=0.05)


def test_temperature_of_two_images_by_hand():
    # one of four is wrong at logit difference 2: probability 3/4 needs 2 / T = ln 3
    logits = np.tile([2.0, 0.0], (4, 1))
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(2 / np.log(3), rel=1e-4)


def test_tempering_mends_an_overconfident_network_on_other_cells():
    logits, labels = stated(6000, temperature=3.0)
    temperature = fit_temperature(logits[:3000], labels[:3000])
    before = reliability(labels[3000:], softmax(logits[3000:]))
    after = reliability(labels[3000:], softmax(logits[3000:], temperature))
    assert before.error > before.chance_high
    assert after.error < after.chance_high
    assert after.brier < before.brier
    assert after.log_loss < before.log_loss
    assert after.accuracy == before.accuracy


def test_exact_probabilities_stay_within_chance_as_often_as_stated():
    inside = []
    for seed in range(60):
        logits, labels = stated(300, seed)
        probabilities = softmax(logits)
        limit = np.quantile(chance_errors(probabilities, 200, seed=seed), 0.95)
        inside.append(expected_calibration_error(labels, probabilities) <= limit)
    assert np.mean(inside) >= 0.87


def test_the_diagram_counts_every_image_once():
    logits, labels = stated(200)
    found = reliability(labels, softmax(logits))
    assert sum(each.count for each in found.bins) == 200
    weighed = sum(each.count * each.accuracy for each in found.bins) / 200
    assert weighed == pytest.approx(found.accuracy)
    assert all(each.low < each.confidence <= each.high for each in found.bins)


def test_abstaining_from_the_least_sure_leaves_fewer_errors():
    logits, labels = stated(2000)
    found = abstention(labels, softmax(logits))
    assert found.kept[-1] == 1
    assert found.error[999] < 0.7 * found.error[-1]
    assert found.least_area < found.area < found.error[-1]


def test_nothing_held_out_is_refused():
    with pytest.raises(DataError, match="held-out"):
        fit_temperature(np.empty((0, 3)), np.empty(0, np.int64))
    with pytest.raises(DataError, match="held-out"):
        reliability(np.empty(0, np.int64), np.empty((0, 3)))
