from __future__ import annotations

import csv
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.data.cells import CellSet
from cytoforge.data.folder import open_cells, read_image, read_mask

RNG = np.random.default_rng(0)


def save(path: Path, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (side, side + 4, 3), dtype=np.uint8)).save(path)
    return path


def save_mask(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def reasons(cells: CellSet) -> dict[str, str]:
    return {fault.path.name: fault.reason for fault in cells.faults}


class TestFolders:
    def test_one_folder_a_class_at_any_depth(self, tmp_path: Path) -> None:
        for name in ("b/2.png", "a/1.png", "a/deep er/ü 3.JPG", "b/photo.TIFF"):
            save(tmp_path / name)
        cells = open_cells(tmp_path)
        assert cells.layout == "folders"
        assert cells.classes == ("a", "b")
        assert cells.names == ["a/1.png", "a/deep er/ü 3.JPG", "b/2.png", "b/photo.TIFF"]
        assert cells.labels.tolist() == [0, 0, 1, 1]
        assert len(set(cells.groups)) == 4
        assert read_image(cells.cells[0]).shape == (16, 20, 3)
        assert read_mask(cells.cells[0]) is None

    def test_nothing_is_dropped_silently(self, tmp_path: Path) -> None:
        for name in ("a/1.png", "b/1.png"):
            save(tmp_path / name)
        save(tmp_path / "outside.png")
        (tmp_path / "a/empty.png").touch()
        (tmp_path / "a/slide.svs").write_bytes(b"x")
        (tmp_path / "a/moving.gif").write_bytes(b"x")
        (tmp_path / "a/gone.png").symlink_to(tmp_path / "nowhere.png")
        for ignored in ("a/notes.txt", "a/Thumbs.db", "a/.hidden.png", ".trash/x.png", "__MACOSX/a/1.png"):
            (tmp_path / ignored).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / ignored).write_bytes(b"x")
        cells = open_cells(tmp_path)
        assert cells.names == ["a/1.png", "b/1.png"]
        found = reasons(cells)
        assert sorted(found) == ["empty.png", "gone.png", "moving.gif", "outside.png", "slide.svs"]
        assert "outside any class" in found["outside.png"]
        assert "0 bytes" in found["empty.png"]
        assert "broken link" in found["gone.png"]
        assert not any(fault.used for fault in cells.faults)

    def test_linked_images_and_folders_count_and_loops_end(self, tmp_path: Path) -> None:
        elsewhere = save(tmp_path / "elsewhere" / "x.png").parent
        root = tmp_path / "root"
        save(root / "a/1.png")
        (root / "a/link.png").symlink_to(elsewhere / "x.png")
        (root / "b").symlink_to(elsewhere, target_is_directory=True)
        (root / "a/loop").symlink_to(root / "a", target_is_directory=True)
        assert open_cells(root).names == ["a/1.png", "a/link.png", "b/x.png"]

    def test_folders_of_a_split_are_kept_as_split(self, tmp_path: Path) -> None:
        for name in ("train/a/1.png", "train/b/1.png", "valid/a/2.png", "test/b/3.png"):
            save(tmp_path / name)
        cells = open_cells(tmp_path)
        assert cells.classes == ("a", "b")
        assert {cell.name: cell.split for cell in cells.cells} == {
            "train/a/1.png": "train",
            "train/b/1.png": "train",
            "valid/a/2.png": "val",
            "test/b/3.png": "test",
        }

    @pytest.mark.parametrize("stray", ["overview.png", "docs/figure1.png", "masks/train/a/9.png"])
    def test_a_stray_image_makes_no_classes_of_a_split(self, tmp_path: Path, stray: str) -> None:
        for name in ("train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png", stray):
            save(tmp_path / name)
        cells = open_cells(tmp_path)
        assert cells.classes == ("a", "b")
        assert {cell.split for cell in cells.cells} == {"train", "test"}
        assert set(reasons(cells)) == {Path(stray).name}

    def test_a_mask_without_its_image_is_no_cell(self, tmp_path: Path) -> None:
        for name in ("a/0", "a/1", "b/2"):
            save(tmp_path / f"{name}.png")
            save_mask(tmp_path / f"{name}_mask.png", np.zeros((16, 20)))
        (tmp_path / "a/0.png").write_bytes(b"")
        cells = open_cells(tmp_path)
        assert cells.names == ["a/1.png", "b/2.png"]
        assert reasons(cells)["0_mask.png"] == "mask without an image of the same name"

    def test_without_other_masks_a_name_alone_makes_none(self, tmp_path: Path) -> None:
        for name in ("a/face_mask.png", "masks/b/1.png"):
            save(tmp_path / name)
        assert open_cells(tmp_path).names == ["a/face_mask.png", "masks/b/1.png"]

    def test_mask_beside_its_image(self, tmp_path: Path) -> None:
        save(tmp_path / "a/1.png")
        save(tmp_path / "b/face_mask.png")  # an image: nothing beside it is called face
        values = np.zeros((16, 20))
        values[4:8, 4:8] = 255
        save_mask(tmp_path / "a/1_mask.png", values)
        cells = open_cells(tmp_path)
        assert cells.names == ["a/1.png", "b/face_mask.png"]
        mask = read_mask(cells.cells[0])
        assert mask is not None
        np.testing.assert_array_equal(mask, values == 255)

    def test_name_that_is_no_text_is_a_fault(self, tmp_path: Path) -> None:
        save(tmp_path / "a/1.png")
        source = save(tmp_path / "b/1.png")
        try:
            Path(os.fsdecode(os.fsencode(str(tmp_path / "b")) + b"/\xff.png")).write_bytes(
                source.read_bytes()
            )
        except OSError:
            pytest.skip("this file system takes only valid text as names")
        cells = open_cells(tmp_path)
        assert len(cells) == 2
        assert [fault.reason for fault in cells.faults] == ["the file name is not valid text; rename it"]


