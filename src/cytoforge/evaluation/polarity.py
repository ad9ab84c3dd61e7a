"""Whether a translation kept dark dark: CycleGAN is known to exchange nucleus and background.

Nothing in a cycle loss forbids a translator to paint nuclei where the background was, if the way back undoes
that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.grey import GREY


def nucleus_contrast(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How much darker the nucleus is than everything around it, in grey levels.

    Args:
        images: (N, H, W, 3).
        masks: (N, H, W), 2 in the nucleus, another value elsewhere.

    Returns:
        (N,), negative where the nucleus is the lighter part; NaN where there is no nucleus or nothing else.

    Example:
        >>> images = np.array([10, 200], np.uint8).reshape(1, 1, 2, 1).repeat(3, axis=3)
        >>> nucleus_contrast(images, np.array([[[2, 0]]], np.uint8)).round(6).tolist()
        [190.0]
    """
    light = images @ GREY
    nuclei = masks == 2
    inside, outside = nuclei.sum((1, 2)), (~nuclei).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        contrast: NDArray[np.float64] = (light * ~nuclei).sum((1, 2)) / outside
        contrast -= (light * nuclei).sum((1, 2)) / inside
    return contrast


def light_correlation(images: NDArray[np.uint8], translated: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Correlation of the lightness of each image with that of its translation, over pixels.

    Args:
        images: (N, H, W, 3).
        translated: (N, H, W, 3).

    Returns:
        (N,) in [-1, 1]; -1 for a negative; NaN where one of the two is flat.

    Example:
        >>> images = np.array([10, 200, 30], np.uint8).reshape(1, 1, 3, 1).repeat(3, axis=3)
        >>> light_correlation(images, 255 - images).round(6).tolist()
        [-1.0]
    """
    first, second = ((stack @ GREY).reshape(len(stack), -1) for stack in (images, translated))
    first, second = (stack - stack.mean(axis=1, keepdims=True) for stack in (first, second))
    with np.errstate(invalid="ignore"):
        lengths = np.sqrt((first**2).sum(1) * (second**2).sum(1))
        correlation: NDArray[np.float64] = (first * second).sum(1) / np.where(lengths > 1e-9, lengths, np.nan)
    return correlation


def light_spread(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standard deviation of the lightness of each image over its pixels, in grey levels.

    Args:
        images: (N, H, W, 3).

    Returns:
        (N,), 0 for a flat image.

    Example:
        >>> images = np.array([10, 200], np.uint8).reshape(1, 1, 2, 1).repeat(3, axis=3)
        >>> light_spread(images).round(6).tolist()
        [95.0]
    """
    spread: NDArray[np.float64] = (images @ GREY).reshape(len(images), -1).std(axis=1)
    return spread


def swapped_share(signs: NDArray[np.float64]) -> float:
    """Share of negative contrasts or correlations among those that are known; NaN where none is.

    Example:
        >>> round(swapped_share(np.array([12.0, -3.0, 5.0, np.nan])), 4)
        0.3333
    """
    known = signs[~np.isnan(signs)]
    return float((known < 0).mean()) if len(known) else float("nan")
