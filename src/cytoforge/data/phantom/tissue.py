"""Cells, neighbours and debris as optical density: how much of each dye lies where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cytoforge.data.phantom.anatomy import PALETTES, Anatomy, Nucleus, draw
from cytoforge.data.phantom.fields import (
    Field,
    Frame,
    band_noise,
    depth,
    inside,
    ridge,
    rounded_outline,
    shown,
    window,
)

DYES = 4
HEMATOXYLIN, EOSIN, LIGHT_GREEN, ORANGE = range(DYES)


@dataclass(frozen=True)
class Body:
    """A cell laid into a frame.

    Attributes:
        dyes: (4, S, S) optical density of hematoxylin, eosin, light green and orange G.
        cell: (S, S) share of each sample that the cell covers, nucleus included.
        nucleus: (S, S) share of each sample that nuclei cover.
    """

    dyes: Field
    cell: Field
    nucleus: Field


def lay(
    cell: Anatomy,
    frame: Frame,
    rng: np.random.Generator,
    place: tuple[float, float] = (0.0, 0.0),
    softness: float = 0.0,
) -> Body:
    """Lay a cell into a frame.

    Args:
        cell: what to lay.
        frame: where.
        rng: source of its textures.
        place: of the cell's centre, micrometres.
        softness: added to all its edges, for cells out of focus, micrometres.
    """
    of_cytoplasm, of_nuclei, of_colour = rng.spawn(3)
    x, y = _warped(frame, rng, 0.035 * float(cell.outline.mean()), float(cell.outline.mean()))
    x, y = x - np.float32(place[0]), y - np.float32(place[1])
    distance = depth(cell.outline, x, y)
    covered = inside(distance, cell.edge + softness)
    cytoplasm = _cytoplasm(cell, frame, of_cytoplasm, x, y, distance, covered)
    nuclear, nucleus, red = _nuclei(cell, frame, of_nuclei, x, y, softness)
    cytoplasm *= 1 - np.float32(0.25) * nucleus
    dyes = _coloured(cell, frame, of_colour, cytoplasm)
    dyes[HEMATOXYLIN] += nuclear * (1 - red)
    dyes[EOSIN] += nuclear * red
    return Body(dyes, np.maximum(covered, nucleus), nucleus)


def _warped(frame: Frame, rng: np.random.Generator, amount: float, grain: float) -> tuple[Field, Field]:
    across, down = (band_noise(rng, frame, 0.12 * grain, 3.0 * grain, 2.2) for _ in range(2))
    return frame.x + np.float32(amount) * across, frame.y + np.float32(amount) * down


def _cytoplasm(
    cell: Anatomy,
    frame: Frame,
    rng: np.random.Generator,
    x: Field,
    y: Field,
    distance: Field,
    covered: Field,
) -> Field:
    """Optical density of the cytoplasm, whatever its colour."""
    radius = float(cell.outline.mean())
    towards_middle = np.clip(-distance / np.float32(0.8 * radius), 0, 1)
    thickness = 1 + cell.dome * (np.sqrt(towards_middle) - 0.6)
    thickness += cell.rim * ridge(distance + np.float32(0.06 * radius), 0.05 * radius + 0.3)
    thickness = _textured(cell, frame, rng, thickness, radius)
    thickness = _folded(cell, thickness, x, y)
    thickness = _hollowed(cell, frame, rng, thickness, x, y)
    body: Field = (np.float32(cell.density) * np.clip(thickness, 0.05, 3.5) * covered).astype(np.float32)
    return body


def _textured(
    cell: Anatomy, frame: Frame, rng: np.random.Generator, thickness: Field, radius: float
) -> Field:
    thickness *= np.exp(cell.mottling * band_noise(rng, frame, 1.0, radius, 1.5))
    fibres = band_noise(rng, frame, 0.9, 6.0, 0.6, along=rng.uniform(-np.pi, np.pi))
    thickness += 0.28 * cell.wrinkles * np.clip(fibres - 0.2, 0, 2)
    thickness += 0.8 * cell.wrinkles * _lines(frame, rng, radius)
    thickness += cell.granules * np.clip(band_noise(rng, frame, 0.55, 1.6) - 1.1, 0, 2)
    return thickness


def _lines(frame: Frame, rng: np.random.Generator, radius: float) -> Field:
    """Zero crossings of a smooth field: fine crossing lines, here strong, there faint."""
    lines = ridge(band_noise(rng, frame, 0.14 * radius, 1.5 * radius, 1.7), 0.09)
    strength = np.clip(band_noise(rng, frame, 0.6 * radius, 2 * radius) + 0.3, 0, 1.5)
    faint: Field = strength * lines
    return faint


def _folded(cell: Anatomy, thickness: Field, x: Field, y: Field) -> Field:
    for fold in cell.folds:
        thickness += _crease(fold.angle, fold.offset, fold.bend, fold.width, x, y) * fold.strength
        if fold.flap:
            beyond = np.cos(fold.angle) * x + np.sin(fold.angle) * y - np.float32(fold.offset)
            thickness += fold.flap * inside(-beyond, 0.25)
    return thickness


def _hollowed(
    cell: Anatomy, frame: Frame, rng: np.random.Generator, thickness: Field, x: Field, y: Field
) -> Field:
    """Vacuoles and halo: less inside, more along the edge."""
    for across, down, hole in cell.vacuoles:
        to_hole = np.hypot(x - np.float32(across), y - np.float32(down)) - np.float32(hole)
        thickness *= 1 - 0.6 * inside(to_hole, 0.3)
        thickness += 0.15 * ridge(to_hole - np.float32(0.3), 0.4)
    halo = cell.halo
    if halo is None:
        return thickness
    radius = float(halo.outline.mean())
    to_halo = depth(halo.outline, x - np.float32(halo.centre[0]), y - np.float32(halo.centre[1]))
    to_halo += np.float32(0.07 * radius) * band_noise(rng, frame, 0.25 * radius, 3 * radius, 1.3)
    patches = np.clip(1 + 0.25 * band_noise(rng, frame, 0.3 * radius, 3 * radius), 0, 1)
    thickness *= 1 - halo.clearing * patches * inside(to_halo, halo.softness)
    thickness += halo.rim * ridge(to_halo - np.float32(0.9), 1.0)
    return thickness


def _crease(angle: float, offset: float, bend: float, width: float, x: Field, y: Field) -> Field:
    """A line that is sharp on its outer side and fades on its inner side."""
    along = np.float32(-np.sin(angle)) * x + np.float32(np.cos(angle)) * y
    across = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    across = across - np.float32(offset) + np.float32(bend) * np.square(along)
    wide = np.where(across > 0, np.float32(0.4 * width), np.float32(1.6 * width))
    crease: Field = np.exp(-np.square(across / wide))
    return crease


def _nuclei(
    cell: Anatomy, frame: Frame, rng: np.random.Generator, x: Field, y: Field, softness: float
) -> tuple[Field, Field, np.float32]:
    """Optical density of the nuclei, the share of each sample they cover, and their share of red."""
    density = np.zeros_like(x)
    covered = np.zeros_like(x)
    for nucleus, ours in zip(cell.nuclei, rng.spawn(len(cell.nuclei)), strict=True):
        across, down = x - np.float32(nucleus.centre[0]), y - np.float32(nucleus.centre[1])
        seen = window(across, down, float(nucleus.outline.max()) + 1.5 + 4 * softness)
        if seen is None:
            continue
        texture = _chromatin(nucleus, frame, ours, seen)
        part, share = _nucleus(nucleus, texture, across[seen], down[seen], 0.18 + 0.6 * softness)
        density[seen] = np.maximum(density[seen], part)
        covered[seen] = np.maximum(covered[seen], share)
    return density, covered, np.float32(0.6 * cell.nuclei[0].eosin)


def _chromatin(nucleus: Nucleus, frame: Frame, rng: np.random.Generator, seen: tuple[slice, slice]) -> Field:
    fine = band_noise(rng, frame, 0.7 * nucleus.grain, 1.6 * nucleus.grain)[seen]
    coarse = band_noise(rng, frame, 1.4 * nucleus.grain, 4.0 * nucleus.grain)[seen]
    texture: Field = np.exp(np.float32(nucleus.chromatin) * (0.6 * fine + 0.75 * coarse - 0.2))
    return texture


def _nucleus(nucleus: Nucleus, texture: Field, x: Field, y: Field, edge: float) -> tuple[Field, Field]:
    distance = depth(nucleus.outline, x, y)
    covered = inside(distance, edge)
    texture = texture + nucleus.membrane * ridge(distance + np.float32(0.3), 0.35 + edge)
    for right, below in nucleus.nucleoli:
        texture += 0.45 * inside(np.hypot(x - np.float32(right), y - np.float32(below)) - 0.45, 0.15)
    density: Field = (np.float32(nucleus.density) * texture * covered).astype(np.float32)
    return density, covered


def _coloured(cell: Anatomy, frame: Frame, rng: np.random.Generator, cytoplasm: Field) -> Field:
    first = np.array(PALETTES[cell.palette], np.float32)[:, None, None]
    if cell.second_palette == cell.palette:
        return first * cytoplasm
    second = np.array(PALETTES[cell.second_palette], np.float32)[:, None, None]
    radius = float(cell.outline.mean())
    share = inside(band_noise(rng, frame, 1.5 * radius, 8 * radius, 2.0), 0.7)
    dyes: Field = (first * (1 - share) + second * share) * cytoplasm
    return dyes


def neutrophil(frame: Frame, rng: np.random.Generator, place: tuple[float, float]) -> Field:
    """(4, S, S) optical density of a small white cell with a lobed nucleus."""
    x, y = frame.x - np.float32(place[0]), frame.y - np.float32(place[1])
    lobes = np.zeros_like(x)
    direction = rng.uniform(-np.pi, np.pi)
    for _ in range(int(rng.integers(2, 5))):
        centre = 2.1 * np.array([np.cos(direction), np.sin(direction)])
        outline = rounded_outline(rng, draw(rng, (1.2, 2.0)), draw(rng, (1.0, 1.7)), 0.05)
        lobe = depth(outline, x - np.float32(centre[0]), y - np.float32(centre[1]))
        lobes = np.maximum(lobes, inside(lobe, 0.25))
        direction += draw(rng, (0.9, 1.7))
    dyes = np.zeros((DYES, *x.shape), np.float32)
    dyes[HEMATOXYLIN] = draw(rng, (0.8, 1.5)) * lobes
    body = inside(np.hypot(x, y) - np.float32(draw(rng, (4.2, 5.6))), 0.5)
    dyes[EOSIN] = 0.12 * body
    dyes[LIGHT_GREEN] = 0.06 * body
    return dyes


def bacteria(frame: Frame, rng: np.random.Generator, count: int) -> Field:
    """(S, S) optical density of `count` rods of about one micrometre, in a few swarms."""
    swarms = rng.uniform(-0.6, 0.6, (3, 2)) * frame.period
    centres = swarms[rng.integers(0, 3, count)] + rng.normal(0, 0.16, (count, 2)) * frame.period
    tilts = rng.uniform(0, np.pi, count)
    along = np.linspace(-0.5, 0.5, 4)[None, :]
    x = (centres[:, :1] + along * np.cos(tilts)[:, None]).ravel()
    y = (centres[:, 1:] + along * np.sin(tilts)[:, None]).ravel()
    columns = np.floor((x / frame.period + 0.5) * frame.samples).astype(int)
    rows = np.floor((y / frame.period + 0.5) * frame.samples).astype(int)
    seen = (columns >= 0) & (rows >= 0) & (columns < frame.samples) & (rows < frame.samples)
    dots = np.zeros((frame.samples, frame.samples), np.float32)
    np.add.at(dots, (rows[seen], columns[seen]), np.float32(0.05 * (frame.samples / frame.period) ** 2))
    soft: Field = gaussian_filter(dots, 0.22 * frame.samples / frame.period, truncate=3.0)
    return shown(soft, frame)


def mucus(frame: Frame, rng: np.random.Generator, amount: float) -> NDArray[np.float32]:
    """(S, S) optical density of the film between the cells: a tint, clouds and a few strands."""
    clouds = np.clip(0.6 + 0.5 * band_noise(rng, frame, 4.0, 60.0), 0, 3)
    grit = np.clip(band_noise(rng, frame, 0.7, 2.0) - 0.8, 0, 3)
    film: Field = np.float32(amount) * (clouds * (1 + 0.35 * grit))
    return film
