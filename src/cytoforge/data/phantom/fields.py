"""The ground that everything is drawn on: a frame in micrometres, outlines, and noise of a given grain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import map_coordinates
from scipy.special import expit

Field = NDArray[np.float32]
Outline = NDArray[np.float64]

DIRECTIONS = 360
_ANGLES = np.linspace(-np.pi, np.pi, DIRECTIONS + 1)
_MOST_CYCLES = 72


@dataclass(frozen=True)
class Frame:
    """A square window on the slide.

    Attributes:
        side: its width in micrometres.
        samples: samples along a side.
        x: (samples, samples) micrometres to the right of the cell's centre.
        y: (samples, samples) micrometres below the cell's centre.
        period: width of the pattern that textures are drawn from, micrometres.
        lookup: (2, samples, samples) rows and columns of the pattern to show, or None to show it as it is.
    """

    side: float
    samples: int
    x: Field
    y: Field
    period: float
    lookup: Field | None = None

    @property
    def step(self) -> float:
        """Micrometres from one sample to the next."""
        return self.side / self.samples


def open_frame(side: float, samples: int, middle: tuple[float, float] = (0.0, 0.0)) -> Frame:
    """A frame of `side` micrometres whose middle lies at `middle`, micrometres from the cell's centre."""
    axis = ((np.arange(samples, dtype=np.float32) + 0.5) / samples - 0.5) * np.float32(side)
    across, down = axis + np.float32(middle[0]), axis + np.float32(middle[1])
    x, y = (grid.astype(np.float32) for grid in np.meshgrid(across, down))
    return Frame(side, samples, x, y, side)


def look_again(frame: Frame, shift: tuple[float, float], turn: float, zoom: float) -> Frame:
    """Another window on the same spot of the slide: textures stay where they are on the slide.

    Args:
        frame: the first window.
        shift: of the new window, as a share of the side.
        turn: of the new window about its middle, radians.
        zoom: its side through the first one's.
    """
    axis = ((np.arange(frame.samples, dtype=np.float64) + 0.5) / frame.samples - 0.5) * zoom
    right, down = np.meshgrid(axis, axis)
    across = np.cos(turn) * right - np.sin(turn) * down + shift[0]
    below = np.sin(turn) * right + np.cos(turn) * down + shift[1]
    lookup = (np.stack([below, across]) + 0.5) * frame.samples - 0.5
    return Frame(
        side=frame.side * zoom,
        samples=frame.samples,
        x=(across * frame.side + frame.x.mean()).astype(np.float32),
        y=(below * frame.side + frame.y.mean()).astype(np.float32),
        period=frame.period,
        lookup=lookup.astype(np.float32),
    )


def shown(pattern: Field, frame: Frame) -> Field:
    """The part of a pattern that a frame shows; patterns repeat beyond their edges."""
    if frame.lookup is None:
        return pattern
    seen: Field = map_coordinates(pattern, frame.lookup, order=1, mode="grid-wrap")
    return seen


