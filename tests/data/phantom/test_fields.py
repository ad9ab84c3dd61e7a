from __future__ import annotations

import numpy as np
import pytest

from cytoforge.data.phantom.fields import (
    DIRECTIONS,
    area,
    band_noise,
    depth,
    inside,
    look_again,
    open_frame,
    polygonal_outline,
    rounded_outline,
    spidery_outline,
    window,
)


def test_noise_has_zero_mean_unit_variance_and_the_wanted_grain() -> None:
    frame = open_frame(40.0, 160)
    fields = np.stack([band_noise(np.random.default_rng(seed), frame, 2.0, 4.0) for seed in range(30)])
    assert abs(fields.mean()) < 0.01
    assert fields.std() == pytest.approx(1.0, abs=0.03)
    power = np.square(np.abs(np.fft.fft2(fields))).mean(0)
    cycles = np.hypot(*np.meshgrid(*2 * (np.fft.fftfreq(160, 1 / 160),)))
    outside = (cycles < 40 / 4 - 1) | (cycles > 40 / 2 + 1)
    assert power[outside].sum() < 1e-6 * power.sum()


def test_noise_is_the_same_pattern_on_a_finer_grid() -> None:
    coarse, fine = (band_noise(np.random.default_rng(3), open_frame(20.0, n), 2.0, 9.0) for n in (64, 192))
    assert np.abs(fine[::3, ::3] - coarse).max() < 1e-4


def test_a_second_look_shows_the_same_pattern_shifted() -> None:
    frame = open_frame(20.0, 100)
    first = band_noise(np.random.default_rng(1), frame, 2.0, 9.0)
    again = band_noise(np.random.default_rng(1), look_again(frame, (0.1, 0.0), 0.0, 1.0), 2.0, 9.0)
    np.testing.assert_allclose(again[:, :90], first[:, 10:], atol=1e-4)


@pytest.mark.parametrize("draw", [rounded_outline, polygonal_outline, spidery_outline])
def test_outlines_enclose_the_area_they_promise(draw) -> None:
    outline = draw(np.random.default_rng(2), 5.0, 1.4, 0.05)
    assert area(outline) == pytest.approx(np.pi * 25)
    assert outline[0] == pytest.approx(outline[-1], rel=0.02)
    frame = open_frame(30.0, 300)
    covered = inside(depth(outline, frame.x, frame.y), 0.01)
    assert covered.sum() * frame.step**2 == pytest.approx(np.pi * 25, rel=0.02)


def test_depth_of_a_circle_is_the_distance_to_it() -> None:
    x, y = np.array([[0.0, 5.0, -2.0]], np.float32), np.array([[1.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(depth(np.full(DIRECTIONS + 1, 3.0), x, y), [[-2, 2, -1]], atol=1e-6)


def test_window_holds_what_is_near_and_nothing_else() -> None:
    frame = open_frame(10.0, 10)
    assert window(frame.x - 2, frame.y, 1.2) == (slice(4, 6), slice(6, 8))
    assert window(frame.x - 20, frame.y, 1.2) is None
