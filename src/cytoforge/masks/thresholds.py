"""Plain thresholds: what an unsupervised mask must beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_local, threshold_multiotsu, threshold_otsu

from cytoforge.core.grey import GREY
from cytoforge.core.mask import CYTOPLASM, NUCLEUS


def otsu(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Three grey levels by Otsu's criterion: the darkest is nucleus, the middle one cytoplasm.

    Args:
        image: (H, W, 3).

    Returns:
        (H, W): 0 background, 1 cytoplasm, 2 nucleus.

    Reference:
        Otsu, A threshold selection method from gray-level histograms, 1979. https://doi.org/10.1109/TSMC.1979.4310076
    """
    grey = np.rint(image @ GREY)
    if len(np.unique(grey)) < 3:
        return np.zeros(grey.shape, np.uint8)
    low, high = threshold_multiotsu(grey, 3)
    return _levels(grey <= low, grey <= high)


def adaptive(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is darker than its neighbourhood is nucleus; the rest below Otsu's threshold is cytoplasm.

    The neighbourhood is a Gaussian window half as wide as the image's shorter side.

    Args:
        image: (H, W, 3).

    Returns:
        (H, W): 0 background, 1 cytoplasm, 2 nucleus.
    """
    grey = image @ GREY
    if np.ptp(grey) == 0:
        return np.zeros(grey.shape, np.uint8)
    window = max(3, min(grey.shape) // 4 * 2 + 1)
    margin = 0.25 * float(grey.std())
    return _levels(grey < threshold_local(grey, window, offset=margin), grey <= threshold_otsu(grey))


def ellipse(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An ellipse that fills the crop and one of a third of its width inside: what framing alone tells.

    Args:
        image: (H, W, 3), of which only the size counts.

    Returns:
        (H, W): 0 background, 1 cytoplasm, 2 nucleus.
    """
    radius = radii(image.shape[:2])
    return _levels(radius < 1 / 3, radius < 1)


def radii(size: tuple[int, ...]) -> NDArray[np.float64]:
    """Distance of each pixel from the middle, 1 where an ellipse through the middles of all four sides runs.

    Args:
        size: height and width.

    Returns:
        (H, W)

    Example:
        >>> radii((1, 4)).tolist()
        [[0.75, 0.25, 0.25, 0.75]]
    """
    height, width = size
    down = (2 * np.arange(height) + 1) / height - 1
    across = (2 * np.arange(width) + 1) / width - 1
    distance: NDArray[np.float64] = np.hypot(down[:, None], across[None, :])
    return distance


Baseline = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

BASELINES: Mapping[str, Baseline] = {"otsu": otsu, "adaptive": adaptive, "ellipse": ellipse}


def _levels(nucleus: NDArray[np.bool_], cell: NDArray[np.bool_]) -> NDArray[np.uint8]:
    mask = np.where(cell | nucleus, CYTOPLASM, 0).astype(np.uint8)
    mask[nucleus] = NUCLEUS
    return mask
