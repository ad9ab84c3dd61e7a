from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cytoforge.core.errors import DataError
from cytoforge.data.texture import texture_change

IMAGE = np.random.default_rng(0).integers(60, 160, (32, 32, 3), dtype=np.uint8)
REGION = np.zeros((32, 32), bool)
REGION[8:24, 8:24] = True


def test_no_change_is_one() -> None:
    change = texture_change(IMAGE, IMAGE, REGION)
    assert (change.contrast, change.entropy, change.sharpness) == (1, 1, 1)
    assert change.agreement == pytest.approx(1)


def test_blur_lowers_everything() -> None:
    blurred = ndimage.gaussian_filter(IMAGE, (1, 1, 0))
    change = texture_change(IMAGE, blurred, REGION)
    assert change.contrast < 0.3
    assert change.entropy < 0.9
    assert change.sharpness < 0.1
    assert change.agreement < 0.95


def test_only_the_region_counts() -> None:
    other = IMAGE.copy()
    other[:4] = 0
    other[28:] = 255
    change = texture_change(IMAGE, other, REGION)
    assert (change.contrast, change.entropy, change.sharpness) == (1, 1, 1)
    assert change.agreement > 0.999  # the Gaussian reaches a little across the border


def test_contrast_by_hand() -> None:
    """Stripes two levels of 32 apart become stripes four levels apart: contrast, a square, times four."""
    stripes = np.where(np.arange(32) % 2, 26, 10).astype(np.uint8)
    before = np.broadcast_to(stripes[None, :, None], (32, 32, 3)).copy()
    after = np.where(before == 26, 42, before).astype(np.uint8)
    assert texture_change(before, after, REGION).contrast == pytest.approx(4)


@pytest.mark.parametrize(
    ("before", "region", "reason"),
    [
        (IMAGE[:16], REGION, "sizes differ"),
        (IMAGE, np.zeros((32, 32), bool), "at least 40"),
        (np.full_like(IMAGE, 9), REGION, "no texture"),
    ],
)
def test_what_has_no_texture_is_refused(before: np.ndarray, region: np.ndarray, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        texture_change(before, IMAGE, region)