class TestGroups:
    def test_pattern_with_one_capture(self, tmp_path: Path) -> None:
        for name in ("a/p1_1.png", "a/p1_2.png", "b/p2_1.png"):
            save(tmp_path / name)
        assert open_cells(tmp_path, group=r"/(p\d+)_").groups == ["p1", "p1", "p2"]

    @pytest.mark.parametrize("pattern", ["(", "no capture", "(two)(captures)"])
    def test_bad_pattern(self, tmp_path: Path, pattern: str) -> None:
        save(tmp_path / "a/1.png")
        save(tmp_path / "b/1.png")
        with pytest.raises(ConfigError, match="group"):
            open_cells(tmp_path, group=pattern)

    def test_pattern_that_does_not_fit_all_names_the_first(self, tmp_path: Path) -> None:
        for name in ("a/p1_1.png", "b/other.png"):
            save(tmp_path / name)
        with pytest.raises(DataError, match=r"1 of 2 names; not 'b/other\.png'"):
            open_cells(tmp_path, group=r"(p\d+)_")


class TestRefusals:
    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="does not exist"):
            open_cells(tmp_path / "none")

    def test_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is a file"):
            open_cells(save(tmp_path / "a.png"))

    def test_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no usable image"):
            open_cells(tmp_path)

    def test_one_class(self, tmp_path: Path) -> None:
        save(tmp_path / "only/1.png")
        with pytest.raises(DataError, match="only one class, 'only'"):
            open_cells(tmp_path)

    def test_unknown_layout_suggests(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match='Did you mean "herlev"'):
            open_cells(tmp_path, layout="herlef")


class TestSelect:
    def test_keeps_order_and_classes(self, tmp_path: Path) -> None:
        for name in ("a/1.png", "b/1.png", "c/1.png"):
            save(tmp_path / name)
        some = open_cells(tmp_path).select(["c/1.png", "a/1.png"])
        assert some.names == ["a/1.png", "c/1.png"]
        assert some.classes == ("a", "b", "c")
        assert some.labels.tolist() == [0, 2]

    def test_refuses_unknown_names(self, tmp_path: Path) -> None:
        for name in ("a/1.png", "b/1.png"):
            save(tmp_path / name)
        with pytest.raises(DataError, match=r"first 'z\.png'"):
            open_cells(tmp_path).select(["a/1.png", "z.png"])


