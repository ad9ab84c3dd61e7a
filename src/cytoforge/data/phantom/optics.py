"""From optical density to a photo: dyes, light, lens and camera.

Light passes through the slide, so densities add and colours multiply (Beer and Lambert): what passes is
I = I0 exp(-sum of density times absorption of each dye). Where two cells overlap, both absorb.

Reference:
    Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cytoforge.data.phantom.anatomy import TRAITS, choose, draw
from cytoforge.data.phantom.fields import Field, Frame
from cytoforge.data.phantom.tissue import DYES

# Absorption of red, green and blue light by hematoxylin, eosin, light green SF and orange G.
ABSORPTION = np.array(
    [[1.05, 1.15, 0.62], [0.10, 1.05, 0.78], [1.35, 0.42, 0.46], [0.04, 0.62, 1.65]], np.float32
)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Laboratory:
    """Habits of a laboratory: colour of its light, contrast, sharpening and how often it is met."""

    light: Colour
    strength: tuple[float, float]
    contrast: tuple[float, float]
    sharpening: tuple[float, float]
    saturation: tuple[float, float]
    weight: float


LABORATORIES: dict[str, Laboratory] = {
    "clear": Laboratory((0.97, 0.98, 1.0), (0.7, 1.15), (1.0, 1.15), (0.0, 0.6), (0.95, 1.3), 0.27),
    "beige": Laboratory((0.72, 0.71, 0.685), (0.8, 1.3), (0.9, 1.05), (0.0, 0.3), (0.9, 1.2), 0.17),
    "lilac": Laboratory((0.76, 0.75, 0.86), (0.7, 1.2), (0.85, 1.05), (0.0, 0.4), (0.9, 1.25), 0.23),
    "sky": Laboratory((0.82, 0.90, 1.0), (0.7, 1.2), (0.95, 1.2), (0.0, 0.5), (1.0, 1.4), 0.14),
    "amber": Laboratory((1.0, 0.96, 0.80), (0.8, 1.4), (1.0, 1.2), (0.0, 0.6), (0.95, 1.25), 0.06),
    "violet": Laboratory((0.80, 0.75, 0.97), (0.9, 1.5), (1.15, 1.4), (0.8, 2.0), (1.0, 1.35), 0.13),
}


@dataclass(frozen=True)
class Photo:
    """What all cells of one photo share.

    Attributes:
        absorption: (4, 3) absorption of each dye for red, green and blue.
        light: colour of the empty slide, 1 is white.
        uneven: (2,) relative change of the light from one side to the other, across and down.
        veil: share of the light that is scattered over the whole picture.
        focus: blur of the lens and of its focus, micrometres.
        softest: most blur, as a share of the crop's side.
        sharpening: by the camera, relative.
        contrast: exponent of the tone curve.
        saturation: 1 leaves colours as they are.
        noise: standard deviation of the camera's noise at white, in grey levels.
        mucus: optical density of the film between the cells.
        mucus_dyes: its colour.
        neutrophils: mean number of neutrophils in 1000 square micrometres.
        bacteria: mean number of bacteria in 1000 square micrometres.
        palette: commonest colour of the cytoplasm.
    """

    absorption: Field
    light: Colour
    uneven: tuple[float, float]
    veil: float
    focus: float
    softest: float
    sharpening: float
    contrast: float
    saturation: float
    noise: float
    mucus: float
    mucus_dyes: tuple[float, float, float, float]
    neutrophils: float
    bacteria: float
    palette: str


def set_up(label: str, slide: np.random.Generator, photo: np.random.Generator) -> Photo:
    """A photo of one slide: the slide gives stain, laboratory and debris, the photo light, focus and field.

    Args:
        label: class of the cells in the photo.
        slide: source of what all photos of the slide share.
        photo: source of what changes from photo to photo.
    """
    laboratory = LABORATORIES[choose(slide, {name: lab.weight for name, lab in LABORATORIES.items()})]
    strength = draw(slide, laboratory.strength) * np.exp(slide.normal(0, 0.13, (DYES, 1)))
    absorption = ABSORPTION * np.exp(slide.normal(0, 0.09, (DYES, 3))) * strength
    absorption *= np.exp(photo.normal(0, 0.08, (DYES, 1)))
    light = np.array(laboratory.light) * np.exp(slide.normal(0, 0.03, 3) + photo.normal(0, 0.015, 3))
    light *= np.exp(slide.normal(0, 0.07) + photo.normal(0, 0.05))
    return Photo(
        absorption=absorption.astype(np.float32),
        light=(float(light[0]), float(light[1]), float(light[2])),
        uneven=(float(photo.normal(0, 0.05)), float(photo.normal(0, 0.05))),
        veil=draw(slide, (0.03, 0.3)),
        focus=0.16 + float(slide.gamma(1.4, 0.2) * np.exp(photo.normal(0, 0.35))),
        softest=0.022,
        sharpening=draw(slide, laboratory.sharpening),
        contrast=draw(slide, laboratory.contrast),
        saturation=draw(slide, laboratory.saturation),
        noise=draw(slide, (0.5, 2.2)),
        mucus=float(slide.gamma(1.3, 0.028)),
        mucus_dyes=_mucus_colour(slide),
        neutrophils=float(slide.gamma(0.5, 0.6)),
        bacteria=float(slide.gamma(0.3, 40.0)),
        palette=choose(slide, TRAITS[label].palettes),
    )


def expose(dyes: Field, frame: Frame, photo: Photo, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture of a slide.

    Args:
        dyes: (4, S, S) optical density of each dye; S is a multiple of `size`.
        frame: the window they were laid into.
        photo: light, lens and camera.
        size: pixels along a side.
        rng: source of the camera's noise and of the specks of light.

    Returns:
        (size, size, 3) uint8.
    """
    passed = np.exp(-np.einsum("dc,dij->cij", photo.absorption, dyes))
    picture = passed * _illumination(frame, photo)
    stray = (
        0.6 * picture.mean((1, 2), keepdims=True) + 0.25 * np.array(photo.light, np.float32)[:, None, None]
    )
    picture = (1 - photo.veil) * picture + photo.veil * stray
    sigma = min(photo.focus, photo.softest * frame.side) / frame.step
    picture = gaussian_filter(picture, (0, sigma, sigma), mode="nearest", truncate=3.0)
    factor = frame.samples // size
    picture = picture.reshape(3, size, factor, size, factor).mean((2, 4))
    return _develop(_captured(picture, photo, size, rng), photo)


