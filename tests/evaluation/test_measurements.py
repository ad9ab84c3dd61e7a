from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.data.folder import open_cells
from cytoforge.data.herlev import published_measurements
from cytoforge.evaluation.measurements import (
    MEASUREMENTS,
    Measured,
    measure_folder,
    measure_row,
)
from cytoforge.masks.unsupervised import unsupervised_mask
from cytoforge.morphology.features import measure_cell


def _paired(root: Path, names: tuple[str, ...] = ("000_00", "000_01", "001_00")) -> Path:
    """Two classes of cells of 24 x 30 px with masks: a nucleus of 6 x 8 in a cell of 16 x 20."""
    mask = np.zeros((24, 30), np.uint8)
    mask[4:20, 5:25] = 1
    mask[9:15, 11:19] = 2
    for label, level in (("a", 90), ("b", 120)):
        for index, name in enumerate(names):
            image = np.full((24, 30, 3), 230, np.uint8)
            image[mask == 1], image[mask == 2] = 180, level + index
            for kind, picture in (("images", image), ("masks", mask)):
                path = root / kind / label / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
    return root


def test_there_are_53_and_the_first_26_are_the_nucleus() -> None:
    assert len(set(MEASUREMENTS)) == 53
    assert all(name.startswith("nucleus_") for name in MEASUREMENTS[:26])
    assert all(name.startswith("cytoplasm_") for name in MEASUREMENTS[26:52])


def test_a_folder_with_masks_is_measured_by_them(tmp_path: Path) -> None:
    found = measure_folder(open_cells(_paired(tmp_path)))
    assert found.sources == ("given",) * 6
    assert not found.faults
    row = dict(zip(MEASUREMENTS, found.values[0], strict=True))
    # by hand: 48 px of nucleus, 320 - 48 of cytoplasm
    assert (row["nucleus_area"], row["cytoplasm_area"], row["nc_ratio"]) == (48, 272, 0.15)
    assert (row["nucleus_green_mean"], row["cytoplasm_red_mean"]) == (90, 180)


def test_missing_masks_are_found_or_refused(tmp_path: Path) -> None:
    (_paired(tmp_path) / "masks" / "a" / "001_00.png").unlink()
    cells = open_cells(tmp_path)
    found = measure_folder(cells)
    assert found.sources == ("given", "given", "unsupervised", "given", "given", "given")
    row = found.rows(["images/a/001_00.png"])[0]
    assert row[MEASUREMENTS.index("nc_ratio")] == pytest.approx(0.15, abs=0.08)
    given = measure_folder(cells, "given")
    assert len(given.names) == 5
    assert given.faults == {"images/a/001_00.png": "it has no mask"}
    assert np.isnan(given.rows(["images/a/001_00.png"])).all()
    assert set(measure_folder(cells, "unsupervised").sources) == {"unsupervised"}


def test_contour_files_are_masks(tmp_path: Path) -> None:
    for label in ("one", "two"):
        folder = tmp_path / f"im_{label}" / f"im_{label}" / "CROPPED"
        folder.mkdir(parents=True)
        for name in ("001_01", "002_01"):
            image = np.full((24, 30, 3), 200, np.uint8)
            image[9:16, 11:20] = 80
            Image.fromarray(image).save(folder / f"{name}.bmp")
            (folder / f"{name}_nuc.dat").write_text("11,9\n19,9\n19,15\n11,15\n")
            (folder / f"{name}_cyt.dat").write_text("5,4\n25,4\n25,20\n5,20\n")
    found = measure_folder(open_cells(tmp_path))
    assert set(found.sources) == {"given"}
    row = dict(zip(MEASUREMENTS, found.values[0], strict=True))
    assert (row["nucleus_red_mean"], row["cytoplasm_red_mean"]) == (80, 200)
    assert row["nucleus_area"] == 63  # 9 x 7 pixels, both ends of the contour included