class TestSipakmed:
    def root(self, tmp_path: Path) -> Path:
        for label in ("Parabasal", "Koilocytotic"):
            folder = tmp_path / f"im_{label}" / f"im_{label}"
            save(folder / "001.bmp", 64)
            for name in ("001_01.bmp", "001_02.bmp", "002_01.png"):
                save(folder / "CROPPED" / name)
        return tmp_path

    def test_groups_are_photos_of_a_class(self, tmp_path: Path) -> None:
        cells = open_cells(self.root(tmp_path))
        assert cells.layout == "sipakmed"
        assert cells.classes == ("Koilocytotic", "Parabasal")
        assert cells.groups[:3] == ["Koilocytotic/001", "Koilocytotic/001", "Koilocytotic/002"]
        assert len(set(cells.groups)) == 4
        assert cells.names[0] == "im_Koilocytotic/im_Koilocytotic/CROPPED/001_01.bmp"

    def test_photos_are_listed(self, tmp_path: Path) -> None:
        cells = open_cells(self.root(tmp_path))
        assert len(cells) == 6
        assert [fault.path.name for fault in cells.faults] == ["001.bmp", "001.bmp"]
        assert "whole photo" in cells.faults[0].reason

    def test_contours_in_the_crop(self, tmp_path: Path) -> None:
        folder = self.root(tmp_path) / "im_Parabasal" / "im_Parabasal" / "CROPPED"
        (folder / "001_01_cyt.dat").write_text("2,2\n12,2\n12,12\n2,12\n")
        (folder / "001_01_nuc.dat").write_text("5,6\n8,6\n8,8\n5,8\n")
        cell = next(cell for cell in open_cells(tmp_path).cells if cell.mask is not None)
        mask = read_mask(cell)
        assert mask is not None
        assert mask.shape == (16, 20)
        assert (mask == 2).sum() == 12
        assert mask[7, 6] == 2
        assert mask[3, 3] == 1
        assert mask[0, 0] == 0

    def test_contours_of_the_photo_are_moved_into_the_crop(self, tmp_path: Path) -> None:
        folder = self.root(tmp_path) / "im_Parabasal" / "im_Parabasal"
        (folder / "001_cyt02.dat").write_text("30.0,40.0\r\n47.0,40.0\r\n47.0,53.0\r\n30.0,53.0\r\n")
        (folder / "001_nuc02.dat").write_text("36,44\n40,44\n40,48\n36,48\n")
        cell = next(cell for cell in open_cells(tmp_path).cells if cell.mask is not None)
        assert cell.name.endswith("001_02.bmp")
        mask = read_mask(cell)
        assert mask is not None
        rows, columns = np.nonzero(mask)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 14, 1, 18)
        assert np.argwhere(mask == 2).mean(0) == pytest.approx([7, 9])

    @pytest.mark.parametrize(
        "text", ["", "1,2\n3,4\n", "a,b\n1,2\n3,4\n", "1,2,3\n" * 4, "1,nan\n2,3\n4,5\n"]
    )
    def test_bad_contours_are_refused(self, tmp_path: Path, text: str) -> None:
        folder = self.root(tmp_path) / "im_Parabasal" / "im_Parabasal" / "CROPPED"
        (folder / "001_01_cyt.dat").write_text(text)
        cell = next(cell for cell in open_cells(tmp_path).cells if cell.mask is not None)
        with pytest.raises(DataError, match="x,y"):
            read_mask(cell)

    def test_contours_of_an_unscaled_crop_are_refused(self, tmp_path: Path) -> None:
        folder = self.root(tmp_path) / "im_Parabasal" / "im_Parabasal" / "CROPPED"
        (folder / "001_01_cyt.dat").write_text("0,0\n100,0\n100,90\n0,90\n")
        cell = next(cell for cell in open_cells(tmp_path).cells if cell.mask is not None)
        with pytest.raises(DataError, match="before it was scaled"):
            read_mask(cell)

    def test_real(self, real_data: Path) -> None:
        cells = open_cells(real_data / "sipakmed")
        counts = np.bincount(cells.labels).tolist()
        assert (cells.layout, counts) == ("sipakmed", [678, 641, 678, 576, 679])
        assert cells.classes[-1] == "Superficial-Intermediate"
        originals = open_cells(real_data / "sipakmed-original")
        assert originals.layout == "sipakmed"
        assert originals.cells[0].path.suffix == ".bmp"


