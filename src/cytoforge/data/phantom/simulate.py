"""One simulated cell with all that is known about it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError
from cytoforge.core.randomness import derive
from cytoforge.data.phantom.anatomy import CLASSES, TRAITS, Anatomy, choose, draw, grow
from cytoforge.data.phantom.fields import Field, Frame, look_again, open_frame
from cytoforge.data.phantom.optics import Photo, expose, set_up
from cytoforge.data.phantom.tissue import (
    HEMATOXYLIN,
    Body,
    bacteria,
    lay,
    mucus,
    neutrophil,
)

LEAST_SIZE, MOST_SIZE = 16, 512
CAMERA_PIXEL = 0.17
# Which classes lie beside a cell of each class, apart from its own.
COMPANY = {"Superficial-Intermediate": 0.7, "Parabasal": 0.1, "Metaplastic": 0.1, "Koilocytotic": 0.1}


@dataclass(frozen=True)
class View:
    """How another photo shows a cell again, against its first crop.

    Attributes:
        shift: of the crop, as a share of its side, across and down.
        turn: of the camera, radians.
        zoom: side of the crop, relative.
        defocus: of this cell beyond its first, micrometres.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    zoom: float = 1.0
    defocus: float = 0.0


@dataclass(frozen=True)
class PhantomCell:
    """A simulated crop and the truth about it.

    Attributes:
        image: (S, S, 3) uint8.
        mask: (S, S) uint8: 0 background, 1 cytoplasm, 2 nucleus; of the cell in the middle only.
        label: class of the cell.
        photo: seed of the photo it comes from.
        measurements: areas in square micrometres, lengths in micrometres, of the whole cell even where the
            crop cuts it off.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    label: str
    photo: int
    measurements: dict[str, float]


def simulate(label: str, seed: int, size: int = 96) -> PhantomCell:
    """The cell of class `label` that belongs to `seed`, alone in a photo of its own.

    Args:
        label: one of `CLASSES`.
        seed: any integer; the same seed gives the same cell.
        size: pixels along a side, 16 to 512.

    Returns:
        image, mask and measurements.

    Raises:
        ConfigError: there is no such class or size.

    Example:
        >>> cell = simulate("Parabasal", seed=7, size=64)
        >>> cell.image.shape, cell.mask.shape, sorted(set(cell.mask.ravel().tolist()))
        ((64, 64, 3), (64, 64), [0, 1, 2])
    """
    check_request(label, size)
    photo_seed = derive(seed, label, "photo")
    return render(
        label, derive(seed, label, "cell"), open_photo(label, photo_seed, photo_seed), photo_seed, size
    )


def open_photo(label: str, slide_seed: int, photo_seed: int) -> Photo:
    """Photo number `photo_seed` of slide number `slide_seed`."""
    return set_up(label, np.random.default_rng(slide_seed), np.random.default_rng([photo_seed, 1]))


def render(
    label: str, cell_seed: int, photo: Photo, photo_seed: int, size: int | None, view: View | None = None
) -> PhantomCell:
    """The cell that belongs to `cell_seed` as it looks in a photo.

    The same cell seed gives the same cell with the same neighbours, whatever the photo and the view.

    Args:
        label: one of `CLASSES`.
        cell_seed: all that is of flesh and blood.
        photo: stain, light, lens and camera.
        photo_seed: number of the photo, for its debris and noise.
        size: pixels along a side; None for as many as a microscope's camera gives the crop.
        view: for a second look at the cell.
    """
    cell = anatomy(label, cell_seed, photo)
    shot = np.random.default_rng([cell_seed, 3])
    pixels = size or native_size(cell)
    frame = _framed(cell, shot, pixels)
    if view is not None:
        frame = look_again(frame, view.shift, view.turn, view.zoom)
    body, dyes = _scene(cell, frame, cell_seed, photo)
    softness = float(shot.gamma(0.8, 0.18)) + (view.defocus if view else 0.0)
    photo = replace(photo, focus=float(np.hypot(photo.focus, softness)))
    image = expose(dyes, frame, photo, pixels, np.random.default_rng([cell_seed, photo_seed, 4]))
    return PhantomCell(image, _mask(body, pixels), label, photo_seed, _measure(cell, body, frame, pixels))


def anatomy(label: str, cell_seed: int, photo: Photo) -> Anatomy:
    """The cell of class `label` that belongs to `cell_seed`; it often has the photo's commonest colour."""
    flesh = np.random.default_rng([cell_seed, 0])
    dominant = photo.palette if photo.palette in TRAITS[label].palettes and flesh.random() < 0.72 else None
    return grow(label, flesh, dominant)


