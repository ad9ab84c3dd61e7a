"""Pictures that show the same cell twice: copies, altered copies, and crops from overlapping photos.

The search has two steps. *Candidates*: band-passed 24 px thumbnails of all cells are correlated with each
other over small shifts and the eight symmetries of the square. *Verification*: each candidate is registered
by an affine map (Gauss-Newton on normalised images) and correlated again, coarsely ("form") and finely
("detail").

How often two different cells look that alike is measured, not assumed: the same search against mirrored
pictures of the other cells of a class can only find what is not there. The threshold rises until at most
`FALSE_ALARMS` of the cells would be flagged by it.

Reference:
    Baker and Matthews, Lucas-Kanade 20 years on, IJCV 2004 (registration); Evangelidis and Psarakis,
    Parametric image alignment using enhanced correlation coefficient maximization, PAMI 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cytoforge.core.symmetry import SYMMETRIES, turn

Kind = Literal["exact", "near", "recurring"]
Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

SIZE: Final = 96
"""Side of the thumbnails in pixels."""
FALSE_ALARMS: Final = 0.005
"""Share of cells that may be flagged wrongly."""

_COARSE: Final = 24
_MIDDLE: Final = 48
_SHIFT: Final = 4
_CANDIDATE: Final = 0.72
_PER_CELL: Final = 10
_FORM: Final = 0.965
_DOUBT: Final = 0.94
_WORTH_DETAIL: Final = 0.9
_SAME_DETAIL: Final = 0.95
_COPY_FORM: Final = 0.98
_COPY_DETAIL: Final = 0.9
_SAME_FRAME: Final = 0.25
_ROWS: Final = 256
_PAIRS: Final = 256


@dataclass(frozen=True)
class Repeat:
    """Two pictures of one cell.

    Attributes:
        first: name of one picture.
        second: name of the other, later in the order of names.
        kind: exact (same pixels), near (an altered copy in the same frame), recurring (cropped anew).
        symmetry: how the second is turned against the first, one of `core.symmetry.SYMMETRIES`.
        form: correlation of the registered pictures at 48 px, band-passed, 0..1.
        detail: the same for structures of 1 to 3 pixels at 96 px.
    """

    first: str
    second: str
    kind: Kind
    symmetry: str
    form: float
    detail: float


@dataclass(frozen=True)
class Repeats:
    """What a search found.

    Attributes:
        pairs: sorted by kind, then most alike first.
        threshold: the least `form` of a recurring cell whose detail leaves doubt.
        false_alarms: share of cells that the search flags against mirrored pictures, where nothing is there.
    """

    pairs: tuple[Repeat, ...]
    threshold: float
    false_alarms: float


@dataclass(frozen=True)
class _Candidates:
    """Pairs (first[i], second[i]) with the scores of their registration; `offset` in pixels at 48 px."""

    first: Indices
    second: Indices
    form: Floats
    detail: Floats
    offset: Floats

    def keep(self, which: NDArray[np.bool_]) -> _Candidates:
        return _Candidates(
            self.first[which], self.second[which], self.form[which], self.detail[which], self.offset[which]
        )


def find_repeats(
    thumbnails: NDArray[np.uint8], names: Sequence[str], labels: NDArray[np.int64], hashes: Sequence[str]
) -> Repeats:
    """All pairs of pictures that show the same cell.

    Args:
        thumbnails: (N, 96, 96) grey levels, each picture stretched to the square.
        names: N names.
        labels: (N,) classes; only used to calibrate, cells of different classes may be the same cell.
        hashes: N fingerprints of the decoded pixels; equal ones are exact copies.

    Returns:
        Pairs, the threshold that was used, and its measured rate of false alarms.
    """
    same = _exact(hashes)
    exact = [Repeat(names[i], names[j], "exact", SYMMETRIES[0], 1.0, 1.0) for i, j in same]
    if len(thumbnails) < 2:
        return Repeats(tuple(exact), 1.0, 0.0)
    grey = thumbnails.astype(np.float32)
    pyramid = (_band_pass(_shrink(grey, _COARSE), 3), _band_pass(_shrink(grey, _MIDDLE), 6), grey)
    known = {(i, j) for i, j in same}
    found: list[Repeat] = []
    upright, threshold, rate = _upright(pyramid, labels)
    for index in range(len(SYMMETRIES)):
        pairs = upright if index == 0 else _copies(pyramid, index)
        for repeat, key in _describe(pairs, index, names):
            if key not in known:
                known.add(key)
                found.append(repeat)
    found.sort(key=lambda repeat: (repeat.kind, -repeat.form, repeat.first, repeat.second))
    return Repeats((*exact, *found), threshold, rate)


def _exact(hashes: Sequence[str]) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    pairs = []
    for index, value in enumerate(hashes):
        if value in first:
            pairs.append((first[value], index))
        else:
            first[value] = index
    return pairs


def _upright(
    pyramid: tuple[Floats, Floats, Floats], labels: NDArray[np.int64]
) -> tuple[_Candidates, float, float]:
    """Repeats in the same orientation, the threshold for them and its rate of false alarms."""
    found = _registered(pyramid, 0, _SHIFT)
    null = _registered(pyramid, SYMMETRIES.index("mirrored"), _SHIFT)
    null = null.keep((labels[null.first] == labels[null.second]) & ~_is_copy(null))
    threshold, rate = _calibrate(null, len(labels))
    return found.keep(_is_same_cell(found, threshold) | _is_copy(found)), threshold, rate


def _copies(pyramid: tuple[Floats, Floats, Floats], symmetry: int) -> _Candidates:
    found = _registered(pyramid, symmetry, 0)
    return found.keep(_is_copy(found))


def _is_copy(pairs: _Candidates) -> NDArray[np.bool_]:
    """Same frame and same fine structure: the file was copied, whatever was done to it then."""
    same_frame = pairs.offset < _SAME_FRAME
    return same_frame & (pairs.form >= _COPY_FORM) & (pairs.detail >= _COPY_DETAIL)


def _is_same_cell(pairs: _Candidates, threshold: float) -> NDArray[np.bool_]:
    """Alike in form, or nearly so and alike in detail, which form alone leaves in doubt."""
    return (pairs.form >= threshold) | ((pairs.form >= _WORTH_DETAIL) & (pairs.detail >= _SAME_DETAIL))


def _calibrate(null: _Candidates, count: int) -> tuple[float, float]:
    """The least threshold >= 0.965 that flags at most a share `FALSE_ALARMS` of cells in the null search."""
    for threshold in (*np.arange(_FORM, 0.9995, 0.0025), 1.0):
        wrong = _is_same_cell(null, threshold)
        rate = len(set(null.first[wrong]) | set(null.second[wrong])) / count
        if rate <= FALSE_ALARMS:
            break
    return float(threshold), float(rate)


def _describe(
    pairs: _Candidates, symmetry: int, names: Sequence[str]
) -> list[tuple[Repeat, tuple[int, int]]]:
    copies = _is_copy(pairs)
    rows = []
    for k in range(len(pairs.form)):
        low, high = sorted((int(pairs.first[k]), int(pairs.second[k])))
        kind: Kind = "near" if copies[k] else "recurring"
        scores = float(pairs.form[k]), float(pairs.detail[k])
        rows.append((Repeat(names[low], names[high], kind, SYMMETRIES[symmetry], *scores), (low, high)))
    return rows


def _registered(pyramid: tuple[Floats, Floats, Floats], symmetry: int, shift: int) -> _Candidates:
    """Candidates under one symmetry and shifts up to `shift` pixels at 24 px, registered and scored."""
    coarse, middle, fine = pyramid
    turned = np.ascontiguousarray(turn(coarse, symmetry))
    first, second = _candidates(coarse, turned, shift)
    form, detail, offset = [], [], []
    for start in range(0, len(first), _PAIRS):
        a, b = first[start : start + _PAIRS], second[start : start + _PAIRS]
        begin = _best_shift(coarse[a], turned[b], shift) * (_MIDDLE / _COARSE)
        turned_middle = np.ascontiguousarray(turn(middle[b], symmetry))
        score, motion = register(middle[a], turned_middle, begin)
        doubt = (score >= _DOUBT) & (score < _FORM)
        back, _motion = register(turned_middle[doubt], middle[a[doubt]], -begin[doubt])
        score[doubt] = np.maximum(score[doubt], back)
        form.append(score)
        offset.append(np.abs(motion).max(1))
        alike = np.zeros_like(score)
        close = score >= _WORTH_DETAIL
        closest = np.ascontiguousarray(turn(fine[b[close]], symmetry))
        alike[close] = _detail(fine[a[close]], closest, motion[close])
        detail.append(alike)
    empty = [np.zeros(0, np.float32)]
    return _Candidates(first, second, *(np.concatenate(column or empty) for column in (form, detail, offset)))


def _candidates(images: Floats, others: Floats, shift: int) -> tuple[Indices, Indices]:
    """Pairs i < j whose thumbnails correlate by at least 0.72 at the best shift, ten at most for each i."""
    centre, other_centre = _windows(images, shift, [shift])[0], _windows(others, shift, [shift])[0]
    steps = range(2 * shift + 1)
    ours, theirs = _windows(images, shift, steps), _windows(others, shift, steps)
    matches = [(centre, window) for window in theirs] + [(window, other_centre) for window in ours if shift]
    first, second = [], []
    for start in range(0, len(images), _ROWS):
        best = np.full((min(_ROWS, len(images) - start), len(images) - start), -1, np.float32)
        for window, other in matches:
            np.maximum(best, window[start : start + _ROWS] @ other[start:].T, out=best)
        best[np.arange(best.shape[1])[None] <= np.arange(len(best))[:, None]] = -1
        row, column = _strongest(best)
        first.append(row + start)
        second.append(column + start)
    return np.concatenate(first), np.concatenate(second)


def _windows(images: Floats, shift: int, steps: Sequence[int]) -> list[Floats]:
    """Unit vectors (N, side^2) of the windows that begin at all (y, x) in `steps`."""
    side = _COARSE - 2 * shift
    return [_unit(images[:, y : y + side, x : x + side]) for y in steps for x in steps]


def _best_shift(images: Floats, others: Floats, shift: int) -> Floats:
    """(P, 2) x and y in pixels by which each picture's centre is found best in the other picture."""
    side = _COARSE - 2 * shift
    centre = _unit(images[:, shift : shift + side, shift : shift + side])
    places = [(x, y) for y in range(2 * shift + 1) for x in range(2 * shift + 1)]
    scores = [(centre * _unit(others[:, y : y + side, x : x + side])).sum(1) for x, y in places]
    best: Floats = np.array(places, np.float32)[np.argmax(scores, axis=0)] - shift
    return best


