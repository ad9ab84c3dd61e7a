from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cytoforge.core.batch import to_float
from cytoforge.core.errors import DataError
from cytoforge.core.files import sha256_file
from cytoforge.data import cache
from cytoforge.data.cache import cache_directory, mask_channels, mask_levels, open_cache
from cytoforge.data.folder import open_cells, read_image, read_mask
from cytoforge.data.transform import Preparation, prepare, prepare_mask

SMALL = Preparation(resolution=16)


def cells_in(root: Path, count: int = 3, masks: bool = False, side: int = 24) -> Path:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        for number in range(count):
            folder = root / "images" / label if masks else root / label
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (side, side + number % 3, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03d}.png")
            if masks:
                place = root / "masks" / label
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 4, pixels.shape[:2], dtype=np.uint8)).save(
                    place / f"{number:03d}.png"
                )
    return root


def test_holds_what_preparing_each_file_gives(tmp_path: Path) -> None:
    cells = open_cells(cells_in(tmp_path / "ü data", masks=True))
    cached = open_cache(cells, SMALL, tmp_path / "cache")
    assert cached.shape.resolution == 16
    assert cached.shape.classes == ("a", "b")
    assert cached.shape.mask_channels == 2
    assert cached.names == tuple(cells.names)
    assert cached.groups == tuple(cells.groups)
    assert cached.labels.tolist() == cells.labels.tolist()
    assert cached.masks is not None
    for index, cell in enumerate(cells.cells):
        np.testing.assert_array_equal(cached.images[index], prepare(read_image(cell), SMALL))
        mask = read_mask(cell)
        assert mask is not None
        np.testing.assert_array_equal(cached.masks[index], prepare_mask(mask, SMALL))
        assert cached.hashes[index] == sha256_file(cell.path)


def test_batch(tmp_path: Path) -> None:
    cached = open_cache(open_cells(cells_in(tmp_path / "d", masks=True)), SMALL, tmp_path / "cache")
    indices = np.array([4, 0, 0])
    batch = cached.batch(indices, np.array([7, 8, 9]))
    assert torch.equal(batch.images, to_float(np.asarray(cached.images)[indices]))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.tolist() == [1, 0, 0]
    assert batch.seeds.tolist() == [7, 8, 9]
    assert batch.masks is not None
    assert cached.masks is not None
    assert batch.masks.shape == (3, 2, 16, 16)
    np.testing.assert_array_equal(batch.masks[0, 0].numpy(), cached.masks[4] == 1)
    np.testing.assert_array_equal(batch.masks[0, 1].numpy(), cached.masks[4] == 2)


def test_select_keeps_rows_together(tmp_path: Path) -> None:
    cached = open_cache(open_cells(cells_in(tmp_path / "d")), SMALL, tmp_path / "cache")
    some = cached.select(["b/001.png", "a/002.png"])
    assert some.names == ("a/002.png", "b/001.png")
    assert some.hashes == (cached.hashes[2], cached.hashes[4])
    np.testing.assert_array_equal(some.images, np.asarray(cached.images)[[2, 4]])
    assert some.batch(np.array([1]), np.array([0])).labels.tolist() == [1]
    with pytest.raises(DataError, match="right folder"):
        cached.select(["z.png"])


def test_decodes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = cells_in(tmp_path / "d")
    decoded: list[Path] = []
    original = cache.decode_bytes
    monkeypatch.setattr(
        cache, "decode_bytes", lambda content, path: decoded.append(path) or original(content, path)
    )
    first = open_cache(open_cells(root), SMALL, tmp_path / "cache")
    assert len(decoded) == 6
    again = open_cache(open_cells(root), SMALL, tmp_path / "cache")
    assert len(decoded) == 6
    np.testing.assert_array_equal(first.images, again.images)
    shutil.copytree(root, tmp_path / "moved")
    open_cache(open_cells(tmp_path / "moved"), SMALL, tmp_path / "cache")
    assert len(decoded) == 6


