"""Masks of nucleus and cytoplasm from a picture alone, in the five steps of SynCGAN.

1. stretch the histogram of each channel, 2. grey, 3. adaptive threshold, 4. Gaussian mixture, 5. refine.

Reference:
    Dey et al., SynCGAN: using learnable class specific priors to generate synthetic data for improving
    classifier performance on cytological images, 2020, section 3.2. https://arxiv.org/abs/2003.05712
    Kowal, Filipczuk, Obuchowicz and Korbicz, Computer-aided diagnosis of breast cancer using Gaussian mixture
    cytological image segmentation, 2011.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import joblib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from cytoforge.core.grey import GREY
from cytoforge.core.mask import CYTOPLASM, NUCLEUS
from cytoforge.core.progress import progress
from cytoforge.masks.regions import Region, regions
from cytoforge.masks.thresholds import radii

_CLUSTERS = 7
_SIDE = 128
_SAMPLE = 3000
_LARGEST_NUCLEUS, _LARGEST_IN_FIELD = 0.75, 0.15
_WINDOW = 0.3
_LEAST_SCORE = -2.0
_FRAMING = 4.0
_ROUNDS = 4
_ALONE = 150


@dataclass(frozen=True)
class Steps:
    """What each of the five steps found.

    Attributes:
        stretched: (H, W, 3) in 0..1.
        grey: (H, W) in 0..1.
        dark: (H, W) what is darker than its neighbourhood.
        clusters: (H, W, K) share of each cluster in each pixel, darkest cluster first.
        mask: (H, W): 0 background, 1 cytoplasm, 2 nucleus.
    """

    stretched: NDArray[np.float64]
    grey: NDArray[np.float64]
    dark: NDArray[np.bool_]
    clusters: NDArray[np.float64]
    mask: NDArray[np.uint8]


def unsupervised_mask(image: NDArray[np.uint8], single: bool = True) -> NDArray[np.uint8]:
    """The mask of a picture.

    Args:
        image: (H, W, 3).
        single: whether it is a crop with one cell in the middle; else every nucleus of a field is sought, and
            cytoplasm is left out, since it cannot be told from what surrounds it.

    Returns:
        (H, W): 0 background, 1 cytoplasm, 2 nucleus. Empty where the picture is of one colour.

    Example:
        >>> picture = np.full((40, 40, 3), 230, np.uint8)
        >>> picture[8:32, 8:32] = 150
        >>> picture[16:24, 16:24] = 40
        >>> mask = unsupervised_mask(picture)
        >>> mask[20, 20], mask[12, 12], mask[2, 2]
        (np.uint8(2), np.uint8(1), np.uint8(0))
    """
    if np.ptp(image.reshape(-1, 3), axis=0).max() == 0:
        return np.zeros(image.shape[:2], np.uint8)
    if not single or max(image.shape[:2]) <= _SIDE:
        return five_steps(image, single).mask
    return _enlarged(five_steps(_reduced(image), single).mask, image.shape[:2])


def unsupervised_masks(images: Sequence[NDArray[np.uint8]], single: bool = True) -> list[NDArray[np.uint8]]:
    """The mask of each picture, in several processes where there are many; arguments as above."""
    workers = 1 if len(images) < _ALONE else os.cpu_count() or 1
    with progress("finding masks", len(images)) as advance:
        found = []
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator", batch_size=8)
        for mask in parallel(joblib.delayed(unsupervised_mask)(image, single) for image in images):
            found.append(mask)
            advance(1)
    return found


def five_steps(image: NDArray[np.uint8], single: bool = True) -> Steps:
    """The mask of a picture that is not of one colour, with what led to it; arguments as above."""
    scale = np.sqrt(image.shape[0] * image.shape[1]) / 96 if single else 1.0
    stretched = stretch(ndimage.gaussian_filter(image.astype(np.float64), (0.8 * scale, 0.8 * scale, 0)))
    grey = stretched @ GREY
    dark = darker_than_neighbourhood(grey)
    clusters = cluster(stretched)
    slope = ndimage.gaussian_gradient_magnitude(grey, scale) * scale
    nucleus = _nuclei(clusters, grey, slope, dark, scale, single)
    cell = _cell(clusters, nucleus) if single else nucleus
    mask = np.where(cell, CYTOPLASM, 0).astype(np.uint8)
    mask[nucleus] = NUCLEUS
    return Steps(stretched, grey, dark, clusters, mask)


def stretch(image: NDArray[np.float64], low: float = 1.0, high: float = 99.0) -> NDArray[np.float64]:
    """Step 1: each channel from its `low`th to its `high`th percentile onto 0..1.

    Args:
        image: (H, W, 3).
        low: percentile that becomes 0.
        high: percentile that becomes 1.

    Returns:
        (H, W, 3)

    Example:
        >>> stretch(np.array([[[10.0], [20.0], [30.0]]]), 0, 100).ravel().tolist()
        [0.0, 0.5, 1.0]
    """
    ends = np.percentile(image, [low, high], axis=(0, 1))
    stretched: NDArray[np.float64] = np.clip((image - ends[0]) / np.maximum(ends[1] - ends[0], 1), 0, 1)
    return stretched


def darker_than_neighbourhood(grey: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Step 3: where grey (H, W) is below its mean in a wide Gaussian window."""
    width = _WINDOW * np.sqrt(grey.size)
    below: NDArray[np.bool_] = grey < ndimage.gaussian_filter(grey, width, mode="reflect", truncate=2.0)
    return below


