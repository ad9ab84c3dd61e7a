"""Whether synthetic images are copies of training images: each one against what real unseen cells do.

A set of copies has the best Frechet distance and precision of all, so scores of whole sets cannot see
copying. Here each image gets a copy score, and real cells that the generator never saw (the holdout) get
the same score in the same way. An image is flagged where it is closer to training than all but a stated
share of the holdout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from cytoforge.core.errors import DataError
from cytoforge.core.randomness import derive
from cytoforge.evaluation.distances import ROWS, Floats, nearest_other, squared_distances

Photos = tuple[Sequence[object], Sequence[object]]
"""Photo or patient of each training cell and of each holdout cell."""

NEIGHBOURS = 5
SURE = 0.01
"""Both p-values of a whole set must be below this to speak of copies, those of a class below a part of it."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest reference rows of each query.

    Attributes:
        distances: (N, k) ascending; where a query has several views, that of its best view for each
            reference row.
        indices: (N, k) rows of the reference.
        views: (N,) which view of the query is nearest to its nearest reference row.
    """

    distances: Floats
    indices: NDArray[np.int64]
    views: NDArray[np.int64]


def nearest(queries: Floats, reference: Floats, k: int = NEIGHBOURS) -> Neighbours:
    """The k nearest reference rows of each query.

    Args:
        queries: (N, D), or (N, V, D) for V views (flips, turns) of each query, of which the nearest counts.
        reference: (R, D).
        k: how many; fewer where the reference is smaller.

    Example:
        >>> nearest(np.array([[0.0], [9.0]]), np.array([[1.0], [5.0], [8.0]]), k=2).indices.tolist()
        [[0, 1], [2, 1]]
    """
    count, k = len(queries), min(k, len(reference))
    distances, indices = np.empty((count, k)), np.empty((count, k), dtype=np.int64)
    best = np.empty(count, dtype=np.int64)
    for part, squared in _by_query(queries, reference):
        smallest = squared.min(1)
        order = np.argpartition(smallest, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(smallest, order, 1)
        ascending = np.argsort(values, axis=1, kind="stable")
        indices[part] = np.take_along_axis(order, ascending, 1)
        distances[part] = np.sqrt(np.take_along_axis(values, ascending, 1))
        best[part] = squared[np.arange(len(squared)), :, indices[part, 0]].argmin(1)
    return Neighbours(distances, indices, best)


def copy_scores(neighbours: Neighbours) -> Floats:
    """Nearest over k-th nearest distance: 0 for a copy, near 1 where no training image stands out.

    A blurred or too typical image is near to many training images, a copy to one; the quotient tells them
    apart.

    Args:
        neighbours: of each image in the training set.

    Returns:
        (N,) in 0..1.
    """
    farthest = neighbours.distances[:, -1]
    return np.divide(neighbours.distances[:, 0], farthest, out=np.zeros(len(farthest)), where=farthest > 0)


def coarse_pattern(images: NDArray[np.uint8], cells: int = 8) -> Floats:
    """Coarse pattern of dark and colour in an image: a second look that blur and noise do not disturb.

    Args:
        images: (..., S, S, 3) uint8, S at least `cells`.
        cells: rows and columns of the coarse grid.

    Returns:
        (..., 3 * cells * cells): mean levels of each grid cell, less the image's mean colour, to unit length.
    """
    *leading, side, _, channels = images.shape
    edges = np.linspace(0, side, cells + 1).round().astype(int)
    rows = np.add.reduceat(images, edges[:-1], axis=-3, dtype=np.float64) / np.diff(edges)[:, None, None]
    grid = np.add.reduceat(rows, edges[:-1], axis=-2) / np.diff(edges)[:, None]
    grid -= grid.mean((-3, -2), keepdims=True)
    flat = grid.reshape(*leading, cells * cells * channels)
    unit: Floats = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-9)
    return unit


@dataclass(frozen=True)
class CopyScores:
    """Copy scores of synthetic images and of holdout cells, and which images they mean something for.

    The fifth nearest of a class with five cells is of another class, and what is near it looks copied.

    Attributes:
        fake: (N,) synthetic images against training.
        holdout: (H,) holdout cells against training.
        exchanged: (N,) synthetic images against the holdout.
        alike: (H,) holdout cells against as many training cells of each class as the holdout has.
        match: (N,) the training cell that each synthetic image resembles most.
        checked: (N,) images of classes with enough training cells.
        counted: (N,) of these, images of classes with enough holdout cells, too.
    """

    fake: Floats
    holdout: Floats
    exchanged: Floats
    alike: Floats
    match: NDArray[np.int64]
    checked: NDArray[np.bool_]
    counted: NDArray[np.bool_]


@dataclass(frozen=True)
class Alarms:
    """Several images together: a whole set, or its images of one class.

    Attributes:
        flagged: how many of them are.
        cells: how many training cells the flagged ones resemble.
        exchanged: how many images are flagged in the same way when holdout and training change places.
        p_value: chance that an honest generator has at least as many flagged images, of which those beside
            the training cell that most of them resemble count as one.
        exchanged_p_value: chance of so many `cells` beside so few `exchanged` if either were as likely.
    """

    flagged: int
    cells: int
    exchanged: int
    p_value: float
    exchanged_p_value: float

    def found(self, looks: int = 1) -> bool:
        """Whether there are copies: more are flagged than honest ones are, and than after the exchange.

        Args:
            looks: how many such groups are asked, of which none may raise a false alarm (Bonferroni).
        """
        return max(self.p_value, self.exchanged_p_value) < SURE / looks


@dataclass(frozen=True)
class CopyTest:
    """Each image against the holdout.

    Attributes:
        p_values: (N,) share of unseen real cells at least as close to training, corrected for the finite
            holdout.
        flagged: (N,) checked and p_value <= alpha.
        exchanged: (N,) flagged in the same way when holdout and training change places.
        match: (N,) the training cell that each resembles most.
        checked: (N,) images that are tested at all.
        counted: (N,) images that tests of several go by.
        alpha: false-alarm rate of one image: raised from the wanted one where the holdout is too small for
            it.
        threshold: copy score below which an image is flagged.
        rank: holdout cells, of `size`, from the closest one to the last that still raises an alarm.
        size: holdout cells.
    """

    p_values: Floats
    flagged: NDArray[np.bool_]
    exchanged: NDArray[np.bool_]
    match: NDArray[np.int64]
    checked: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    alpha: float
    threshold: float
    rank: int
    size: int

    def honest(self, count: int) -> Any:
        """The distribution of flagged images among so many of an honest generator, frozen (scipy).

        Beta-binomial, not binomial, since all share one holdout.
        """
        return stats.betabinom(count, self.rank, self.size + 1 - self.rank)

    @property
    def honest_range(self) -> tuple[int, int]:
        """Numbers of flagged images, at 95 %, that an honest generator gives where as many are checked."""
        expected = self.honest(int(self.checked.sum()))
        return int(expected.ppf(0.025)), int(expected.ppf(0.975))

    def alarms(self, images: NDArray[np.bool_] | None = None) -> Alarms:
        """All images that count, or some, together.

        Args:
            images: (N,) which.
        """
        own = self.counted if images is None else self.counted & images
        count, other = int(self.flagged[own].sum()), int(self.exchanged[own].sum())
        beside = np.unique(self.match[own & self.flagged], return_counts=True)[1]
        cells, counted = len(beside), count - int(beside.max(initial=1)) + 1
        return Alarms(
            flagged=count,
            cells=cells,
            exchanged=other,
            p_value=float(np.clip(self.honest(int(own.sum())).sf(counted - 1), 0, 1)),
            exchanged_p_value=float(stats.binom(cells + other, 0.5).sf(cells - 1)),
        )


def copy_test(scores: CopyScores, alpha: float = 0.01) -> CopyTest:
    """Test each image for being a copy; `alarms` of the result tests several together.

    For each image: the conformal p-value (1 + number of holdout scores <= its score) / (H + 1); an image that
    is as independent of training as the holdout is flagged with probability alpha or less. For several
    together: these p-values share one holdout, so the number of flagged honest images is beta-binomial, not
    binomial. Blurred or too typical images can be flagged without being copies, but then they are flagged
    just as often when the holdout takes the place of training; copies are not. That place is smaller, so that
    its threshold is that of unseen cells against equally few training cells. No single training cell decides:
    a blurred one, which fell to training by chance, attracts all blurred images (193 of 1,000 from an
    autoencoder trained for minutes on SIPaKMeD). So the images beside the cell that most resemble are one
    alarm in the first test; in the second, those beside any one cell are.

    Both tests of several go by the images that count; where none does, by all that are checked.

    Args:
        scores: of one search.
        alpha: wanted false-alarm rate of one image; H must be at least 1 / alpha - 1 to reach it.

    Returns:
        The test; its `alpha` is 1 / (H + 1) where the wanted one is out of reach.

    Raises:
        DataError: there are no holdout cells, or no images that can be checked.

    Reference:
        Bates et al., Testing for outliers with conformal p-values, Annals of Statistics 2023
        (https://arxiv.org/abs/2104.08279), section 2.
    """
    size = len(scores.holdout)
    if not size or not scores.checked.any():
        raise DataError("the copy test needs holdout cells and synthetic images, at least one of each.")
    rank = max(1, math.floor(alpha * (size + 1) + 1e-9))
    ordered = np.sort(scores.holdout)
    p_values = (1 + np.searchsorted(ordered, scores.fake, side="right")) / (size + 1)
    level = rank / (size + 1)
    flagged = scores.checked & (p_values <= level + 1e-12)
    return CopyTest(
        p_values=p_values,
        flagged=flagged,
        exchanged=scores.exchanged < np.sort(scores.alike)[rank - 1],
        match=scores.match,
        checked=scores.checked,
        counted=scores.counted if scores.counted.any() else scores.checked,
        alpha=max(alpha, level) if rank == 1 else alpha,
        threshold=float(ordered[rank - 1]),
        rank=rank,
        size=size,
    )


def nearer_to_train(fake: Floats, train: Floats, holdout: Floats, photos: Photos | None = None) -> Floats:
    """Chance that an image is nearer to training than to the holdout when both have equally many photos.

    The part with more photos is thinned to as many as the other has; the mean over all such choices is exact,
    nothing is drawn. The mean over images is 0.5 for a generator that learned without copying. Thinned by
    cells instead, training would still have cells of more photos, and seem nearer.

    Args:
        fake: (N, D) or (N, V, D) with V views.
        train: (T, D).
        holdout: (H, D).
        photos: photo or patient of each training and of each holdout cell, (T,) and (H,); without, each cell
            is one of its own.

    Returns:
        (N,) in 0..1.

    Reference:
        After Meehan et al., A non-parametric test to detect data-copying, AISTATS 2020
        (https://arxiv.org/abs/2004.05675).
    """
    chances = np.empty(len(fake))
    for part, near, far in _to_photos(fake, train, holdout, photos):
        chances[part] = _chance_nearer(near, far)
    return chances


def nearer_interval(
    fake: Floats,
    train: Floats,
    holdout: Floats,
    photos: Photos | None = None,
    repeats: int = 100,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of `nearer_to_train`, and its 95 % interval, had other photos been in either part.

    The deviation of the mean over random halves of the images, of the training photos and of the holdout's is
    that over draws of all of them anew.

    Args:
        fake: (N, D) or (N, V, D) with V views.
        train: (T, D).
        holdout: (H, D).
        photos: as for `nearer_to_train`.
        repeats: number of halves.
        seed: of the halves.

    Returns:
        Mean, lower and upper end, within 0..1; the ends are 0 and 1 where a part has one photo only.

    Reference:
        Politis, Romano, Wolf, Subsampling, 1999, chapter 2.
    """
    rng = np.random.default_rng(derive(seed, "halves"))
    halves: list[list[NDArray[np.bool_]]] = []
    sums, total, fewest = np.zeros(repeats), 0.0, 0
    for part, near, far in _to_photos(fake, train, holdout, photos):
        counts = len(fake), near.shape[1], far.shape[1]
        fewest = min(counts[1:])
        halves = halves or [[_half(rng, count) for count in counts] for _ in range(repeats)]
        total += float(_chance_nearer(near, far).sum())
        for number, (images, ours, others) in enumerate(halves):
            rows = images[part]
            sums[number] += _chance_nearer(near[rows][:, ours], far[rows][:, others]).sum()
    means = sums / [images.sum() for images, _, _ in halves]
    mean, margin = total / len(fake), float(stats.norm.ppf(0.975) * means.std(ddof=1))
    if fewest < 2:
        return mean, 0.0, 1.0
    return mean, max(0.0, mean - margin), min(1.0, mean + margin)


def authentic(images: Floats, train: Floats) -> NDArray[np.bool_]:
    """Whether each image is farther from its nearest training image than that one is from its own nearest.

    Unseen real cells score about 70 %, not 100 %; print their share beside.

    Args:
        images: (N, D) or (N, V, D) with V views.
        train: (T, D).

    Returns:
        (N,).

    Reference:
        Alaa et al., How faithful is your synthetic data?, ICML 2022 (https://arxiv.org/abs/2102.08921),
        section 3.
    """
    found = nearest(images, train, k=1)
    own = np.sqrt(nearest_other(train))
    return found.distances[:, 0] > own[found.indices[:, 0]]


def _by_query(queries: Floats, reference: Floats) -> Iterator[tuple[slice, Floats]]:
    """Which queries, and their squared distances (n, V, R) for each view."""
    views = queries[:, None] if queries.ndim == 2 else queries
    _, number, width = views.shape
    piece = max(1, ROWS // number) * number
    for rows, squared in squared_distances(views.reshape(-1, width), reference, piece):
        yield slice(rows.start // number, rows.stop // number), squared.reshape(-1, number, len(reference))


def _to_photos(
    fake: Floats, train: Floats, holdout: Floats, photos: Photos | None
) -> Iterator[tuple[slice, Floats, Floats]]:
    """Which images, and their squared distances to each training photo (n, P) and holdout photo (n, Q)."""
    ours, others = photos or (range(len(train)), range(len(holdout)))
    names = [f"training {name}" for name in ours] + [f"unseen {name}" for name in others]
    _, first, code = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(len(first)))
    count = int((first < len(train)).sum())
    for part, squared in _by_query(fake, np.concatenate([train, holdout])[order]):
        nearest_cell = np.minimum.reduceat(squared.min(1), starts, axis=1)
        yield part, nearest_cell[:, :count], nearest_cell[:, count:]


def _half(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """(count,) a random half is True, one at least."""
    return rng.permutation(count) < max(1, count // 2)


def _chance_nearer(train: Floats, holdout: Floats) -> Floats:
    """`nearer_to_train` (n,) from distances to training photos (n, P) and to those of the holdout (n, Q)."""
    if train.shape[1] >= holdout.shape[1]:
        return 1 - _chance_none_nearer(train, holdout)
    return _chance_none_nearer(holdout, train)


def _chance_none_nearer(large: Floats, small: Floats) -> Floats:
    """Chance that no column of `large`, thinned to as many as `small`, is below the least of those."""
    nearer = (large < small.min(1, keepdims=True)).sum(1)
    total, size = large.shape[1], small.shape[1]
    possible = nearer <= total - size
    rest = np.where(possible, total - nearer, size)
    ways = special.gammaln(rest + 1) - special.gammaln(rest - size + 1)
    ways -= special.gammaln(total + 1) - special.gammaln(total - size + 1)
    return np.where(possible, np.exp(ways), 0.0)