def _strongest(scores: Floats) -> tuple[Indices, Indices]:
    keep = min(_PER_CELL, scores.shape[1])
    order: Indices = np.argpartition(-scores, keep - 1, axis=1)
    columns = order[:, :keep]
    rows = np.repeat(np.arange(len(scores)), keep)
    chosen = scores[rows, columns.ravel()] >= _CANDIDATE
    return rows[chosen], columns.ravel()[chosen]


def register(
    fixed: Floats, moving: Floats, begin: Floats | None = None, steps: int = 12
) -> tuple[Floats, Floats]:
    """Affine registration of pairs of pictures, and how well they then agree.

    Gauss-Newton on e = A - B(W(p)) where A and B are the pictures less their mean, divided by their norm, and
    W(p) = (x + p0 + p2 X + p3 Y, y + p1 + p4 X + p5 Y) with X, Y in [-1, 1] from the centre.

    Args:
        fixed: (P, S, S).
        moving: (P, S, S), to be laid over `fixed`.
        begin: (P, 2) shift in x and y to start from, in pixels; none if missing.
        steps: most steps of the search.

    Returns:
        (P,) best correlation, -1..1, and (P, 6) the motion p in pixels that gave it.
    """
    size = fixed.shape[1]
    margin = size // 8
    grid = _Grid.inside(size, margin)
    inner = slice(margin, size - margin)
    target = _flat(fixed[:, inner, inner])
    target, norm = _normalised(target)
    slope_of = [np.asarray(np.gradient(fixed, axis=axis), np.float32) for axis in (2, 1)]
    gx, gy = (_flat(slope[:, inner, inner]) / norm for slope in slope_of)
    slopes = np.stack([gx, gy, gx * grid.u, gx * grid.v, gy * grid.u, gy * grid.v], 1)
    slopes -= slopes.mean(2, keepdims=True)
    normal = slopes @ slopes.transpose(0, 2, 1)
    ridge = 1e-4 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / 6 + 1e-9
    inverse = np.linalg.inv(normal + ridge * np.eye(6, dtype=np.float32)).astype(np.float32)
    motion = np.zeros((len(fixed), 6), np.float32)
    if begin is not None:
        motion[:, :2] = begin
    best, best_motion = np.full(len(fixed), -1, np.float32), motion.copy()
    for _ in range(steps):
        warped, visible = grid.warp(moving, motion)
        warped, _norm = _normalised(warped)
        score = np.where(visible > 0.75, (target * warped).sum(1), -1)
        better = score > best
        best[better], best_motion[better] = score[better], motion[better]
        step = (inverse @ (slopes @ (target - warped)[:, :, None]))[:, :, 0]
        motion = np.clip(motion + step, -size / 4, size / 4)
    return best, best_motion


