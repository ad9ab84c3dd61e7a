from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from cytoforge.core.symmetry import turn
from cytoforge.data.duplicates import SIZE, find_repeats, register
from cytoforge.data.folder import open_cells
from cytoforge.data.scan import repeats_of, scan_cells

GREY = np.array([0.299, 0.587, 0.114])


def scene(seed: int, size: int = 160) -> np.ndarray:
    """A cell with nucleus, texture and neighbours on a bright ground, larger than a crop."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    picture = np.full((size, size, 3), 225.0) + rng.normal(0, 6, 3)
    for k in range(4):
        cx, cy = (0, 0) if k == 0 else rng.uniform(-75, 75, 2)
        a, b, angle = *rng.uniform(28, 52, 2), rng.uniform(0, np.pi)
        u, v = (
            (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle),
            (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle),
        )
        wobble = 1 + 0.15 * np.sin(3 * np.arctan2(v, u) + rng.uniform(0, 6))
        inside = gaussian_filter(((u / a) ** 2 + (v / b) ** 2 < wobble).astype(float), 1.5)[..., None]
        picture = picture * (1 - inside) + inside * (picture * 0.3 + 0.7 * rng.uniform(90, 200, 3))
        radius = rng.uniform(7, 16)
        kernel = (u - rng.uniform(-9, 9)) ** 2 + (v - rng.uniform(-9, 9)) ** 2 < radius**2
        nucleus = gaussian_filter(kernel.astype(float), 1.2)[..., None]
        picture = picture * (1 - nucleus) + nucleus * rng.uniform(40, 90, 3)
    texture = gaussian_filter(rng.normal(size=(size, size)), 2) * 40
    return np.clip(picture + texture[..., None], 0, 255)


def crop(picture: np.ndarray, x: int = 0, y: int = 0, side: int = 110) -> np.ndarray:
    middle = picture.shape[0] // 2
    top, left = middle + y - side // 2, middle + x - side // 2
    part = picture[top : top + side, left : left + side]
    return np.asarray(
        Image.fromarray(np.round(part).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    )


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


def rescaled(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).resize((50, 41), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def recoloured(image: np.ndarray) -> np.ndarray:
    return np.clip(image * np.array([0.7, 1.05, 1.15]) + np.array([30, -8, 5]), 0, 255).astype(np.uint8)


COPIES = {
    "mirrored": lambda s: crop(s)[:, ::-1],
    "upside down": lambda s: crop(s)[::-1],
    "turned": lambda s: np.rot90(crop(s)),
    "turned and mirrored": lambda s: np.rot90(crop(s), 3)[:, ::-1],
    "jpeg": lambda s: jpeg(crop(s)),
    "rescaled": lambda s: rescaled(crop(s)),
    "recoloured": lambda s: recoloured(crop(s)),
    "recoloured and turned": lambda s: recoloured(np.rot90(crop(s), 2)),
}
RECURRENCES = {
    "shifted": lambda s: crop(s, 9, -7),
    "closer": lambda s: crop(s, 3, 4, 100),
    "wider": lambda s: crop(s, -4, 0, 122),
    "out of focus": lambda s: gaussian_filter(crop(s, 6, 5).astype(float), (1.5, 1.5, 0)),
    "other light": lambda s: crop(s, -8, 3) * 0.8 + 12,
}


@pytest.fixture(scope="module")
def planted():
    """120 different cells, then one repeat of every kind of the first ones."""
    scenes = [scene(seed) for seed in range(120)]
    images = [noisy(crop(s), i) for i, s in enumerate(scenes)]
    names = [f"cell {i:03d}" for i in range(len(scenes))]
    for i, (kind, change) in enumerate({**COPIES, **RECURRENCES}.items()):
        images.append(noisy(change(scenes[i]), 1000 + i))
        names.append(f"of {i:03d}: {kind}")
    grey = np.round(np.stack(images) @ GREY).astype(np.uint8)
    labels = np.arange(len(grey), dtype=np.int64) % 3
    hashes = [str(i) for i in range(len(grey))]
    grey, hashes, names = np.concatenate([grey, grey[5:6]]), [*hashes, "5"], [*names, "of 005: exact"]
    return names, find_repeats(grey, names, np.append(labels, 0), hashes)


def test_every_planted_repeat_is_found(planted):
    names, repeats = planted
    found = {(pair.first, pair.second) for pair in repeats.pairs}
    wanted = {(f"cell {name[3:6]}", name) for name in names if name.startswith("of")}
    assert wanted <= found


def test_nothing_else_is_flagged(planted):
    _, repeats = planted
    wrong = [
        pair for pair in repeats.pairs if not pair.second.startswith("of") and not pair.first.startswith("of")
    ]
    assert not wrong
    assert repeats.false_alarms <= 0.005


def test_kinds_and_symmetries_are_named(planted):
    _, repeats = planted
    kind = {
        pair.second.partition(": ")[2]: pair.kind for pair in repeats.pairs if pair.first.startswith("cell")
    }
    assert kind["exact"] == "exact"
    assert {kind[name] for name in COPIES} == {"near"}
    assert {kind[name] for name in ("shifted", "closer", "wider", "out of focus", "other light")} == {
        "recurring"
    }
    symmetry = {pair.second.partition(": ")[2]: pair.symmetry for pair in repeats.pairs}
    assert symmetry["mirrored"] == "mirrored"
    assert symmetry["recoloured and turned"] == "turned 180°"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_or_blank_pictures_are_no_repeats(count):
    blank = np.full((count, SIZE, SIZE), 200, np.uint8)
    repeats = find_repeats(
        blank, [str(i) for i in range(count)], np.zeros(count, np.int64), [str(i) for i in range(count)]
    )
    assert repeats.pairs == ()


def test_registration_recovers_a_known_motion():
    grey = gaussian_filter(np.random.default_rng(0).normal(size=(60, 60)), 2.5).astype(np.float32)
    score, motion = register(grey[None, 6:54, 6:54], grey[None, 4:52, 7:55])
    assert score[0] > 0.99
    np.testing.assert_allclose(motion[0], [-1, 2, 0, 0, 0, 0], atol=0.1)


@pytest.mark.slow
def test_sipakmed_recurring_cells_and_altered_copies(real_data):
    scan = scan_cells(open_cells(real_data / "sipakmed"))
    repeats = repeats_of(scan)
    group = dict(zip(scan.cells.names, scan.cells.groups, strict=True))
    photos = {frozenset((group[p.first], group[p.second])) for p in repeats.pairs}
    assert len(repeats.pairs) >= 128
    assert not any(len(pair) == 1 for pair in photos)  # one photo does not show a cell twice
    assert repeats.false_alarms <= 0.01
    chosen = np.random.default_rng(0).permutation(len(scan.cells))[:150]
    thumbnails = scan.thumbnails[chosen]
    altered = [turn(thumbnails[k : k + 1], k % 8)[0] * 0.85 + 10 for k in range(40)]
    images = np.concatenate([thumbnails, np.round(np.stack(altered)).astype(np.uint8)])
    names = [f"{i:03d}" for i in range(len(images))]
    found = find_repeats(images, names, np.zeros(len(images), np.int64), names)
    pairs = {(pair.first, pair.second) for pair in found.pairs}
    assert {(f"{k:03d}", f"{150 + k:03d}") for k in range(40)} <= pairs