def overexpose(photo: Photo, white: float) -> Photo:
    """The same photo exposed until the empty slide is `white` times as bright as white."""
    gain = white / float(np.mean(photo.light))
    red, green, blue = photo.light
    return replace(photo, light=(red * gain, green * gain, blue * gain))


def defocus(photo: Photo, share: float) -> Photo:
    """The same photo out of focus: blurred by a standard deviation of that share of a crop's side."""
    return replace(photo, focus=float("inf"), softest=share, sharpening=0.0)


def foreign_stain(photo: Photo, rng: np.random.Generator) -> Photo:
    """The same photo in a stain that does not belong here: Grocott's silver, grey-black on a green ground."""
    silver = np.array([[0.9, 0.9, 0.9], [0.7, 0.75, 0.8], [0.8, 0.6, 0.9], [0.9, 0.7, 0.8]], np.float32)
    light = np.array([0.28, 0.86, 0.38]) * np.exp(rng.normal(0, 0.05, 3))
    return replace(
        photo,
        absorption=silver,
        light=(float(light[0]), float(light[1]), float(light[2])),
        saturation=1.15,
        veil=0.02,
    )


def _mucus_colour(rng: np.random.Generator) -> tuple[float, float, float, float]:
    shares = rng.dirichlet((1.0, 0.8, 0.8, 0.08))
    return float(shares[0]), float(shares[1]), float(shares[2]), float(shares[3])


def _illumination(frame: Frame, photo: Photo) -> Field:
    across = (frame.x - frame.x.mean()) / np.float32(frame.side)
    down = (frame.y - frame.y.mean()) / np.float32(frame.side)
    slope = 1 + photo.uneven[0] * across + photo.uneven[1] * down
    light: Field = np.array(photo.light, np.float32)[:, None, None] * slope.astype(np.float32)
    return light


def _captured(picture: Field, photo: Photo, size: int, rng: np.random.Generator) -> Field:
    """Shot and read noise, a little smeared by demosaicking, colour more than brightness."""
    grain = rng.standard_normal((3, size, size), np.float32)
    grain = 0.75 * gaussian_filter(grain, (0, 0.5, 0.5)) + 0.45 * grain.mean(0)
    level = np.float32(photo.noise / 255) * np.sqrt(np.clip(picture, 0.02, 1))
    noisy: Field = picture + level * grain
    return noisy


def _develop(picture: Field, photo: Photo) -> NDArray[np.uint8]:
    """The camera's own processing: soft colour, sharpening, tone curve, saturation, clipping."""
    bright = picture.mean(0, keepdims=True)
    colour = gaussian_filter(picture - bright, (0, 0.7, 0.7), mode="nearest", truncate=2.5)
    if photo.sharpening > 0:
        bright = bright + photo.sharpening * (bright - gaussian_filter(bright, (0, 1.2, 1.2), mode="nearest"))
    tone = np.clip(bright, 1e-3, None) ** photo.contrast
    developed = tone + photo.saturation * colour * (tone / np.clip(bright, 1e-2, None))
    levels: NDArray[np.uint8] = np.clip(developed * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))
