"""Pictures that show a generator at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cytoforge.core.grid import PAPER, grid

GAP = 4
_CELL = 128
_FONT = 18
_LONGEST = 28
_MASK_COLOURS = np.array([(255, 255, 255), (236, 178, 200), (74, 60, 140), (200, 200, 200)], np.uint8)


def labelled_rows(rows: Mapping[str, NDArray[np.uint8]], note: str = "synthetic") -> NDArray[np.uint8]:
    """One row of images for each name, the name to the left of it and a note below all.

    Args:
        rows: name -> (N, H, W, 3), all of one size; N may differ.
        note: what a reader must not overlook.

    Returns:
        (height, width, 3); small images are enlarged by a whole factor.
    """
    columns = max(len(images) for images in rows.values())
    side = next(iter(rows.values())).shape[1]
    factor = max(1, _CELL // side)
    names = [shortened(name) for name in rows]
    left = round(max(font(_FONT).getlength(name) for name in names)) + 3 * GAP
    strips = [_strip(images, columns, factor) for images in rows.values()]
    height = sum(strip.shape[0] + GAP for strip in strips) + _FONT + 2 * GAP
    sheet = Image.new("RGB", (left + strips[0].shape[1] + GAP, height + GAP), (PAPER,) * 3)
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for name, strip in zip(names, strips, strict=True):
        sheet.paste(Image.fromarray(strip), (left, top))
        pen.text((2 * GAP, top + strip.shape[0] // 2), name, (40, 40, 40), font(_FONT), anchor="lm")
        top += strip.shape[0] + GAP
    pen.text((left, top + GAP), note, (120, 120, 120), font(_FONT - 4), anchor="la")
    return np.asarray(sheet)


def shortened(name: str) -> str:
    """A name that fits beside its row, with its beginning and its end, by which rows are told apart.

    Example:
        >>> shortened("Superficial-Intermediate: before")
        'Superficial-I…ediate: before'
    """
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST // 2 - 1]}…{name[-_LONGEST // 2 :]}"


def painted_masks(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Masks (N, H, W) of 0, 1 and 2 as pictures (N, H, W, 3): white, rose cytoplasm, blue nucleus."""
    return _MASK_COLOURS[masks]


def slerp(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Noise on the great circle between two draws, as typical at every point as at its ends.

        sin((1 - t) w) / sin(w) start + sin(t w) / sin(w) end,   w the angle between them

    Straight lines between Gaussian draws pass through a region that no draw comes from.

    Args:
        start: (...) noise.
        end: (...) noise.
        shares: (T,) in [0, 1].

    Returns:
        (T, ...)

    Example:
        >>> start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
        >>> slerp(start, end, torch.tensor([0.0, 0.5, 1.0])).round(decimals=3)
        tensor([[2.0000, 0.0000],
                [1.4140, 1.4140],
                [0.0000, 2.0000]])

    Reference:
        Shoemake, Animating rotation with quaternion curves, 1985; White, Sampling generative networks, 2016.
        https://arxiv.org/abs/1609.04468
    """
    cosine = torch.nn.functional.cosine_similarity(start.flatten(), end.flatten(), dim=0)
    angle = torch.acos(cosine.clamp(-1, 1))
    if torch.sin(angle) < 1e-6:
        weights = torch.stack([1 - shares, shares])
    else:
        weights = torch.stack([torch.sin((1 - shares) * angle), torch.sin(shares * angle)]) / torch.sin(angle)
    shaped = weights.reshape(2, -1, *[1] * start.ndim)
    return shaped[0] * start + shaped[1] * end


def _strip(images: NDArray[np.uint8], columns: int, factor: int) -> NDArray[np.uint8]:
    large = images.repeat(factor, axis=1).repeat(factor, axis=2)
    return grid(large, columns, GAP)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib carries: Latin, Greek, Cyrillic and more on every machine."""
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