class TestHerlevAndPaired:
    def test_herlev_groups_by_slide_across_classes(self, tmp_path: Path) -> None:
        for label, name in (("a", "7-1-1"), ("b", "7-2-1"), ("b", "8-1-1")):
            save(tmp_path / "images" / label / f"{name}.png")
            save_mask(tmp_path / "masks" / label / f"{name}.png", RNG.integers(0, 4, (16, 20)))
        cells = open_cells(tmp_path)
        assert cells.layout == "herlev"
        assert cells.groups == ["7", "7", "8"]
        mask = read_mask(cells.cells[0])
        assert mask is not None
        assert set(np.unique(mask)) == {0, 1, 2, 3}

    def test_herlev_as_published(self, tmp_path: Path) -> None:
        """Pictures `.BMP`, segmentations `-d.bmp` in colours; made for the test after the published names."""
        colours = np.array([[255, 0, 0], [0, 0, 128], [0, 0, 255], [128, 128, 128]], np.uint8)
        for label, name in (("normal_columnar", "7-1-001"), ("light_dysplastic", "7-2-001")):
            save(tmp_path / label / f"{name}.BMP")
            truth = RNG.integers(0, 4, (16, 20))
            save_mask(tmp_path / label / f"{name}-d.bmp", colours[truth])
        save(tmp_path / "light_dysplastic" / "8-1-001.BMP")
        save_mask(tmp_path / "light_dysplastic" / "9-1-001-d.bmp", colours[truth])
        cells = open_cells(tmp_path)
        assert (cells.layout, cells.groups) == ("herlev", ["7", "8", "7"])
        assert cells.classes == ("light_dysplastic", "normal_columnar")
        np.testing.assert_array_equal(read_mask(cells.cells[0]), truth)
        assert cells.cells[1].mask is None
        assert "no segmentation" in reasons(cells)["8-1-001.BMP"]
        assert "without a picture" in reasons(cells)["9-1-001-d.bmp"]

    def test_herlev_as_published_keeps_a_split(self, tmp_path: Path) -> None:
        for place in ("train/a/7-1-001", "train/b/8-1-001", "test/a/9-1-001"):
            save(tmp_path / f"{place}.BMP")
            save_mask(tmp_path / f"{place}-d.bmp", np.full((16, 20, 3), [0, 0, 255]))
        save(tmp_path / "test" / "9-2-001.BMP")
        cells = open_cells(tmp_path)
        assert (cells.layout, cells.classes, cells.groups) == ("herlev", ("a", "b"), ["9", "7", "8"])
        assert [cell.split for cell in cells.cells] == ["test", "train", "train"]
        assert "outside any class folder" in reasons(cells)["9-2-001.BMP"]

    def test_real_herlev(self, real_data: Path) -> None:
        cells = open_cells(real_data / "herlev")
        assert (cells.layout, len(cells), len(cells.classes), len(set(cells.groups))) == (
            "herlev",
            917,
            7,
            323,
        )
        assert all(cell.mask is not None for cell in cells.cells)
        mask = read_mask(cells.cells[0])
        assert mask is not None
        assert mask.shape == read_image(cells.cells[0]).shape[:2]

    def test_paired_lists_what_has_no_partner(self, tmp_path: Path) -> None:
        save(tmp_path / "images/a/1.png")
        save(tmp_path / "images/b/2.png")
        save_mask(tmp_path / "masks/a/1.bmp", np.zeros((16, 20)))
        save_mask(tmp_path / "masks/a/3.png", np.zeros((16, 20)))
        cells = open_cells(tmp_path)
        assert cells.layout == "paired"
        assert [cell.mask is None for cell in cells.cells] == [False, True]
        assert "no mask" in reasons(cells)["2.png"]
        assert "without an image" in reasons(cells)["3.png"]

    def test_phantom_groups_by_photo(self, tmp_path: Path) -> None:
        (tmp_path / "truth.json").write_text("{}")
        for name in ("a/001_01", "a/001_02", "b/001_01"):
            save(tmp_path / "images" / f"{name}.png")
        assert open_cells(tmp_path).groups == ["a/001", "a/001", "b/001"]

    def test_stated_groups_win_over_names_and_survive_another_file_system(self, tmp_path: Path) -> None:
        stated = {}
        for index, name in enumerate(("1-1-1", "2-1-1", "3-1-1", "4-1-1")):
            label = unicodedata.normalize("NFD", "zürich" if index % 2 else "ä")
            save(tmp_path / f"images/{label}/{name}.png")
            key = unicodedata.normalize("NFC", f"images/{label}/{name}.png")
            stated[key] = {"group": f"patient{index // 2}", "split": "train" if index < 2 else "test"}
        (tmp_path / "masks.json").write_text(json.dumps({"cells": stated}), encoding="utf-8")
        cells = open_cells(tmp_path)
        assert cells.layout == "herlev"
        assert sorted(cells.groups) == ["patient0", "patient0", "patient1", "patient1"]
        assert sorted(str(cell.split) for cell in cells.cells) == ["test", "test", "train", "train"]
        assert open_cells(tmp_path, "paired").groups == cells.groups
        save(tmp_path / "images/ä/5-1-1.png")
        assert "a group of its own" in reasons(open_cells(tmp_path))["5-1-1.png"]

    @pytest.mark.parametrize(
        ("content", "says"),
        [({"unfinished": True}, "interrupted"), ({"cells": [1]}, "does not say the groups")],
    )
    def test_groups_that_cannot_be_read_are_not_made_up(
        self, tmp_path: Path, content: dict[str, object], says: str
    ) -> None:
        for name in ("images/a/1.png", "images/b/1.png"):
            save(tmp_path / name)
        (tmp_path / "masks.json").write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(DataError, match=says):
            open_cells(tmp_path)

    def test_a_naked_nucleus_among_masks_of_three_levels(self, tmp_path: Path) -> None:
        for folder, levels in (("three", (0, 128, 255)), ("two", (0, 255))):
            for name in ("a/1", "b/1"):
                save(tmp_path / folder / f"images/{name}.png")
                save_mask(tmp_path / folder / f"masks/{name}.png", np.resize(levels, (16, 20)))
            save(tmp_path / folder / "images/a/2.png")
            save_mask(tmp_path / folder / "masks/a/2.png", np.resize((0, 255), (16, 20)))
        naked = [open_cells(tmp_path / folder).cells[1] for folder in ("three", "two")]
        assert [set(np.unique(read_mask(cell))) for cell in naked] == [{0, 2}, {0, 1}]

    def test_levels_of_masks(self, tmp_path: Path) -> None:
        save(tmp_path / "images/b/1.png")
        expected = RNG.integers(0, 3, (16, 20))
        for name, levels in (("index", [0, 1, 2]), ("half", [0, 128, 255]), ("nearly", [0, 127, 255])):
            save(tmp_path / f"images/a/{name}.png")
            save_mask(tmp_path / f"masks/a/{name}.png", np.array(levels)[expected])
        save(tmp_path / "images/a/colour.png")
        grey = np.array([0, 1, 2])[expected]
        save_mask(tmp_path / "masks/a/colour.png", np.repeat(grey[..., None], 3, axis=2))
        for cell in open_cells(tmp_path).cells[:4]:
            np.testing.assert_array_equal(read_mask(cell), expected, err_msg=cell.name)

    @pytest.mark.parametrize("fault", ["size", "levels", "colour"])
    def test_bad_masks_are_refused(self, tmp_path: Path, fault: str) -> None:
        save(tmp_path / "images/a/1.png")
        save(tmp_path / "images/b/1.png")
        values = {
            "size": np.zeros((8, 8)),
            "levels": np.full((16, 20), 17),
            "colour": RNG.integers(0, 3, (16, 20, 3)),
        }[fault]
        save_mask(tmp_path / "masks/a/1.png", values)
        with pytest.raises(DataError, match=r"px|values|colour"):
            read_mask(open_cells(tmp_path).cells[0])