@dataclass(frozen=True)
class _Grid:
    """Points of a picture: x, y in pixels and u, v in [-1, 1] from its centre."""

    size: int
    u: Floats
    v: Floats

    @staticmethod
    def inside(size: int, margin: int) -> _Grid:
        half = (size - 1) / 2
        line = ((np.arange(margin, size - margin) - half) / half).astype(np.float32)
        v, u = np.meshgrid(line, line, indexing="ij")
        return _Grid(size, u.ravel(), v.ravel())

    def warp(self, images: Floats, motion: Floats) -> tuple[Floats, Floats]:
        """(P, points) bilinear samples at the moved points, and (P,) the share of points inside."""
        half = (self.size - 1) / 2
        p = motion[:, :, None]
        x = half + self.u * half + p[:, 0] + p[:, 2] * self.u + p[:, 3] * self.v
        y = half + self.v * half + p[:, 1] + p[:, 4] * self.u + p[:, 5] * self.v
        visible = ((x >= 0) & (x <= self.size - 1) & (y >= 0) & (y <= self.size - 1)).mean(
            1, dtype=np.float32
        )
        left = np.clip(np.floor(x), 0, self.size - 2).astype(np.int32)
        top = np.clip(np.floor(y), 0, self.size - 2).astype(np.int32)
        fx, fy = np.clip(x - left, 0, 1), np.clip(y - top, 0, 1)
        flat, corner = _flat(images), top * self.size + left
        a, b, c, d = (np.take_along_axis(flat, corner + step, 1) for step in (0, 1, self.size, self.size + 1))
        return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy, visible


