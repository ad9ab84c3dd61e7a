from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.data.cells import Cell, CellSet
from cytoforge.data.folder import open_cells
from cytoforge.data.split import (
    Split,
    check_groups_and_masks,
    check_split,
    fingerprints,
    require_trainable,
    split_cells,
)

HASHES = {f"{number:05d}.png": str(number) for number in range(3)}


def cell_set(rows: list[tuple[str, str, str | None]]) -> CellSet:
    """Cells without files from (label, group, published part)."""
    cells = tuple(
        Cell(Path(f"{i:05d}.png"), label, group, f"{i:05d}.png", split)  # type: ignore[arg-type]
        for i, (label, group, split) in enumerate(rows)
    )
    return CellSet(Path("data"), "folders", tuple(sorted({row[0] for row in rows})), cells)


def divide(cells: CellSet, **options) -> Split:
    return split_cells(cells, hashes={cell.name: f"hash of {cell.name}" for cell in cells.cells}, **options)


def photos(classes: int, groups: int, size: int) -> CellSet:
    return cell_set(
        [(f"c{c}", f"c{c}/{g:03d}", None) for c in range(classes) for g in range(groups) for _ in range(size)]
    )


rows = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from("ABCDEFGHIJ"),
        st.sampled_from([None, None, "train", "val", "test"]),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    rows=rows,
    seed=st.integers(0, 5),
    pairs=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=6),
)
def test_no_group_crosses_the_split(rows, seed, pairs):
    cells = cell_set(rows)
    names = cells.names
    merge = [(names[a % len(names)], names[b % len(names)]) for a, b in pairs]
    split = divide(cells, seed=seed, merge=merge)
    part_of: dict[str, set[str]] = {}
    for name, part in split.parts.items():
        part_of.setdefault(split.groups[name], set()).add(part)
    assert all(len(parts) == 1 for parts in part_of.values())
    own = {cell.name: cell for cell in cells.cells}
    assert all(split.groups[a] == split.groups[b] for a, b in merge)
    assert all(
        split.groups[a] == split.groups[b] for a in names for b in names if own[a].group == own[b].group
    )
    assert set(split.parts) | set(split.left_out) == set(names)
    assert not set(split.parts) & set(split.left_out)


@settings(max_examples=100, deadline=None)
@given(rows=rows)
def test_published_test_cells_stay_in_test(rows):
    cells = cell_set(rows)
    split = divide(cells)
    for cell in cells.cells:
        if cell.split == "test":
            assert split.parts[cell.name] == "test"
        if cell.split is not None and cell.name in split.parts and cell.split != "train":
            assert split.parts[cell.name] == cell.split


def test_fractions_hold_for_each_class():
    split = divide(photos(5, 60, 5))
    for c in range(5):
        own = [part for name, part in split.parts.items() if split.groups[name].startswith(f"c{c}")]
        shares = [own.count(part) / len(own) for part in ("train", "val", "test")]
        np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.02)


def test_large_groups_do_not_gather_in_train():
    rng = np.random.default_rng(0)
    cells = cell_set(
        [("ab"[g % 2], f"{g:03d}", None) for g in range(200) for _ in range(rng.integers(1, 12))]
    )
    split = divide(cells)
    sizes = {
        part: len(split.names(part)) / len({split.groups[n] for n in split.names(part)})
        for part in ("train", "test")
    }
    assert 0.7 < sizes["train"] / sizes["test"] < 1.4


def test_same_seed_same_split_other_seed_another():
    cells = photos(3, 20, 3)
    assert divide(cells).sha256 == divide(cells).sha256
    assert divide(cells).parts != divide(cells, seed=1).parts


def test_every_class_has_train_then_test_then_val():
    rows = [("big", f"b{i}", None) for i in range(40)]
    rows += [("one", "o", None)] * 3 + [("two", "t1", None), ("two", "t2", None)]
    split = divide(cell_set(rows + [("three", f"h{i}", None) for i in range(3)]))
    part = {group: split.parts[name] for name, group in split.groups.items()}
    assert part["o"] == "train"
    assert {part["t1"], part["t2"]} == {"train", "test"}
    assert {part["h0"], part["h1"], part["h2"]} == {"train", "val", "test"}
    assert any("'one'" in line and "test" in line for line in split.warnings)


def test_published_train_gives_the_missing_parts():
    rows = [("ab"[i % 2], f"{i}", "train" if i < 80 else "test") for i in range(100)]
    split = divide(cell_set(rows))
    assert split.published == ("train", "test")
    assert len(split.names("test")) == 20
    assert 8 <= len(split.names("val")) <= 12