class TestMedmnist:
    def archive(self, path: Path, **more: np.ndarray) -> Path:
        arrays = {}
        for part, count in (("train", 12), ("val", 3), ("test", 4)):
            arrays[f"{part}_images"] = RNG.integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)
            arrays[f"{part}_labels"] = (np.arange(count) % 3).reshape(-1, 1).astype(np.uint8)
        np.savez_compressed(path, **{**arrays, **more})
        return path

    def test_rows_and_split(self, tmp_path: Path) -> None:
        path = self.archive(tmp_path / "bloodmnist.npz")
        cells = open_cells(path)
        assert cells.layout == "medmnist"
        assert cells.classes == ("0", "1", "2")
        assert len(cells) == 19
        assert cells.names[0] == "bloodmnist.npz#test/0"
        assert "bloodmnist.npz#train/07" in cells.names
        assert [cell.split for cell in cells.cells].count("val") == 3
        with np.load(path) as arrays:
            for cell in (cells.cells[10], cells.cells[2], cells.cells[-1]):
                part = cell.name.split("#")[1].split("/")[0]
                np.testing.assert_array_equal(read_image(cell), arrays[f"{part}_images"][cell.row])
        assert open_cells(tmp_path).names == cells.names

    def test_grey_images_become_rgb(self, tmp_path: Path) -> None:
        grey = RNG.integers(0, 256, (4, 28, 28), dtype=np.uint8)
        cells = open_cells(self.archive(tmp_path / "x.npz", test_images=grey))
        np.testing.assert_array_equal(read_image(cells.cells[1]), np.repeat(grey[1][..., None], 3, axis=2))

    def test_more_than_ten_classes_sort_by_number(self, tmp_path: Path) -> None:
        labels = np.arange(12).reshape(-1, 1)
        cells = open_cells(self.archive(tmp_path / "x.npz", train_labels=labels))
        assert cells.classes == tuple(f"{value:02d}" for value in range(12))

    def test_pickled_objects_are_never_loaded(self, tmp_path: Path) -> None:
        objects = np.array([{"a": 1}] * 12, dtype=object)
        for key in ("train_labels", "train_images"):
            path = tmp_path / f"{key}.npz"
            self.archive(path, **{key: objects})
            with pytest.raises(DataError, match=key if key == "train_images" else "allow_pickle"):
                open_cells(path)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive at all"])
    def test_damaged_archive(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "x.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match="expected a MedMNIST archive"):
            open_cells(path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("train_labels", np.zeros((12, 14), np.uint8)),
            ("train_labels", np.zeros(12, np.float32)),
            ("train_images", np.zeros((12, 28, 28), np.float32)),
            ("train_images", np.zeros((12, 28, 28, 28), np.uint8)),
        ],
    )
    def test_other_arrays_are_refused(self, tmp_path: Path, key: str, value: np.ndarray) -> None:
        with pytest.raises(DataError, match="expected"):
            open_cells(self.archive(tmp_path / "x.npz", **{key: value}))

    def test_other_archive_is_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", something=np.zeros(3))
        with pytest.raises(DataError, match="found something"):
            open_cells(tmp_path / "x.npz")


