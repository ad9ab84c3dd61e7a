from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoforge.core.errors import DataError
from cytoforge.core.files import sha256_bytes
from cytoforge.core.png import encode_png
from cytoforge.data.cache import CachedCells, open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, split_cells
from cytoforge.data.transform import Preparation
from cytoforge.sampling.provenance import Entry, Header, Manifest, mask_file
from cytoforge.stages.compared import OpenedSet
from cytoforge.stages.morphometry import morphometry

SIDE = 32


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> tuple[CachedCells, Split]:
    """Two classes of 24 drawn cells, an ellipse in an ellipse."""
    place = tmp_path_factory.mktemp("measured")
    rng = np.random.default_rng(0)
    down, across = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    for label in ("large", "small"):
        for index in range(24):
            radius, inner = rng.uniform(10, 14), rng.uniform(3, 5) + 2 * (label == "large")
            mask = (np.hypot(down, across) < radius).astype(np.uint8)
            mask[np.hypot(down, 1.2 * across) < inner] = 2
            colours = np.array([[220, 215, 220], [150, 180, 170], [80, 70, 120]])[mask]
            picture = np.clip(colours + rng.normal(0, 6, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            for kind, content in (("images", picture), ("masks", mask)):
                path = place / "cells" / kind / label / f"{index:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(path)
    cells = open_cells(place / "cells")
    return open_cache(cells, Preparation(resolution=SIDE), place / "cache"), split_cells(
        cells, (0.3, 0.1, 0.6), seed=0
    )


def a_set(folder: Path, cached: CachedCells, split: Split, masked: bool) -> OpenedSet:
    """The real cells as if they were synthetic, with their masks."""
    names, entries = cached.shape.classes, []
    for index, (label, levels) in enumerate(zip(cached.labels, cached.masks, strict=True)):
        file = f"{names[label]}/{names[label]}_{index:08d}.png"
        content = encode_png(levels, {})
        path = folder / mask_file(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        mask = {"mask": mask_file(file), "mask_sha256": sha256_bytes(content)} if masked else {}
        entries.append(
            Entry(**{"class": names[label]}, file=file, seed=index, truncation=1, sha256="", **mask)
        )
    header = Header(
        method="m", config_sha256="", checkpoint="best", checkpoint_sha256="", seen=0, truncation=1,
        preparation={}, classes=names, folders={name: name for name in names}, run="run", split_sha256=None,
        versions={}, threads=1,
    )  # fmt: skip
    return OpenedSet(Manifest(header, tuple(entries)), None, split, cached, np.asarray(cached.images))


def test_equal_cells_do_not_differ_and_brighter_ones_do(tmp_path: Path, real) -> None:
    cached, split = real
    opened = a_set(tmp_path, cached, split, masked=True)
    same = morphometry(tmp_path, opened, "given", 0)
    assert same is not None
    assert same.source == "given"
    brighter = np.clip(cached.images.astype(int) + 90, 0, 255).astype(np.uint8)
    other = morphometry(tmp_path, replace(opened, pixels=brighter), "given", 0)
    assert other is not None
    for label, rows in same.classes.items():
        assert not any(row.differs for row in rows.values())
        changed = other.classes[label]
        assert changed["cytoplasm_red_mean"].differs
        assert changed["nc_ratio"].wasserstein == rows["nc_ratio"].wasserstein


def test_without_masks_nothing_is_measured(tmp_path: Path, real) -> None:
    cached, split = real
    opened = a_set(tmp_path, cached, split, masked=False)
    assert morphometry(tmp_path, opened, "given", 0) is None
    assert morphometry(tmp_path, opened, "none", 0) is None


def test_a_changed_mask_is_refused(tmp_path: Path, real) -> None:
    cached, split = real
    opened = a_set(tmp_path, cached, split, masked=True)
    (tmp_path / str(opened.manifest.images[3].mask)).write_bytes(b"x")
    with pytest.raises(DataError, match="cytoforge verify"):
        morphometry(tmp_path, opened, "given", 0)


def test_masks_can_be_found_on_both_sides(tmp_path: Path, real, monkeypatch) -> None:
    cached, split = real
    calls: list[int] = []

    def found(images: list[np.ndarray]) -> list[np.ndarray]:
        calls.append(len(images))
        return list(cached.masks)

    monkeypatch.setattr("cytoforge.stages.morphometry.unsupervised_masks", found)
    opened = a_set(tmp_path, cached, split, masked=False)
    result = morphometry(tmp_path, opened, "unsupervised", 0)
    assert result is not None
    assert result.source == "unsupervised"
    assert calls == [len(cached), len(cached)]
