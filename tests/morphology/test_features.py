from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import ellipse
from skimage.measure import regionprops

from cytoforge.core.errors import DataError
from cytoforge.data.phantom import simulate
from cytoforge.morphology.features import FEATURES, measure, measure_cell, nc_ratio, shape, statistics


def test_there_are_26_different_measurements() -> None:
    assert len(set(FEATURES)) == 26
    assert tuple(measure(np.zeros((3, 3, 3), np.uint8), np.ones((3, 3), bool))) == FEATURES


def test_an_ellipse_has_its_axes_and_its_direction() -> None:
    inside = np.zeros((120, 120), bool)
    inside[ellipse(60, 60, 20, 40, shape=inside.shape)] = True
    form = shape(inside)
    assert form["major_axis_length"] == pytest.approx(80, rel=0.02)
    assert form["minor_axis_length"] == pytest.approx(40, rel=0.02)
    assert form["eccentricity"] == pytest.approx(np.sqrt(3) / 2, rel=0.01)
    assert form["orientation"] == pytest.approx(0, abs=1e-6)
    assert form["area"] == pytest.approx(np.pi * 800, rel=0.01)
    assert abs(shape(inside.T)["orientation"]) == pytest.approx(np.pi / 2)


def test_form_agrees_with_scikit_image() -> None:
    mask = simulate("Superficial-Intermediate", 3, 96).mask
    for inside in (mask > 0, mask == 2):
        ours, theirs = shape(inside), regionprops(inside.astype(np.uint8))[0]
        for name in ("area", "extent"):
            assert ours[name] == pytest.approx(getattr(theirs, name))
        # it counts pixels as points, we as squares of variance 1/12: 16 / 12 on the squared axis
        assert ours["major_axis_length"] ** 2 - 4 / 3 == pytest.approx(theirs.axis_major_length**2)
        assert ours["minor_axis_length"] ** 2 - 4 / 3 == pytest.approx(theirs.axis_minor_length**2)
        assert ours["eccentricity"] == pytest.approx(theirs.eccentricity, abs=0.02)
        assert ours["equivalent_diameter"] == pytest.approx(theirs.equivalent_diameter_area)


def test_a_concave_region_is_less_solid() -> None:
    angle = np.ones((10, 10), bool)
    angle[5:, 5:] = False
    # the hull of the angle is the square without a triangle of 5 x 5 / 2
    assert shape(angle)["solidity"] == pytest.approx(75 / 87.5)
    assert shape(angle)["extent"] == 0.75


def test_one_line_and_one_pixel_have_finite_measurements() -> None:
    for inside in (np.eye(1, dtype=bool), np.ones((1, 7), bool), np.eye(5, dtype=bool)):
        assert all(np.isfinite(value) for value in shape(inside).values())


def test_statistics_of_a_flat_region() -> None:
    assert statistics(np.full(9, 80, np.uint8)) == {
        "mean": 80,
        "contrast": 0,
        "smoothness": 0,
        "third_moment": 0,
        "uniformity": 1,
        "entropy": 0,
    }


def test_the_third_moment_has_the_sign_of_the_longer_tail() -> None:
    few_bright = np.array([0, 0, 0, 100], np.uint8)
    # mean 25; (3 * (-25)^3 + 75^3) / 4 / 255^2
    assert statistics(few_bright)["third_moment"] == pytest.approx((3 * -15625 + 421875) / 4 / 65025)
    assert statistics(100 - few_bright)["third_moment"] < 0


def test_a_cell_without_nucleus_has_no_ratio_and_an_empty_mask_no_measurements() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    assert len(measure_cell(image, np.ones((4, 4), np.uint8))) == 26
    assert measure_cell(image, np.zeros((4, 4), np.uint8)) == {}
    with pytest.raises(DataError, match="neither"):
        nc_ratio(np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="empty"):
        shape(np.zeros((4, 4), bool))
    with pytest.raises(DataError, match="mask has"):
        measure_cell(image, np.zeros((4, 5), np.uint8))


def test_unknown_pixels_belong_to_neither_region() -> None:
    mask = np.array([[1, 2, 3]], np.uint8)
    assert nc_ratio(mask) == 0.5
    assert measure_cell(np.zeros((1, 3, 3), np.uint8), mask)["cytoplasm_area"] == 1


def test_the_ratio_of_simulated_cells_is_near_the_truth() -> None:
    cells = [simulate("Parabasal", seed, 96) for seed in (1, 2)]
    for cell in cells:
        assert nc_ratio(cell.mask) == pytest.approx(cell.measurements["nc_ratio"], rel=0.15)