def test_changed_content_or_preparation_is_another_cache(tmp_path: Path) -> None:
    root = cells_in(tmp_path / "d")
    first = open_cache(open_cells(root), SMALL, tmp_path / "cache")
    Image.new("RGB", (20, 20), "red").save(root / "a/000.png")
    changed = open_cache(open_cells(root), SMALL, tmp_path / "cache")
    assert changed.images[0].tolist() == [[[255, 0, 0]] * 16] * 16
    assert (first.images[0] != changed.images[0]).any()
    padded = open_cache(open_cells(root), Preparation(resolution=16, fit="pad"), tmp_path / "cache")
    assert (padded.images != changed.images).any()


def test_undecodable_files_are_reported_and_left_out(tmp_path: Path) -> None:
    root = cells_in(tmp_path / "d")
    whole = (root / "a/001.png").read_bytes()
    (root / "a/001.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(root / "b/000.png")
    Image.fromarray(np.zeros((20, 20, 4), np.uint8)).save(root / "b/001.png")
    (root / "b/empty.png").touch()
    for _ in range(2):  # built, then found
        cached = open_cache(open_cells(root), SMALL, tmp_path / "cache")
        assert cached.names == ("a/000.png", "a/002.png", "b/001.png", "b/002.png")
        assert cached.labels.tolist() == [0, 0, 1, 1]
        assert len(cached.images) == 4
        found = {fault.path.relative_to(root).as_posix(): fault for fault in cached.faults}
        assert set(found) == {"a/001.png", "b/000.png", "b/001.png", "b/empty.png"}
        assert found["a/001.png"].reason.startswith("damaged or cut off")
        assert found["b/001.png"].used
        assert not found["b/000.png"].used


def test_bad_mask_is_reported_and_its_image_used(tmp_path: Path) -> None:
    root = cells_in(tmp_path / "d", masks=True)
    (root / "masks/a/000.png").write_bytes(b"nonsense")
    (root / "masks/b/002.png").unlink()
    cached = open_cache(open_cells(root), SMALL, tmp_path / "cache")
    assert len(cached) == 6
    assert cached.masks is not None
    assert (cached.masks[0] == 3).all()
    assert (cached.masks[5] == 3).all()
    bad = next(fault for fault in cached.faults if fault.path == root / "masks/a/000.png")
    assert bad.used
    assert "mask left out" in bad.reason


def test_nothing_decodable(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="none of the 2 images"):
        open_cache(open_cells(tmp_path), SMALL, tmp_path / "cache")


@pytest.mark.parametrize("victim", ["images.bin", "masks.bin", "index.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_damaged_cache_is_built_again(tmp_path: Path, victim: str, damage: str) -> None:
    cells = open_cells(cells_in(tmp_path / "d", masks=True))
    good = np.array(open_cache(cells, SMALL, tmp_path / "cache").images)
    path = next((tmp_path / "cache").glob(f"cells-*/{victim}"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.unlink()
    if damage != "remove":
        path.write_bytes({"flip": bytes(content), "cut": content[: len(content) // 2], "empty": b""}[damage])
    np.testing.assert_array_equal(open_cache(cells, SMALL, tmp_path / "cache").images, good)
    assert sorted(entry.name[:6] for entry in (tmp_path / "cache").iterdir()) == ["cells-"]


def _open_and_sum(root: Path, place: Path, start: float, results: object) -> None:
    time.sleep(max(0, start - time.time()))
    total = int(open_cache(open_cells(root), SMALL, place).images.sum())
    results.put(total)


def test_several_processes_at_once(tmp_path: Path) -> None:
    root = cells_in(tmp_path / "d", count=20)
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    results = context.Queue()
    start = time.time() + 0.3
    arguments = (root, tmp_path / "cache", start, results)
    processes = [context.Process(target=_open_and_sum, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    sums = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert sums == {int(open_cache(open_cells(root), SMALL, tmp_path / "cache").images.sum())}
    assert [entry.name[:6] for entry in (tmp_path / "cache").iterdir()] == ["cells-"]


def test_what_a_killed_build_left_is_swept_after_a_day(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    old, young = place / ".building-old", place / ".building-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    open_cache(open_cells(cells_in(tmp_path / "d")), SMALL, place)
    assert not old.exists()
    assert young.exists()


def test_full_disk_is_a_clear_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    cells = open_cells(cells_in(tmp_path / "d"))
    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        open_cache(cells, SMALL, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="CYTOFORGE_CACHE"):
        open_cache(open_cells(cells_in(tmp_path / "d")), SMALL, tmp_path / "file" / "cache")


class TestCacheDirectory:
    def test_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CYTOFORGE_CACHE", str(tmp_path / "mine"))
        assert cache_directory() == tmp_path / "mine"

    @pytest.mark.skipif(sys.platform != "linux", reason="each system has its own place")
    def test_user_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CYTOFORGE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_directory() == tmp_path / "xdg" / "cytoforge"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_directory() == tmp_path / "home" / ".cache" / "cytoforge"

    @pytest.mark.skipif(sys.platform != "linux", reason="each system has its own place")
    def test_home_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "home").write_text("not a folder")
        (tmp_path / "temporary").mkdir()
        monkeypatch.delenv("CYTOFORGE_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path / "temporary"))
        place = cache_directory()
        assert place.parent == tmp_path / "temporary"
        cells = open_cells(cells_in(tmp_path / "d"))
        assert len(open_cache(cells, SMALL)) == 6
        assert list(place.glob("cells-*"))


def test_rows_of_an_archive(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 9), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 2).reshape(-1, 1)
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    cells = open_cells(tmp_path / "x.npz")
    cached = open_cache(cells, SMALL, tmp_path / "cache")
    assert len(cached) == 14
    assert len(set(cached.hashes)) == 14
    for index, cell in enumerate(cells.cells):
        np.testing.assert_array_equal(cached.images[index], prepare(read_image(cell), SMALL))


MEASURE = '''
import json, sys
from pathlib import Path
import numpy as np
from cytoforge.data.cache import open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.sampler import Sampler
from cytoforge.data.transform import Preparation

def resident():
    """In bytes, without shared libraries, of which more or less is loaded by chance."""
    total, counted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *others = line.split()
        if "-" in first:
            counted = ".so" not in line
        elif counted and first == "Rss:":
            total += 1024 * int(others[0])
    return total

cached = open_cache(open_cells(Path(sys.argv[1])), Preparation(resolution=128), Path(sys.argv[2]))
sampler = Sampler(cached.labels, 0)
highest = 0
for step in range(int(sys.argv[3])):
    cached.batch(sampler.indices(64 * step, 64), np.arange(64))
    highest = max(highest, resident())
print(json.dumps({"resident": highest, "count": len(cached), "bytes": cached.stored_images.nbytes}))
'''


STEADY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "0"}
"""What is freed goes back at once: otherwise the numbers vary by a third from run to run."""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="measures resident memory through /proc")
def test_ten_times_the_images_need_no_more_memory(tmp_path: Path) -> None:
    """Ten times the images, as many batches (which cover all of them): at most 5 % more resident memory."""
    measured = []
    for name, count in (("small", 80), ("large", 800)):
        root = cells_in(tmp_path / name, count=4, side=64)
        for label in "ab":
            for number in range(4, count):
                (root / label / f"{number:05d}.png").symlink_to(root / label / f"{number % 4:03d}.png")
        open_cache(open_cells(root), Preparation(resolution=128), tmp_path / "cache")
        command = [sys.executable, "-c", MEASURE, str(root), str(tmp_path / "cache"), "20"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | STEADY)
        measured.append(json.loads(done.stdout))
    small, large = measured
    assert large["count"] == 10 * small["count"]
    assert large["bytes"] > 0.3 * small["resident"]  # the whole of it in memory would show
    assert large["resident"] < 1.05 * small["resident"]


def test_cells_without_masks_are_left_out_where_masks_are_needed(tmp_path: Path) -> None:
    root = cells_in(tmp_path / "d", masks=True)
    (root / "masks" / "a" / "001.png").unlink()
    cached = open_cache(open_cells(root), SMALL, tmp_path / "cache")
    kept = cached.with_masks()
    assert set(cached.names) - set(kept.names) == {"images/a/001.png"}
    assert cached.without_masks().shape.mask_channels == 0
    assert cached.without_masks().batch(np.array([0]), np.array([0])).masks is None
    for path in (root / "masks" / "b").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"class 'b' has a mask.*cytoforge mask"):
        open_cache(open_cells(root), SMALL, tmp_path / "cache").with_masks()


def test_mask_levels_undo_mask_channels() -> None:
    masks = np.random.default_rng(0).integers(0, 3, (4, 8, 8), np.uint8)
    np.testing.assert_array_equal(mask_levels(mask_channels(masks)), masks)