def test_a_table_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 53))
    values[1, 3] = np.nan
    table = Measured(("=evil.png", "b.png"), values, ("given", "unsupervised"), {"c.png": "no, damaged"})
    table.save(tmp_path / "measurements.csv")
    text = (tmp_path / "measurements.csv").read_text()
    assert "\n'=evil.png," in text
    back = Measured.load(tmp_path / "measurements.csv")
    assert np.array_equal(back.values, values, equal_nan=True)
    assert (back.names, back.sources, back.faults) == (table.names, table.sources, table.faults)
    (tmp_path / "measurements.csv").write_text("cell,mask\n")
    with pytest.raises(DataError, match="not a table"):
        Measured.load(tmp_path / "measurements.csv")


def test_damaged_pictures_are_faults_and_nothing_else_is_an_error(tmp_path: Path) -> None:
    cells = open_cells(_paired(tmp_path))
    (tmp_path / "images" / "b" / "001_00.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert set(measure_folder(cells).faults) == {"images/b/001_00.png"}
    for path in (tmp_path / "images").rglob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="none of the 6 cells"):
        measure_folder(cells)
    with pytest.raises(ConfigError, match="choose auto"):
        measure_folder(cells, "mine")  # type: ignore[arg-type]


def test_images_without_masks_get_found_ones() -> None:
    image = np.full((40, 40, 3), 230, np.uint8)
    image[8:32, 8:32], image[16:24, 16:24] = 150, 40
    assert np.isfinite(measure_row(image, unsupervised_mask(image))).all()


def test_measurements_agree_with_herlevs_published_table(real_data: Path) -> None:
    """Same quantities, same cells: shapes at once, areas and lengths after undoing the rescaling."""
    pytest.importorskip("xlrd")
    root = real_data / "herlev"
    table = published_measurements(root)
    assert len(table) == 917
    cells = open_cells(root)
    chosen = cells.select(cells.names[::15])
    found = measure_folder(chosen, "given")
    theirs = [table[cell.path.stem] for cell in chosen.cells]
    column = {name: found.values[:, index] for index, name in enumerate(MEASUREMENTS)}
    published = {name: np.array([row[name] for row in theirs]) for name in theirs[0]}
    zoom = np.sqrt(
        (published["Kerne_A"] + published["Cyto_A"]) / (column["nucleus_area"] + column["cytoplasm_area"])
    )
    grey = np.array([0.299, 0.587, 0.114])
    brightness = {
        region: grey @ [column[f"{region}_{colour}_mean"] for colour in ("red", "green", "blue")]
        for region in ("nucleus", "cytoplasm")
    }
    same = {
        "K/C": (column["nc_ratio"], 0.99, 0.03),
        "Kerne_A": (column["nucleus_area"] * zoom**2, 0.99, 0.04),
        "Cyto_A": (column["cytoplasm_area"] * zoom**2, 0.99, 0.02),
        "KerneLong": (column["nucleus_major_axis_length"] * zoom, 0.97, 0.06),
        "KerneShort": (column["nucleus_minor_axis_length"] * zoom, 0.97, 0.06),
        "Kerne_Ycol": (brightness["nucleus"], 0.97, 0.06),
        "Cyto_Ycol": (brightness["cytoplasm"], 0.97, 0.06),
    }
    for name, (ours, rank, within) in same.items():
        known = np.isfinite(ours)
        assert stats.spearmanr(ours[known], published[name][known]).statistic > rank, name
        assert np.median(ours[known] / published[name][known]) == pytest.approx(1, abs=within), name


def test_the_published_table_says_what_is_wrong(tmp_path: Path) -> None:
    pytest.importorskip("xlrd")
    with pytest.raises(DataError, match="is not Herlev's table"):
        published_measurements(tmp_path)
    (tmp_path / "features.xls").write_text("no workbook")
    with pytest.raises(DataError, match="is not Herlev's table"):
        published_measurements(tmp_path)


def test_a_row_is_what_the_cell_measures() -> None:
    image = np.random.default_rng(1).integers(0, 255, (20, 20, 3), np.uint8)
    mask = np.zeros((20, 20), np.uint8)
    mask[2:18, 3:17], mask[8:12, 8:13] = 1, 2
    row = measure_row(image, mask)
    assert dict(zip(MEASUREMENTS, row, strict=True)) == measure_cell(image, mask)