def cluster(stretched: NDArray[np.float64], count: int = _CLUSTERS) -> NDArray[np.float64]:
    """Step 4: share of each Gaussian cluster of colours in each pixel.

    The clusters start at equal shares of the grey levels, so that the result depends on the picture alone.

    Args:
        stretched: (H, W, 3) in 0..1.
        count: of clusters.

    Returns:
        (H, W, count), darkest cluster first, summing to 1.
    """
    pixels = stretched.reshape(-1, 3)
    sample = pixels[:: max(1, len(pixels) // _SAMPLE)]
    by_grey = np.array_split(sample[np.argsort(sample @ GREY, kind="stable")], count)
    spread = float(sample.var(axis=0).mean()) / count + 1e-4
    mixture = GaussianMixture(
        count,
        weights_init=np.full(count, 1 / count),
        means_init=np.stack([part.mean(axis=0) for part in by_grey]),
        precisions_init=np.repeat(np.eye(3)[None] / spread, count, axis=0),
        init_params="random",
        reg_covar=1e-4,
        max_iter=60,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(sample)
    order = np.argsort(mixture.means_ @ GREY)
    shares: NDArray[np.float64] = mixture.predict_proba(pixels)[:, order]
    return shares.reshape(*stretched.shape[:2], count)


def _nuclei(
    clusters: NDArray[np.float64],
    grey: NDArray[np.float64],
    slope: NDArray[np.float64],
    dark: NDArray[np.bool_],
    scale: float,
    single: bool,
) -> NDArray[np.bool_]:
    """Step 5: of the regions of the darkest one, two, ... clusters those that look most like a nucleus."""
    found: list[Region] = []
    most = int((_LARGEST_NUCLEUS if single else _LARGEST_IN_FIELD) * grey.size)
    brush = _disk(max(1, round(1.15 * scale)))
    upto = np.cumsum(clusters, axis=2)
    for level in range(clusters.shape[2] - 1):
        binary = ndimage.binary_opening((upto[..., level] > 0.5) & dark, brush)
        found += regions(ndimage.binary_fill_holes(binary), grey, slope, most)
    found.sort(key=lambda region: region.score(single), reverse=True)
    chosen = np.zeros(grey.shape, np.bool_)
    for region in _best(found) if single else (each for each in found if each.score(False) >= _LEAST_SCORE):
        if not (chosen[region.place] & region.inside).any():
            chosen[region.place] |= region.inside
    return chosen


def _best(found: list[Region]) -> list[Region]:
    """The best region, and the best of those that could be its twin: some cells have two nuclei."""
    if not found:
        return []
    first = found[0]
    twins = [each for each in found[1:] if each.resembles(first) and not each.overlaps(first)]
    return [first, *twins[:1]]


def _cell(clusters: NDArray[np.float64], nucleus: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cell around a nucleus: colours that are more frequent inside than outside, nearer to the middle.

    Starting from the framing of the crop alone, the share of cell in each cluster and the share of cell in
    each pixel are estimated in turn.
    """
    framing = _FRAMING * (1 - radii(nucleus.shape))
    side = float(np.sqrt(nucleus.size))
    outside = ~ndimage.binary_dilation(nucleus, iterations=2)
    share = expit(framing)
    if outside.any():
        weights = clusters * outside[..., None]
        for _ in range(_ROUNDS):
            inside = (weights * share[..., None]).sum((0, 1)) / np.maximum(weights.sum((0, 1)), 1e-9)
            usual = share[outside].mean()
            evidence = logit(np.clip(clusters @ inside, 1e-3, 1 - 1e-3)) - logit(
                np.clip(usual, 1e-3, 1 - 1e-3)
            )
            share = expit(ndimage.gaussian_filter(evidence, 0.03 * side) + framing)
    cell = _around((share > 0.5) | nucleus, nucleus)
    opened: NDArray[np.bool_] = ndimage.binary_opening(cell, _disk(max(1, round(0.03 * side))))
    return opened | nucleus


def _around(cell: NDArray[np.bool_], nucleus: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected part that holds the nucleus, or else the largest, without holes."""
    labels, _ = ndimage.label(cell)
    sizes = np.bincount(labels[nucleus] if nucleus.any() else labels[cell], minlength=2)
    sizes[0] = 0
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(labels == sizes.argmax())
    return filled & cell.any()


def _disk(radius: int) -> NDArray[np.bool_]:
    steps = np.arange(-radius, radius + 1)
    inside: NDArray[np.bool_] = steps[:, None] ** 2 + steps**2 <= radius**2
    return inside


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _enlarged(mask: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """A mask at another size, its outlines interpolated."""
    large = np.zeros(size, np.uint8)
    for least in (CYTOPLASM, NUCLEUS):
        part = Image.fromarray(np.where(mask >= least, 255, 0).astype(np.uint8))
        drawn = np.asarray(part.resize((size[1], size[0]), Image.Resampling.BILINEAR))
        large[drawn > 127] = least
    return large