def check_request(label: str, size: int) -> None:
    """Refuse a class or size that cannot be drawn.

    Raises:
        ConfigError: there is no such class or size.
    """
    if label not in CLASSES:
        raise ConfigError(f"there is no class {label!r} to simulate; choose one of {', '.join(CLASSES)}.")
    if not LEAST_SIZE <= size <= MOST_SIZE:
        raise ConfigError(f"size {size} cannot be drawn; choose {LEAST_SIZE} to {MOST_SIZE} pixels.")


def native_size(cell: Anatomy) -> int:
    """Pixels that a camera of 0.17 micrometres a pixel gives to the crop: small cells give small files."""
    return int(np.clip(round(cell.side * cell.margin / CAMERA_PIXEL), 48, MOST_SIZE))


def _framed(cell: Anatomy, rng: np.random.Generator, size: int) -> Frame:
    side = cell.side * cell.margin
    across, down = np.array(cell.middle) + rng.normal(0, 0.025, 2).clip(-0.06, 0.06) * side
    return open_frame(
        side, size * max(2 if size <= 192 else 1, -(-160 // size)), (float(across), float(down))
    )


def _scene(cell: Anatomy, frame: Frame, cell_seed: int, photo: Photo) -> tuple[Body, Field]:
    """The cell, and the optical density of all that the frame shows."""
    body = lay(cell, frame, np.random.default_rng([cell_seed, 5]))
    dyes = body.dyes.copy()
    for neighbour in _neighbours(cell, frame, cell_seed):
        dyes += neighbour
    rng = np.random.default_rng([cell_seed, 6])
    dyes += np.array(photo.mucus_dyes, np.float32)[:, None, None] * mucus(frame, rng, photo.mucus)
    thousands = frame.period**2 / 1000
    for _ in range(min(int(rng.poisson(photo.neutrophils * thousands)), 6)):
        dyes += neutrophil(frame, rng, _beside(cell, rng, 3.0, 0.25))
    dyes[HEMATOXYLIN] += bacteria(frame, rng, min(int(rng.poisson(photo.bacteria * thousands)), 400))
    return body, dyes


def _neighbours(cell: Anatomy, frame: Frame, cell_seed: int) -> list[Field]:
    rng = np.random.default_rng([cell_seed, 7])
    traits = TRAITS[cell.label]
    count = min(int(rng.poisson(traits.neighbours)), 5)
    return [_neighbour(cell, frame, each) for each in rng.spawn(count)]


def _neighbour(cell: Anatomy, frame: Frame, rng: np.random.Generator) -> Field:
    label = cell.label if rng.random() < 0.75 else choose(rng, COMPANY)
    other = grow(label, rng, cell.palette if label == cell.label and rng.random() < 0.6 else None)
    overlap = draw(rng, (-0.1, 0.45 if cell.label == "Dyskeratotic" else 0.3))
    place = _beside(cell, rng, float(other.outline.mean()), overlap)
    return lay(other, frame, rng, place, softness=float(rng.gamma(1.0, 0.3))).dyes


def _beside(cell: Anatomy, rng: np.random.Generator, radius: float, overlap: float) -> tuple[float, float]:
    """A place where something of that radius reaches over the cell's edge by a share of its radius."""
    direction = rng.uniform(-np.pi, np.pi)
    turn = int((direction + np.pi) / (2 * np.pi) * (len(cell.outline) - 1))
    away = float(cell.outline[turn]) + radius * (1 - 2 * overlap)
    return float(np.cos(direction) * away), float(np.sin(direction) * away)


def _mask(body: Body, size: int) -> NDArray[np.uint8]:
    factor = body.cell.shape[0] // size
    cell, nucleus = (
        part.reshape(size, factor, size, factor).mean((1, 3)) > 0.5 for part in (body.cell, body.nucleus)
    )
    mask: NDArray[np.uint8] = (cell.astype(np.uint8) + (cell & nucleus)).astype(np.uint8)
    return mask


def _measure(cell: Anatomy, body: Body, frame: Frame, size: int) -> dict[str, float]:
    nucleus = cell.nucleus_area
    if len(cell.nuclei) > 1:  # they may overlap, so count what they cover together
        nucleus = float(np.count_nonzero(body.nucleus > 0.5)) * frame.step**2
    return {
        "cell_area": round(cell.cell_area, 3),
        "nucleus_area": round(nucleus, 3),
        "nc_ratio": round(nucleus / cell.cell_area, 5),
        "nuclei": len(cell.nuclei),
        "halo": float(cell.halo is not None),
        "micrometres_per_pixel": round(frame.side / size, 5),
    }
