from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from cytoforge.data.texture import texture_change
from cytoforge.data.transform import Preparation, denoise, noise_level, prepare, prepare_mask

RNG = np.random.default_rng(0)
FINE = RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8)


def textured_cell(side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A pale disk with a dark, mottled nucleus, and where the nucleus is."""
    y, x = np.mgrid[:side, :side] - side / 2
    radius = np.hypot(x, y)
    grain = np.random.default_rng(1).normal(size=(side // 3, side // 3)).repeat(3, 0).repeat(3, 1)
    nucleus = radius < side / 4
    image = np.where(radius < side / 2.2, 190.0, 225.0)
    image = np.where(nucleus, 90 + 12 * grain, image)
    return np.repeat(np.clip(image, 0, 255)[..., None], 3, axis=2), nucleus


def test_resize_is_pillows_antialiased_bicubic() -> None:
    """ORACLES.md: torch is 0.30 grey levels off with antialias, without it 7.4 or, on noise, far more."""
    ours = prepare(FINE, Preparation(resolution=64)).astype(np.float64)
    theirs = np.asarray(Image.fromarray(FINE).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.abs(ours - theirs).mean() <= 0.30
    pixels = torch.from_numpy(FINE).permute(2, 0, 1)[None].double()
    smooth, rough = (
        torch.nn.functional.interpolate(pixels, (64, 64), mode="bicubic", antialias=antialias)
        for antialias in (True, False)
    )
    apart = [float(np.abs(ours - each[0].permute(1, 2, 0).numpy()).mean()) for each in (smooth, rough)]
    assert apart[0] <= 0.30
    assert apart[1] > 7.4


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("size", [(40, 90), (90, 40), (64, 64), (8, 300), (33, 32)])
def test_any_aspect_ratio_becomes_a_square(fit: str, size: tuple[int, int]) -> None:
    preparation = Preparation(resolution=32, fit=fit)
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = RNG.integers(0, 4, size, dtype=np.uint8)
    assert prepare(image, preparation).shape == (32, 32, 3)
    prepared = prepare_mask(mask, preparation)
    assert prepared.shape == (32, 32)
    assert prepared.dtype == np.uint8
    assert set(np.unique(prepared)) <= {0, 1, 2, 3}


def test_crop_keeps_the_middle() -> None:
    image = np.zeros((16, 48, 3), np.uint8)
    image[:, 16:32] = 200
    assert (prepare(image, Preparation(resolution=16, fit="crop")) == 200).all()


def test_pad_adds_the_edge_colour_and_background_mask() -> None:
    image = np.full((16, 48, 3), (10, 120, 240), np.uint8)
    image[6:10, 20:28] = 0
    prepared = prepare(image, Preparation(resolution=48, fit="pad"))
    assert (prepared[:16] == (10, 120, 240)).all()
    mask = prepare_mask(np.full((16, 48), 2, np.uint8), Preparation(resolution=48, fit="pad"))
    assert (mask[16:32] == 2).all()
    assert (mask[:16] == 0).all()


def test_stretch_fills_the_square() -> None:
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, 16:] = 255
    prepared = prepare(image, Preparation(resolution=16, fit="stretch"))
    assert prepared[:, :6].max() == 0
    assert prepared[:, 10:].min() == 255


def test_mask_and_image_stay_together() -> None:
    mask = np.zeros((60, 100), np.uint8)
    mask[20:40, 45:65] = 2
    image = np.repeat((mask * 100)[..., None], 3, axis=2)
    for fit in ("pad", "crop", "stretch"):
        preparation = Preparation(resolution=32, fit=fit)
        from_image = prepare(image, preparation)[..., 0] > 100
        from_mask = prepare_mask(mask, preparation) == 2
        assert (from_image != from_mask).mean() < 0.04


@pytest.mark.parametrize("wrong", [{"resolution": 4}, {"fit": "zoom"}, {"denoise": -1}, {"colour": 1}])
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preparation(**wrong)


def test_noise_level_is_what_was_added() -> None:
    image, _ = textured_cell(192)
    for sigma in (2.0, 5.0, 10.0):
        noisy = np.rint(image + RNG.normal(0, sigma, image.shape)).clip(0, 255).astype(np.uint8)
        assert noise_level(noisy) == pytest.approx(sigma, rel=0.15)


def test_no_strength_or_no_noise_changes_nothing() -> None:
    clean = np.full((32, 32, 3), 90, np.uint8)
    assert denoise(FINE, 0) is FINE
    assert denoise(clean, 0.5) is clean


def test_denoising_takes_noise_and_keeps_the_texture_of_the_nucleus() -> None:
    image, nucleus = textured_cell()
    clean = np.rint(image).astype(np.uint8)
    noisy = np.rint(image + np.random.default_rng(2).normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8)
    cleaned = denoise(noisy, 0.5)
    before, after = (np.mean((other - image) ** 2) for other in (noisy.astype(float), cleaned.astype(float)))
    assert after < before / 3
    kept = texture_change(clean, cleaned, nucleus)
    assert 0.9 < kept.contrast < 1.1
    assert kept.agreement > 0.95
    blurred = np.asarray(Image.fromarray(noisy).resize((48, 48), Image.Resampling.BOX).resize((96, 96)))
    assert texture_change(clean, blurred, nucleus).contrast < 0.8


def test_real_nuclei_keep_their_texture(real_data: object) -> None:
    """The figures of docs/data.md on a few cells; `benchmarks/denoising.py` has the whole table."""
    from pathlib import Path

    from scipy import ndimage

    from cytoforge.data.folder import open_cells, read_image, read_mask

    cells = open_cells(Path(str(real_data)) / "herlev").cells[::90]
    changes = []
    for cell in cells:
        mask = read_mask(cell)
        assert mask is not None
        inside = ndimage.binary_erosion(mask == 2, iterations=2)
        if inside.sum() >= 80:
            image = read_image(cell)
            changes.append(texture_change(image, denoise(image, 0.5), inside))
    assert np.median([change.contrast for change in changes]) > 0.98
    assert np.median([change.agreement for change in changes]) > 0.99
