"""Whether the synthetic images cover the real ones, and how different they are from each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cytoforge.evaluation.distances import (
    Floats,
    check_features,
    one_thread,
    unit_length,
)
from cytoforge.evaluation.products import Between, between, within


def precision_recall_density_coverage(real: Floats, fake: Floats, k: int = 5) -> dict[str, float]:
    """Four shares from balls around each image that reach to its k-th nearest neighbour of its own set.

    Precision: synthetic images inside some real ball. Recall: real images inside some synthetic ball.
    Density: how many real balls hold a synthetic image, over k. Coverage: real balls that hold a synthetic
    image. A ball leaves its own centre out of the k, and "inside" is strict.

    Args:
        real: (N, D), N > k.
        fake: (M, D), M > k.
        k: neighbours that a ball reaches to.

    Returns:
        "precision", "recall" and "coverage" in 0..1, "density" from 0, about 1 for two samples of one
        distribution.

    Raises:
        DataError: the shapes do not fit or there are too few images.

    Reference:
        Kynkaanniemi et al., Improved precision and recall, NeurIPS 2019 (https://arxiv.org/abs/1904.06991);
        Naeem et al., Reliable fidelity and diversity metrics, ICML 2020 (https://arxiv.org/abs/2002.09797).
    """
    check_features(real, fake)
    radii = within(real, k).nearest[:, -1], within(fake, k).nearest[:, -1]
    return shares_in_balls(between(real, fake, radii), k)


def shares_in_balls(found: Between, k: int) -> dict[str, float]:
    """The four shares of `precision_recall_density_coverage`.

    Args:
        found: real against synthetic rows, with balls.
        k: neighbours that a ball reaches to.
    """
    return {
        "precision": float((found.holding > 0).mean()),
        "recall": float(found.recalled.mean()),
        "density": float(found.holding.mean() / k),
        "coverage": float(found.covered.mean()),
    }


def pairwise_distance(features: Floats) -> float:
    """Mean perceptual distance of all pairs: one minus the cosine of their features.

    Args:
        features: (N, D), N > 1.

    Returns:
        0 where all images look the same to the extractor, 1 where no two share anything.

    Raises:
        DataError: fewer than two rows.

    Example:
        >>> round(pairwise_distance(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])), 6)  # pairs: 0, 1, 1
        0.666667
    """
    check_features(features)
    count = len(features)
    total = unit_length(features).sum(0)
    return float(1 - (total @ total - count) / (count * (count - 1)))


def class_distances(features: Floats, labels: NDArray[np.int64]) -> dict[int, float]:
    """Mean pairwise distance inside each class of two or more images.

    Args:
        features: (N, D).
        labels: (N,)
    """
    found = {}
    for label in np.unique(labels):
        own = features[labels == label]
        if len(own) > 1:
            found[int(label)] = pairwise_distance(own)
    return found


def diversity(fake: Mapping[int, float], real: Mapping[int, float]) -> float | None:
    """How different two images of a class are, as a share of what real ones are; mean over shared classes.

    Args:
        fake: `class_distances` of synthetic images.
        real: of real ones.

    Returns:
        1 is right, 0 is collapse; None without a class of both.

    Example:
        >>> diversity({0: 0.2, 1: 0.1, 2: 0.3}, {0: 0.4, 1: 0.1})
        0.75
    """
    shares = [fake[label] / real[label] for label in fake if real.get(label, 0) > 0]
    return float(np.mean(shares)) if shares else None


def effective_modes(features: Floats, centre: Floats) -> float:
    """Effective number of different images (Vendi score of the cosine about `centre`).

    The exponential of the entropy of the eigenvalues of the similarity matrix: N copies of one image give
    1, N images without anything in common give N. It grows with N, so compare at equal N only.

    Args:
        features: (N, D).
        centre: (D,) where cosines are taken about: the mean of real features.

    Returns:
        A number from 1 to N.

    Raises:
        DataError: fewer than two rows.

    Example:
        >>> effective_modes(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [3.0, 0.0]]), np.zeros(2))
        2.0

    Reference:
        Friedman and Dieng, The Vendi score, TMLR 2023 (https://arxiv.org/abs/2210.02410), definition 3.1.
    """
    check_features(features)
    unit = unit_length(features - centre)
    matrix = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    with one_thread():
        spectrum = np.linalg.eigvalsh(matrix / len(unit))
    spectrum = spectrum[spectrum > 1e-12]
    spectrum = spectrum / spectrum.sum()
    return float(np.exp(-(spectrum * np.log(spectrum)).sum()))


def share_of_twins(real_nearest: Floats, fake_nearest: Floats, nearness: float = 0.5) -> float:
    """Share of synthetic images that have a twin among the synthetic ones.

    A twin is nearer than `nearness` times the distance at which half of the real images have their nearest
    neighbour. Nearest distances shrink with the number of images, so both sets should be equally large.

    Args:
        real_nearest: (N,) squared distance of each real image to its nearest other.
        fake_nearest: (M,) the same among synthetic images.
        nearness: 0 to 1.

    Example:
        >>> share_of_twins(np.array([4.0, 4.0, 9.0]), np.array([0.0, 1.0, 2.0, 25.0]))  # nearer than 1
        0.5
    """
    limit = nearness**2 * float(np.median(real_nearest))
    return float((fake_nearest <= limit).mean())