def _detail(fixed: Floats, moving: Floats, motion: Floats) -> Floats:
    """(P,) correlation of structures between 1 and 3 pixels after the motion found at half the size."""
    margin = SIZE // 8
    side = SIZE - 2 * margin
    warped, _visible = _Grid.inside(SIZE, margin).warp(moving, motion * (SIZE / _MIDDLE))
    bands = [
        gaussian_filter(images, (0, 1, 1)) - gaussian_filter(images, (0, 3, 3))
        for images in (fixed[:, margin:-margin, margin:-margin], warped.reshape(-1, side, side))
    ]
    a, b = (_unit(band) for band in bands)
    correlation: Floats = (a * b).sum(1)
    return correlation


def _shrink(images: Floats, size: int) -> Floats:
    factor = images.shape[1] // size
    shrunk: Floats = images.reshape(len(images), size, factor, size, factor).mean((2, 4))
    return shrunk


def _band_pass(images: Floats, sigma: float) -> Floats:
    passed: Floats = images - gaussian_filter(images, (0, sigma, sigma))
    return passed


def _flat(images: Floats) -> Floats:
    return images.reshape(len(images), images.shape[1] * images.shape[2])


def _unit(images: Floats) -> Floats:
    return _normalised(_flat(images))[0]


def _normalised(vectors: Floats) -> tuple[Floats, Floats]:
    """Rows less their mean, with norm one (or zero where a row is constant), and the norms (P, 1)."""
    centred = vectors - vectors.mean(1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.maximum(norm, 1e-3), np.maximum(norm, 1e-3)