def test_training_cells_that_leak_are_left_out():
    cells = cell_set(
        [
            ("a", "1", "train"),
            ("a", "1", "test"),
            ("b", "2", "train"),
            ("b", "3", "test"),
            ("a", "4", "train"),
        ]
    )
    split = divide(cells)
    assert split.left_out == ("00000.png",)
    assert any("left out" in line for line in split.warnings)


def test_merged_groups_are_listed():
    cells = cell_set([("a", "p1", None), ("b", "p2", None), ("a", "p3", None)])
    split = divide(cells, merge=[("00001.png", "00000.png")])
    assert split.merged == (("p1", "p2"),)
    assert split.groups["00001.png"] == "p1"


def test_other_groups_than_those_of_the_split_are_noticed():
    cells = cell_set([("a", "p1", None), ("b", "p2", None), ("a", "p3", None)])
    split = divide(cells, merge=[("00001.png", "00000.png")])
    check_groups_and_masks(split, cells)
    with pytest.raises(DataError, match=r"1 cells have other groups.*00002.png.*--group"):
        check_groups_and_masks(split, cell_set([("a", "p1", None), ("b", "p2", None), ("a", "p1", None)]))


def test_other_labels_are_noticed_where_files_stay_the_same():
    cells = cell_set([("a", "p1", None), ("b", "p2", None), ("a", "p3", None)])
    split = split_cells(cells, hashes=HASHES)
    relabelled = cell_set([("b", "p1", None), ("b", "p2", None), ("a", "p3", None)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytoforge.data.split.fingerprints", lambda _: HASHES)
        check_split(split, cells)
        with pytest.raises(DataError, match="other labels"):
            check_split(split, relabelled)
        check_split(
            split.model_copy(update={"labels_sha256": None}), relabelled
        )  # as first versions wrote it


def test_other_masks_are_noticed(tmp_path):
    for label in ("a", "b"):
        for number in range(2):
            for folder, shape in (("images", (12, 12, 3)), ("masks", (12, 12))):
                (tmp_path / folder / label).mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full(shape, number, np.uint8)).save(
                    tmp_path / folder / label / f"{number}.png"
                )
    cells = open_cells(tmp_path)
    split = split_cells(cells)
    assert split.masks_sha256 is not None
    check_groups_and_masks(split, cells)
    Image.fromarray(np.full((12, 12), 2, np.uint8)).save(tmp_path / "masks" / "a" / "0.png")
    check_split(split, cells)
    with pytest.raises(DataError, match=r"masks .* another --out"):
        check_groups_and_masks(split, cells)


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.5, 0.2, 0.2), (1.2, -0.1, -0.1), (0, 0.5, 0.5), (float("nan"), 0, 1)]
)
def test_fractions_that_are_no_shares_are_refused(fractions):
    with pytest.raises(ConfigError, match="fractions"):
        divide(photos(2, 3, 1), fractions=fractions)


def test_merge_names_must_exist():
    with pytest.raises(DataError, match=r"nobody\.png"):
        divide(photos(2, 3, 1), merge=[("nobody.png", "00000.png")])


def test_a_saved_split_returns_and_an_edited_one_is_refused(tmp_path):
    split = divide(photos(2, 5, 2))
    path = tmp_path / "split.json"
    split.save(path)
    assert Split.load(path) == split
    path.write_text(path.read_text().replace('"train"', '"test"', 1))
    with pytest.raises(DataError, match="changed after"):
        Split.load(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="not a split"):
        Split.load(path)


def test_files_that_changed_are_noticed(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(3):
            Image.new("RGB", (16, 16), (i, 9, 9)).save(tmp_path / label / f"{i}.png")
    cells = open_cells(tmp_path)
    split = split_cells(cells)
    assert split.hashes == fingerprints(cells)
    check_split(split, cells)
    Image.new("RGB", (16, 16), (99, 9, 9)).save(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r"1 changed \(first: a/1.png\)"):
        check_split(split, cells)


def test_a_class_with_one_image_cannot_be_trained():
    cells = cell_set([("a", "1", None), ("b", "2", None), ("b", "3", None)])
    with pytest.raises(DataError, match="class 'a' has 1 usable"):
        require_trainable(divide(cells), cells)
    full = photos(2, 4, 2)
    require_trainable(divide(full), full)


def test_sipakmed_is_divided_by_photo(real_data):
    cells = open_cells(real_data / "sipakmed")
    split = divide(cells)
    assert len(split.parts) == len(cells)
    for label in cells.classes:
        own = [split.parts[cell.name] for cell in cells.cells if cell.label == label]
        np.testing.assert_allclose(
            [own.count(p) / len(own) for p in ("train", "val", "test")], [0.7, 0.1, 0.2], atol=0.03
        )
