"""What a change of a picture does to the texture inside a nucleus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops

from cytoforge.core.errors import DataError
from cytoforge.core.grey import GREY

_LEVELS = 32
_FEWEST_PIXELS = 40


@dataclass(frozen=True)
class TextureChange:
    """Texture after a change against before; all 1 where nothing changed.

    Attributes:
        contrast: ratio of the contrast of grey levels side by side (co-occurrence matrix, 32 levels).
        entropy: ratio of the entropy of that matrix.
        sharpness: ratio of the variance of the Laplacian.
        agreement: correlation of the chromatin pattern (Laplacian of Gaussian, 1.2 px), at most 1.
    """

    contrast: float
    entropy: float
    sharpness: float
    agreement: float


def texture_change(
    before: NDArray[np.uint8], after: NDArray[np.uint8], region: NDArray[np.bool_]
) -> TextureChange:
    """How the texture inside `region` (H, W), usually a nucleus, differs between two pictures (H, W, 3).

    Raises:
        DataError: pictures and region differ in size, or the region is too small or too even for a texture.

    Reference:
        Haralick, Shanmugam and Dinstein, Textural features for image classification, 1973.
    """
    if before.shape != after.shape or before.shape[:2] != region.shape:
        raise DataError(f"sizes differ: {before.shape}, {after.shape} and a region of {region.shape}")
    if region.sum() < _FEWEST_PIXELS:
        raise DataError(f"the region has {region.sum()} pixels; a texture needs at least {_FEWEST_PIXELS}")
    first, second = before @ GREY, after @ GREY
    old, new = _cooccurrence(first, region), _cooccurrence(second, region)
    if min(old) == 0:
        raise DataError("the region is of one grey level: it has no texture that could change")
    patterns = [ndimage.gaussian_laplace(grey, 1.2)[region] for grey in (first, second)]
    sharpness = [float(ndimage.laplace(grey)[region].var()) for grey in (first, second)]
    return TextureChange(
        contrast=new[0] / old[0],
        entropy=new[1] / old[1],
        sharpness=sharpness[1] / sharpness[0],
        agreement=float(np.corrcoef(*patterns)[0, 1]),
    )


def _cooccurrence(grey: NDArray[np.float64], region: NDArray[np.bool_]) -> tuple[float, float]:
    """Contrast and entropy of neighbouring grey levels, both neighbours inside the region."""
    levels = np.clip(grey * _LEVELS / 256, 0, _LEVELS - 1).astype(np.uint8) + 1
    counts = graycomatrix(np.where(region, levels, 0), [1], [0, np.pi / 2], _LEVELS + 1, symmetric=True)
    shares = counts[1:, 1:].astype(np.float64)  # level 0 is outside
    shares /= np.maximum(shares.sum((0, 1), keepdims=True), 1)
    contrast = float(graycoprops(shares, "contrast").mean())
    logarithms = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return contrast, float(-(shares * logarithms).sum((0, 1)).mean())
