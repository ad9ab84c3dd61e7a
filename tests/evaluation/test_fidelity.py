from __future__ import annotations

import numpy as np
import pytest
import torch

from cytoforge.core.errors import DataError
from cytoforge.evaluation.fidelity import frechet_distance, kernel_distance, kernel_distance_interval
from cytoforge.networks.torchvision_cpu import prepare_torchvision

prepare_torchvision()


def test_frechet_distance_oracles(fixed_features) -> None:
    real, fake = fixed_features
    assert frechet_distance(real, fake) == pytest.approx(5.5052202066458, abs=2e-12)
    assert frechet_distance(real[:40], fake[:40]) == pytest.approx(50.39730594804885, abs=1e-4)


def test_frechet_distance_by_hand() -> None:
    real = np.array([[1.0, 2.0]] * 3)
    fake = np.array([[2.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    assert frechet_distance(real, fake) == pytest.approx(4 / 9, abs=1e-12)


def test_frechet_distance_is_symmetric_and_zero_for_the_same_images(fixed_features) -> None:
    real, fake = fixed_features
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real), abs=1e-10)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-10)
    shifted = frechet_distance(real, real + 0.5)
    assert shifted == pytest.approx(64 * 0.25, abs=1e-9)


@pytest.mark.parametrize(("images", "floor"), [(50, 43.5), (100, 21.6), (400, 5.8), (800, 2.7), (1600, 1.3)])
def test_floor_of_one_distribution_falls_with_the_number_of_images(images, floor) -> None:
    rng = np.random.default_rng(images)
    values = [frechet_distance(*rng.normal(size=(2, images, 64))) for _ in range(4)]
    assert np.mean(values) == pytest.approx(floor, rel=0.06, abs=0.15)


def test_frechet_distance_equals_torch_fidelity(fixed_features) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    real, fake = (fid_features_to_statistics(torch.from_numpy(each)) for each in fixed_features)
    theirs = fid_statistics_to_metric(real, fake, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(*fixed_features) == pytest.approx(theirs, abs=1e-9)


def test_kernel_distance_oracle(fixed_features) -> None:
    assert kernel_distance(*fixed_features) == pytest.approx(0.05635446459435789, abs=1e-15)


def test_kernel_distance_equals_torchmetrics_on_equal_numbers(fixed_features) -> None:
    from torchmetrics.image.kid import poly_mmd

    real, fake = (torch.from_numpy(each[:500]) for each in fixed_features)
    assert kernel_distance(real.numpy(), fake.numpy()) == pytest.approx(
        float(poly_mmd(real, fake)), abs=1e-13
    )


def test_kernel_distance_by_hand() -> None:
    real, fake = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    # kernels: real-real (0+1)^3 = 1; fake-fake (2+1)^3 = 27; between 1, 1, 8, 27
    assert kernel_distance(real, fake) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kernel_distance_is_unbiased_by_the_number_of_images() -> None:
    rng = np.random.default_rng(1)
    values = [kernel_distance(*rng.normal(size=(2, 40, 16))) for _ in range(100)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10


def test_jackknife_equals_leaving_each_row_out(fixed_features) -> None:
    real, fake = fixed_features[0][:12], fixed_features[1][:9]
    groups = [f"photo {row // 4}" for row in range(12)]
    without = [kernel_distance(np.delete(real, slice(start, start + 4), axis=0), fake) for start in (0, 4, 8)]
    others = [kernel_distance(real, np.delete(fake, row, axis=0)) for row in range(9)]
    variance = 2 * np.var(without) + 8 * np.var(others)
    value, low, high = kernel_distance_interval(real, fake, groups)
    assert value == pytest.approx(kernel_distance(real, fake))
    assert high - low == pytest.approx(2 * 1.959963985 * np.sqrt(variance))
    assert (low + high) / 2 == pytest.approx(value)


def test_interval_holds_the_true_distance_at_least_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth = kernel_distance(rng.normal(size=(4000, 8)), rng.normal(0.3, 1, (4000, 8)))
    hits = 0
    for _ in range(100):
        _, low, high = kernel_distance_interval(rng.normal(size=(60, 8)), rng.normal(0.3, 1, (60, 8)))
        hits += low <= truth <= high
    assert hits >= 91


def test_cells_of_one_photo_widen_the_interval() -> None:
    rng = np.random.default_rng(4)
    photos = np.repeat(np.arange(15), 4)
    real = rng.normal(size=(15, 8))[photos] + 0.1 * rng.normal(size=(60, 8))
    fake = rng.normal(size=(60, 8))
    _, low, high = kernel_distance_interval(real, fake)
    _, grouped_low, grouped_high = kernel_distance_interval(real, fake, [str(photo) for photo in photos])
    assert grouped_high - grouped_low > 1.15 * (high - low)


def test_one_photo_does_not_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(5)
    real, fake = rng.normal(size=(40, 8)), rng.normal(size=(60, 8))
    assert kernel_distance_interval(real, fake, ["p"] * 40) == kernel_distance_interval(real, fake)


def test_a_shift_raises_both_distances(fixed_features) -> None:
    real, _ = fixed_features
    for distance in (frechet_distance, kernel_distance):
        values = [distance(real, real + shift) for shift in (0, 0.1, 0.3, 1)]
        assert values == sorted(values)


@pytest.mark.parametrize("score", [frechet_distance, kernel_distance, kernel_distance_interval])
def test_unfit_shapes_are_refused(score) -> None:
    with pytest.raises(DataError, match="same D"):
        score(np.zeros((9, 3)), np.zeros((9, 4)))