def band_noise(
    rng: np.random.Generator,
    frame: Frame,
    finest: float,
    coarsest: float,
    slope: float = 1.0,
    along: float | None = None,
) -> Field:
    """Smooth noise of zero mean and unit variance with structure between two sizes.

    The Fourier coefficients are drawn, not the samples: the same generator gives the same pattern on a finer
    grid, and another view of the same spot shows the same pattern. It repeats after the frame's period.

    Args:
        rng: source of the coefficients.
        frame: where the noise is wanted.
        finest: smallest wavelength in micrometres.
        coarsest: largest wavelength in micrometres.
        slope: amplitude falls with this power of the frequency; larger is smoother.
        along: direction of fibres, radians; None for a pattern without direction.

    Returns:
        (samples, samples).
    """
    most = min(int(np.ceil(frame.period / finest)), _MOST_CYCLES, frame.samples // 2 - 1)
    most = max(most, 1)
    least = min(frame.period / coarsest, most) - 0.5
    cycles, amplitudes = _spectrum(most, slope)
    weights = amplitudes * (cycles >= least)
    if along is not None:
        weights *= _across(most, along)
    power = 4 * np.vdot(weights[:, 1:], weights[:, 1:]) + 2 * np.vdot(weights[:, 0], weights[:, 0])
    drawn = rng.standard_normal((2, *weights.shape), np.float32)
    drawn *= weights / np.sqrt(power)
    spectrum = np.zeros((frame.samples, frame.samples // 2 + 1), np.complex64)
    spectrum.real[-most:, : most + 1], spectrum.imag[-most:, : most + 1] = drawn[:, :most]
    spectrum.real[: most + 1, : most + 1], spectrum.imag[: most + 1, : most + 1] = drawn[:, most:]
    field: Field = fft.irfft2(spectrum, s=(frame.samples, frame.samples), norm="forward")
    return shown(field, frame)


@lru_cache(maxsize=256)
def _spectrum(most: int, slope: float) -> tuple[Field, Field]:
    """Cycles in a frame and amplitude of each Fourier coefficient up to `most` cycles."""
    cycles = np.hypot(np.arange(-most, most + 1)[:, None], np.arange(most + 1)[None, :]).astype(np.float32)
    amplitudes = np.where((cycles > 0) & (cycles <= most), np.maximum(cycles, 1) ** np.float32(-slope), 0)
    return cycles, amplitudes.astype(np.float32)


def _across(most: int, along: float) -> Field:
    """Weight of each Fourier coefficient by how squarely its waves cross a direction."""
    rows, columns = np.arange(-most, most + 1)[:, None], np.arange(most + 1)[None, :]
    share = (np.sin(along) * columns - np.cos(along) * rows) / np.maximum(np.hypot(rows, columns), 1)
    weights: Field = (np.abs(share) ** 10 + 1e-3).astype(np.float32)
    return weights


def rounded_outline(rng: np.random.Generator, radius: float, aspect: float, irregularity: float) -> Outline:
    """An ellipse with wobbling edge, as the distance from its centre in `DIRECTIONS` + 1 directions.

    Args:
        rng: source of tilt and wobble.
        radius: radius of the circle of the same area, micrometres.
        aspect: long axis through short axis, 1 or more.
        irregularity: root mean square of the wobble as a share of the radius.
    """
    tilted = _ANGLES - rng.uniform(-np.pi, np.pi)
    ellipse = 1.0 / np.sqrt(np.cos(tilted) ** 2 / aspect + np.sin(tilted) ** 2 * aspect)
    return _of_area(ellipse * _wobble(rng, irregularity), radius)


def polygonal_outline(rng: np.random.Generator, radius: float, aspect: float, irregularity: float) -> Outline:
    """A polygon with four to seven blunt corners; arguments as for `rounded_outline`."""
    corners = int(rng.integers(4, 8))
    normals = (np.arange(corners) + rng.uniform(-0.28, 0.28, corners)) * 2 * np.pi / corners
    tilt = rng.uniform(-np.pi, np.pi)
    reach = rng.uniform(0.82, 1.18, corners) * aspect ** (0.5 * np.cos(2 * normals))
    planes = np.cos(_ANGLES[:, None] - tilt - normals[None, :]) / reach[None, :]
    sharpness = rng.uniform(9.0, 22.0)
    blunt = np.log(np.exp(sharpness * planes).sum(1)) / sharpness
    return _of_area(_wobble(rng, irregularity) / np.maximum(blunt, 0.35), radius)


def spidery_outline(rng: np.random.Generator, radius: float, aspect: float, irregularity: float) -> Outline:
    """A round body with two to four drawn-out processes; arguments as for `rounded_outline`."""
    outline = rounded_outline(rng, 1.0, aspect, irregularity)
    for direction in rng.uniform(-np.pi, np.pi, int(rng.integers(2, 5))):
        away = np.angle(np.exp(1j * (_ANGLES - direction)))
        outline = outline * (
            1 + rng.uniform(0.25, 0.75) * np.exp(-(np.abs(away / rng.uniform(0.2, 0.4)) ** 1.3))
        )
    return _of_area(outline, radius)


def area(outline: Outline) -> float:
    """Area inside an outline in square micrometres.

    Example:
        >>> round(area(np.ones(DIRECTIONS + 1)), 3)
        3.142
    """
    return float(0.5 * np.square(outline[:-1]).sum() * 2 * np.pi / DIRECTIONS)


def reach(outline: Outline) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of an outline, micrometres from its centre."""
    x, y = outline * np.cos(_ANGLES), outline * np.sin(_ANGLES)
    return float(x.min()), float(x.max()), float(y.min()), float(y.max())


def depth(outline: Outline, x: Field, y: Field) -> Field:
    """Distance to the outline in micrometres: negative inside, positive outside.

    Args:
        outline: (DIRECTIONS + 1,) radii.
        x: (S, S) micrometres from the outline's centre.
        y: (S, S) micrometres from the outline's centre.
    """
    slope = np.gradient(outline, _ANGLES) / outline
    table = outline + 1j / np.sqrt(1.0 + np.square(slope))
    at = np.interp(np.arctan2(y, x), _ANGLES, table)
    distance: Field = ((np.hypot(x, y) - at.real) * at.imag).astype(np.float32)
    return distance


def window(x: Field, y: Field, radius: float) -> tuple[slice, slice] | None:
    """Rows and columns that hold all samples within `radius` of the origin, or None where there are none."""
    near = (np.abs(x) < radius) & (np.abs(y) < radius)
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if len(rows) == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def inside(distance: Field, softness: float) -> Field:
    """1 well inside, 0 well outside, one half on the outline; `softness` in micrometres."""
    covered: Field = expit(-distance / np.float32(softness))
    return covered


def ridge(distance: Field, width: float) -> Field:
    """1 where `distance` is 0, falling off like a bell over `width` micrometres to both sides."""
    bell: Field = np.exp(-np.square(distance / np.float32(width)))
    return bell


def _wobble(rng: np.random.Generator, irregularity: float) -> NDArray[np.float64]:
    orders = np.arange(2, 8)
    amplitudes = rng.standard_normal(len(orders)) / orders**1.5
    phases = rng.uniform(0, 2 * np.pi, len(orders))
    wave = (amplitudes[:, None] * np.cos(orders[:, None] * _ANGLES[None, :] + phases[:, None])).sum(0)
    wobble: NDArray[np.float64] = np.clip(1 + irregularity * wave / 0.34, 0.45, 1.7)
    return wobble


def _of_area(outline: NDArray[np.float64], radius: float) -> Outline:
    scaled: Outline = outline * (radius * np.sqrt(np.pi / area(outline)))
    return scaled
