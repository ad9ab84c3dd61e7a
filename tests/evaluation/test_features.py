from __future__ import annotations

import numpy as np
import pytest
import torch

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.symmetry import symmetries
from cytoforge.evaluation import features
from cytoforge.evaluation.features import (
    Extractor,
    extract,
    extract_views,
    fair_extractor,
    open_extractor,
)


@pytest.fixture
def counting() -> tuple[Extractor, list[int]]:
    calls: list[int] = []

    def embed(levels: torch.Tensor) -> torch.Tensor:
        calls.append(len(levels))
        return levels.mean((2, 3))

    return Extractor("mean@8", 8, 3, embed), calls


def images(count: int, side: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_default_extractor_gives_rows_of_1280_that_do_not_depend_on_the_batch() -> None:
    extractor = open_extractor("efficientnet-lite0@64")
    cells = images(3, 32)
    together, alone = extract(cells, extractor), extract(cells[1:2], extractor)
    assert extractor.name == "efficientnet-lite0@64"
    assert together.shape == (3, 1280)
    assert together.dtype == np.float64
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("second", [True, False])
def test_who_trained_or_chose_does_not_judge_where_there_is_another(monkeypatch, second) -> None:
    def opened(name: str) -> Extractor:
        if name.startswith("mobilenet") and not second:
            raise ConfigError("its weights are not installed")
        return Extractor(name, 8, 1, torch.flatten)

    monkeypatch.setattr(features, "open_extractor", opened)
    another = "mobilenet-v2" if second else "efficientnet-lite0"
    assert fair_extractor(None, None).network == "efficientnet-lite0"
    assert fair_extractor("efficientnet-lite0").network == another
    assert fair_extractor("efficientnet-lite0", side=64).name == f"{another}@64"
    assert fair_extractor(None, "efficientnet-lite0").network == another
    assert fair_extractor("mobilenet-v2", None).network == "efficientnet-lite0"


def test_cache_computes_each_picture_once(counting, tmp_path) -> None:
    extractor, calls = counting
    cells = np.concatenate([images(5), images(5)[:2]])
    plain = extract(cells, extractor)
    calls.clear()
    np.testing.assert_array_equal(extract(cells, extractor, tmp_path), plain)
    assert sum(calls) == 5
    np.testing.assert_array_equal(extract(cells[::-1], extractor, tmp_path), plain[::-1])
    assert sum(calls) == 5
    extract(np.concatenate([cells, images(2, seed=1)]), extractor, tmp_path)
    assert sum(calls) == 7


def test_only_pieces_of_the_cache_that_hold_what_is_wanted_are_read(counting, tmp_path, monkeypatch) -> None:
    extractor, _ = counting
    few, many = images(2), images(50, seed=1)
    plain = extract(few, extractor, tmp_path)
    extract(many, extractor, tmp_path)
    shapes, load = [], np.load

    def watch(*given, **options):
        rows = load(*given, **options)
        shapes.append(rows.shape)
        return rows

    monkeypatch.setattr(np, "load", watch)
    np.testing.assert_array_equal(extract(few, extractor, tmp_path), plain)
    extract(images(3, seed=2), extractor, tmp_path)
    assert shapes == [(2, 3)]


def test_damaged_cache_is_computed_again(counting, tmp_path) -> None:
    extractor, calls = counting
    plain = extract(images(4), extractor, tmp_path)
    (shard,) = tmp_path.rglob("*.npy")
    content = bytearray(shard.read_bytes())
    content[-3] ^= 0x40
    shard.write_bytes(bytes(content))
    np.testing.assert_array_equal(extract(images(4), extractor, tmp_path), plain)
    assert sum(calls) == 8


def test_cache_tells_pictures_of_other_extractors_apart(counting, tmp_path) -> None:
    extractor, calls = counting
    extract(images(2), extractor, tmp_path)
    other = Extractor("mean@4", 4, 3, extractor.embed)
    extract(images(2), other, tmp_path)
    assert sum(calls) == 4


def test_unwritable_cache_still_gives_features(counting, tmp_path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    assert extract(images(2), counting[0], blocker).shape == (2, 3)


@pytest.mark.parametrize("cached", [True, False])
def test_views_are_those_of_all_images_turned_at_once(counting, cached, tmp_path) -> None:
    """Three come twice, and all turns of the last are one picture."""
    extractor, calls = counting
    cells = np.concatenate([images(21), images(3), np.zeros((1, 8, 8, 3), np.uint8)])
    whole, pieces = (tmp_path / name if cached else None for name in ("whole", "pieces"))
    for folder in filter(None, (whole, pieces)):
        extract(cells[2:7], extractor, folder)
    calls.clear()
    expected = extract(symmetries(cells).reshape(-1, 8, 8, 3), extractor, whole)
    batches = calls.copy()
    calls.clear()
    np.testing.assert_array_equal(extract_views(cells, extractor, pieces), expected.reshape(25, 8, 3))
    assert calls == batches
    assert sum(calls) == (21 * 8 - 5 + 1 if cached else 25 * 8)
    assert extract_views(cells[:0], extractor, pieces).shape == (0, 8, 3)


@pytest.mark.parametrize(
    "name", ["inception", "efficientnet-lite0@4", "timm:no_such_network", "onnx:/no/file.onnx"]
)
def test_unknown_extractors_say_what_to_do(name) -> None:
    with pytest.raises(ConfigError):
        open_extractor(name)


def test_wrong_array_is_refused(counting) -> None:
    with pytest.raises(DataError, match="uint8"):
        extract(np.zeros((2, 8, 8, 3)), counting[0])
