"""Answers written onto pictures: a photo with a frame around each cell, or single cells in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cytoforge.core.grid import PAPER
from cytoforge.sampling.pictures import font

_COLOURS = (
    (31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (140, 86, 75),
    (227, 119, 194), (23, 150, 160),
)  # fmt: skip
_UNSURE = (110, 110, 110)
_TILE, _COLUMNS, _GAP = 144, 6, 8
_LONGEST = 20


@dataclass(frozen=True)
class Note:
    """What is written beside one cell.

    Attributes:
        label: index of the class.
        text: short.
        sure: whether the answer stands; else a person has to look.
        box: left, top, width, height in the photo; None for a single cell.
    """

    label: int
    text: str
    sure: bool
    box: tuple[int, int, int, int] | None = None


def annotated_photo(photo: NDArray[np.uint8], notes: Sequence[Note]) -> NDArray[np.uint8]:
    """The photo (H, W, 3) with a frame and a note for each cell; grey where a person has to look."""
    picture = Image.fromarray(photo)
    pen = ImageDraw.Draw(picture)
    size = max(12, round(min(photo.shape[:2]) / 50))
    for note in notes:
        assert note.box is not None
        left, top, width, height = note.box
        colour = _colour(note)
        pen.rectangle(
            (left, top, left + width - 1, top + height - 1), outline=colour, width=max(2, size // 8)
        )
    for note in notes:
        assert note.box is not None
        left, top = note.box[:2]
        words = _short(note.text)
        place = pen.textbbox((left, max(0, top - size - 4)), words, font=font(size), anchor="la")
        pen.rectangle((place[0] - 2, place[1] - 1, place[2] + 2, place[3] + 1), fill=_colour(note))
        pen.text((left, max(0, top - size - 4)), words, "white", font(size), anchor="la")
    return np.asarray(picture)


def annotated_cells(
    cells: Sequence[NDArray[np.uint8]], notes: Sequence[Note], remark: str = ""
) -> NDArray[np.uint8]:
    """Single cells (H, W, 3) of any size in rows, a note under each and a remark below; at least one cell."""
    caption = 18
    columns = min(_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    wide, high = _TILE + _GAP, _TILE + caption + _GAP
    foot = caption + _GAP if remark else _GAP
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * high + foot), (PAPER,) * 3)
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, rows * high + 2), remark, _UNSURE, font(12), anchor="la")
    for index, (cell, note) in enumerate(zip(cells, notes, strict=True)):
        left, top = _GAP + index % columns * wide, _GAP + index // columns * high
        picture = Image.fromarray(cell)
        picture.thumbnail((_TILE - 6, _TILE - 6), Image.Resampling.BICUBIC)
        if max(picture.size) < _TILE - 6:
            factor = (_TILE - 6) / max(picture.size)
            picture = picture.resize((round(picture.width * factor), round(picture.height * factor)))
        pen.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), outline=_colour(note), width=3)
        at = left + (_TILE - picture.width) // 2, top + (_TILE - picture.height) // 2
        sheet.paste(picture, at)
        pen.text((left, top + _TILE + 2), _short(note.text), _colour(note), font(12), anchor="la")
    return np.asarray(sheet)


def _colour(note: Note) -> tuple[int, int, int]:
    return _COLOURS[note.label % len(_COLOURS)] if note.sure else _UNSURE


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
