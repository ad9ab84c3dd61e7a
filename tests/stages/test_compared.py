from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.core.run import Run
from cytoforge.core.symmetry import symmetries
from cytoforge.evaluation.comparison import FeatureSet
from cytoforge.evaluation.features import Extractor, extract
from cytoforge.evaluation.memorisation import coarse_pattern
from cytoforge.sampling.provenance import Header
from cytoforge.stages.compared import Images, find_split, looks_at, run_of


def header_of(run: Run) -> Header:
    return Header(
        method="wgan-gp", config_sha256=run.config_hash, checkpoint="best", checkpoint_sha256="", seen=1,
        truncation=1.0, preparation={"resolution": 32}, classes=("a",), folders={"a": "a"}, run="../run",
        split_sha256=None, versions={}, threads=1,
    )  # fmt: skip


def test_a_set_goes_with_its_own_run_and_with_no_other_in_its_place(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"method": "wgan-gp", "seed": 0})
    header = header_of(run)
    assert run_of(tmp_path / "set", header) == Run.open(run.path)
    run.path.rename(tmp_path / "earlier run")
    assert run_of(tmp_path / "set", header) is None
    Run.create(tmp_path / "run", {"method": "wgan-gp", "seed": 1})
    found = run_of(tmp_path / "set", header)
    assert found is None
    with pytest.raises(ConfigError, match=r"not at '\.\./run' any more.*--split RUN/split\.json"):
        find_split(None, found, header)


MEAN = Extractor("mean@16", 16, 3, lambda levels: levels.mean((2, 3)))


def some(count: int, seed: int, side: int = 16) -> Images:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    names = tuple(map(str, range(count)))
    seen = FeatureSet(np.zeros((count, 3)), np.zeros(count, np.int64), names, MEAN.name, 16)
    return Images(pixels, names, seen)


def test_views_of_synthetic_images_are_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOFORGE_CACHE", str(tmp_path))
    look, _ = looks_at(some(3, 0), some(4, 1), some(50, 2), MEAN)
    assert look.fake.shape == (50, 8, 3)
    pieces = [json.loads(path.read_text())["keys"] for path in tmp_path.glob("features/*/*.json")]
    assert sorted(map(len, pieces)) == [3, 4 * 8]


@pytest.mark.parametrize("side", [16, 21])
def test_looks_in_pieces_are_those_of_all_images_at_once(
    side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYTOFORGE_CACHE", str(tmp_path))
    train, holdout, fake = some(35, 0, side), some(1, 1, side), some(49, 2, side)
    features, coarse = looks_at(train, holdout, fake, MEAN)
    for name, images in (("holdout", holdout), ("fake", fake)):
        turned = symmetries(images.pixels)
        np.testing.assert_array_equal(getattr(coarse, name), coarse_pattern(turned))
        rows = extract(turned.reshape(-1, side, side, 3), MEAN)
        np.testing.assert_array_equal(getattr(features, name), rows.reshape(-1, 8, 3))
    np.testing.assert_array_equal(coarse.train, coarse_pattern(train.pixels))
    np.testing.assert_array_equal(features.train, extract(train.pixels, MEAN))


def test_memory_does_not_grow_with_the_views_of_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYTOFORGE_CACHE", str(tmp_path))
    few, many = some(2, 0, 64), some(400, 1, 64)
    tracemalloc.start()
    try:
        looks_at(few, few, many, MEAN)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = many.pixels.nbytes
    assert peak < 8 * size