class TestHuggingface:
    COLUMNS = ("file_name", "label", "group", "split", "mask")

    def rows(self, root: Path) -> list[dict[str, str | None]]:
        for name in ("imgs/1.png", "imgs/2.png", "3.png"):
            save(root / name)
        save_mask(root / "masks/1.png", np.ones((16, 20)))
        values = [
            ("imgs/1.png", "a", "p1", "train", "masks/1.png"),
            ("imgs/2.png", "b", "p1", "validation", None),
            ("3.png", "b", None, "test", None),
        ]
        return [dict(zip(self.COLUMNS, row, strict=True)) for row in values]

    def write(self, root: Path, rows: list[dict[str, str | None]], kind: str) -> None:
        if kind == "jsonl":
            (root / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
            return
        with (root / "metadata.csv").open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)

    @pytest.mark.parametrize("kind", ["csv", "jsonl"])
    def test_columns(self, tmp_path: Path, kind: str) -> None:
        self.write(tmp_path, self.rows(tmp_path), kind)
        cells = open_cells(tmp_path)
        assert cells.layout == "huggingface"
        assert cells.names == ["3.png", "imgs/1.png", "imgs/2.png"]
        assert cells.labels.tolist() == [1, 0, 1]
        assert cells.groups == ["3.png", "p1", "p1"]
        assert [cell.split for cell in cells.cells] == ["test", "train", "val"]
        mask = read_mask(cells.cells[1])
        assert mask is not None
        assert (mask == 1).all()
        assert cells.faults == ()

    def test_one_table_for_each_part(self, tmp_path: Path) -> None:
        for part, split in (("train", "train"), ("validation", "val"), ("test", "test")):
            for label in "ab":
                save(tmp_path / part / f"{label}.png")
            (tmp_path / part / "metadata.csv").write_text("file_name,label\na.png,a\nb.png,b\n")
            assert {c.split for c in open_cells(tmp_path).cells if c.name.startswith(part)} == {split}

    def test_every_row_and_image_is_accounted_for(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path)
        save(tmp_path / "unnamed.png")
        (tmp_path / "empty.png").touch()
        (tmp_path / "moving.gif").write_bytes(b"x")
        (tmp_path.parent / "outside.png").write_bytes(b"x")
        for name, label in (
            ("gone.png", "a"),
            ("empty.png", "a"),
            ("moving.gif", "a"),
            ("../outside.png", "a"),
            ("/etc/passwd.png", "a"),
            ("3.png", "b"),
        ):
            rows.append({"file_name": name, "label": label, "group": "", "split": "", "mask": ""})
        save(tmp_path / "unlabelled.png")
        rows.append({"file_name": "unlabelled.png", "label": "", "group": "", "split": "", "mask": ""})
        save(tmp_path / "odd.png")
        rows.append({"file_name": "odd.png", "label": "a", "group": "", "split": "holdout", "mask": ""})
        self.write(tmp_path, rows, "csv")
        cells = open_cells(tmp_path)
        assert len(cells) == 3
        listed = sorted((fault.path.name, fault.reason.split(";")[0][:26]) for fault in cells.faults)
        assert listed == [
            ("3.png", "named twice in metadata.cs"),
            ("empty.png", "the file is empty (0 bytes"),
            ("gone.png", "named in metadata.csv but "),
            ("metadata.csv", "file_name '../outside.png'"),
            ("metadata.csv", "file_name '/etc/passwd.png"),
            ("moving.gif", "format .gif is not support"),
            ("odd.png", "split 'holdout' is none of"),
            ("unlabelled.png", "no label in metadata.csv"),
            ("unnamed.png", "no row in metadata.csv"),
        ]

    def test_rows_that_lack_a_value(self, tmp_path: Path) -> None:
        self.write(tmp_path, self.rows(tmp_path), "jsonl")
        with (tmp_path / "metadata.jsonl").open("a") as file:
            file.write('\n{"file_name": "3.png"}\n{"label": "a"}\n')
        cells = open_cells(tmp_path)
        assert len(cells) == 3
        assert {fault.reason for fault in cells.faults} == {
            "no label in metadata.jsonl",
            "a row without file_name",
        }

    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            ("metadata.csv", "file,label\n1.png,a\n", "expected a column 'file_name'"),
            ("metadata.csv", "file_name,kind\n1.png,a\n", "expected a column 'label', found file_name, kind"),
            ("metadata.csv", "", "expected a column 'file_name', found none"),
            ("metadata.jsonl", "{not json\n", "not a readable table"),
            ("metadata.jsonl", "[1, 2]\n", "must be a JSON object"),
        ],
    )
    def test_tables_that_do_not_fit(self, tmp_path: Path, name: str, text: str, reason: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=reason):
            open_cells(tmp_path)
