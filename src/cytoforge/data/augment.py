"""Augmentation of image batches, differentiable, the same for an image in whatever batch it comes.

* `flip`: mirrored left-right and top-bottom, each with probability 1/2; exact.
* `rotate`: 0, 90, 180 or 270 degrees; exact.
* `tilt`: by -45 to 45 degrees, bilinear, corners filled by reflection; with `rotate` any angle.
* `color`: brightness -0.5..0.5, saturation 0..2, contrast 0.5..1.5; not clipped, to keep gradients.
* `stain`: amounts of haematoxylin, eosin and residual stain times 0.8..1.2, plus a little.
* `noise`: camera noise, standard deviation 0..0.05 (up to about 6 grey levels).
* `translation`: by up to 1/8 of the side, filled with mid-grey.
* `cutout`: a square of half the side becomes mid-grey.

All but `color` and `noise` keep values within [-1, 1]. The order is fixed, whatever the order of the names:
colours first, then places, then cutout. All but `tilt` may be differentiated twice.

Reference:
    Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training, NeurIPS 2020,
    https://arxiv.org/abs/2006.10738 (`color,translation,cutout`).
    Tellez et al., Whole-Slide Mitosis Detection in H&E Breast Histology, IEEE TMI 2018,
    https://arxiv.org/abs/1808.05896 (`stain`).
    Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001 (colours).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator
from torch import Tensor
from torch.nn import functional

from cytoforge.core.errors import ConfigError
from cytoforge.core.randomness import derive, image_seeds
from cytoforge.core.settings import suggestion

POLICIES = ("flip", "rotate", "tilt", "color", "stain", "noise", "translation", "cutout")

_PLACES = ("flip", "rotate", "tilt", "translation", "cutout")
_RGB_FROM_HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_DARKEST = 1 / 255  # optical density is infinite at 0
_NOISE_POOL = 1 << 20
_COLUMNS = (
    *("flip_x", "flip_y", "turn", "turned", "tilt", "brightness", "saturation", "contrast"),
    *("stain_h", "stain_e", "stain_d", "more_h", "more_e", "more_d", "noise_size", "noise_place"),
    *("shift_x", "shift_y", "cut_x", "cut_y"),
)

Draws = dict[str, Tensor]


def augment(
    images: Tensor,
    policy: str | Sequence[str],
    seeds: NDArray[np.int64] | Tensor,
    stream: str = "augment",
    *,
    strength: float = 1.0,
) -> Tensor:
    """The images, changed at random; gradients flow through to `images`.

    Args:
        images: (N, 3, H, W) in [-1, 1]; square for `rotate`.
        policy: names out of `POLICIES`, as a sequence or separated by commas; empty changes nothing.
        seeds: (N,) image seeds; all randomness of an image derives from its own.
        stream: other names give independent draws for the same seeds.
        strength: 0 (changes nothing) to 1, scales ranges and probabilities.

    Returns:
        (N, 3, H, W) float32, channels last in memory.

    Raises:
        ConfigError: an unknown policy, a strength out of range, or `rotate` on images that are not square.
    """
    names = parse_policy(policy)
    if not 0 <= strength <= 1:
        raise ConfigError(f"augmentation strength {strength} is out of range; choose 0 to 1.")
    if not names or strength == 0:
        return images
    with torch.autocast(images.device.type, enabled=False):
        draws = _draw(seeds, stream, images.device)
        result = images.float().contiguous(memory_format=torch.channels_last)
        if "stain" in names:
            result = _stain(result, draws, strength)
        if "color" in names:
            result = _color(result, draws, strength)
        if "noise" in names:
            result = _noise(result, draws, strength)
        if "tilt" in names:
            result = _tilt(result, draws, strength)
        if {"flip", "rotate", "translation"} & set(names):
            result = _move(result, names, draws, strength)
        if {"translation", "cutout"} & set(names):
            result = result * _visible(result, names, draws, strength)
    return result


def augment_masks(
    masks: Tensor,
    policy: str | Sequence[str],
    seeds: NDArray[np.int64] | Tensor,
    stream: str = "augment",
    *,
    strength: float = 1.0,
) -> Tensor:
    """The masks moved as `augment` moves the images of the same seeds and stream; colours do not touch them.

    Args:
        masks: (N, C, H, W) in {0, 1}.
        policy: as for `augment`.
        seeds: (N,) as for `augment`.
        stream: as for `augment`.
        strength: as for `augment`.

    Returns:
        (N, C, H, W) float32 in {0, 1}.
    """
    names = [name for name in parse_policy(policy) if name in _PLACES]
    return augment(masks, names, seeds, stream, strength=strength).gt(0.5).float()


def square_views(images: Tensor) -> list[Tensor]:
    """Square images (N, C, R, R) under the eight symmetries, in the order of `core.symmetry.SYMMETRIES`."""
    turned = [torch.rot90(images, turns, (2, 3)) for turns in range(4)]
    return turned + [view.flip(3) for view in turned]


def parse_policy(policy: str | Sequence[str]) -> tuple[str, ...]:
    """The names in a policy, checked.

    Raises:
        ConfigError: an unknown name.

    Example:
        >>> parse_policy("color, translation,cutout")
        ('color', 'translation', 'cutout')
    """
    parts = policy.split(",") if isinstance(policy, str) else policy
    names = tuple(part.strip() for part in parts if part.strip())
    for name in names:
        if name not in POLICIES:
            raise ConfigError(
                f"augmentation {name!r} is unknown.{suggestion(name, POLICIES)} "
                f"Choose out of {', '.join(POLICIES)}."
            )
    return names


def _checked_policy(policy: str) -> str:
    try:
        parse_policy(policy)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return policy


Policy = Annotated[str, AfterValidator(_checked_policy)]
"""A policy as a setting: names separated by commas, empty for no augmentation."""


def rgb_to_hed(images: Tensor) -> Tensor:
    """Amounts of haematoxylin, eosin and residual stain (N, 3, H, W) of images in [-1, 1]; not cut at 0.

    In the unit of `skimage.color.rgb2hed`: multiples of a density of ln(10^6).
    """
    density = images.add(1).mul(0.5).clamp(_DARKEST, 1).log() / -np.log(1e6)
    return torch.einsum("nchw,cs->nshw", density, torch.linalg.inv(_stain_vectors(images.device)))


def _draw(seeds: NDArray[np.int64] | Tensor, stream: str, device: torch.device) -> Draws:
    """Uniform numbers in [0, 1) for each image, (N,) under each name; drawn all at once."""
    base = image_seeds(derive(stream), np.asarray(seeds, np.int64))
    places = base[:, None] + np.arange(len(_COLUMNS), dtype=np.int64)
    bits = image_seeds(derive("augment columns"), places) >> 39
    numbers = torch.from_numpy(bits.astype(np.float32) / np.float32(1 << 24)).to(device)
    return dict(zip(_COLUMNS, numbers.unbind(1), strict=True))


def _color(images: Tensor, draws: Draws, strength: float) -> Tensor:
    """Saturation s, contrast c, brightness b: x' = c (s x + (1 - s) grey(x)) + (1 - c) m + b, m the mean."""
    brightness = strength * (draws["brightness"] - 0.5)
    saturation = 1 + strength * (2 * draws["saturation"] - 1)
    contrast = 1 + strength * (draws["contrast"] - 0.5)
    grey = torch.full((3, 3), 1 / 3, device=images.device)
    scale, rest = (contrast * saturation)[:, None, None], (contrast * (1 - saturation))[:, None, None]
    offset = brightness + (1 - contrast) * images.mean((1, 2, 3))
    mixed = _mix(images, scale * torch.eye(3, device=images.device) + rest * grey)
    return mixed + offset[:, None, None, None]


def _stain(images: Tensor, draws: Draws, strength: float) -> Tensor:
    """Each stain's amount times a, plus b: one 3x3 matrix for each image, on the logarithm of light."""
    factors = torch.stack([draws[f"stain_{stain}"] for stain in "hed"], dim=1)
    extras = torch.stack([draws[f"more_{stain}"] for stain in "hed"], dim=1)
    factors = 1 + strength * 0.2 * (2 * factors - 1)
    extras = strength * 0.01 * (2 * extras - 1) * np.log(1e6)
    vectors = _stain_vectors(images.device)
    matrices = torch.linalg.inv(vectors) @ (factors[:, :, None] * vectors)
    # light = (x + 1) / 2, so log(x + 1) = log(light) + log(2); the matrix must only see log(light)
    white = np.log(2)
    offset = white - white * matrices.sum(1) - extras @ vectors
    logarithm = torch.log(images.add(1).clamp(min=2 * _DARKEST))
    return torch.expm1((_mix(logarithm, matrices) + offset[:, :, None, None]).clamp(max=white))


@lru_cache(maxsize=4)
def _stain_vectors(device: torch.device) -> Tensor:
    """(3, 3) colour of each stain in optical density, one row a stain."""
    return torch.tensor(_RGB_FROM_HED, device=device)


def _mix(images: Tensor, matrices: Tensor) -> Tensor:
    """Colours times one matrix (N, 3, 3) for each image; four pixels at a time, which is thrice as fast."""
    count, channels, height, width = images.shape
    block = 4 if height * width % 4 == 0 else 1
    tiled = torch.einsum("ab,nij->naibj", torch.eye(block, device=images.device), matrices)
    pixels = images.permute(0, 2, 3, 1).reshape(count, -1, block * channels)
    mixed = torch.bmm(pixels, tiled.reshape(count, block * channels, block * channels))
    return mixed.reshape(count, height, width, channels).permute(0, 3, 1, 2)


def _noise(images: Tensor, draws: Draws, strength: float) -> Tensor:
    """Plus normal numbers: for each image a stretch of one fixed pool, which costs a tenth of new ones."""
    count, channels, height, width = images.shape
    size = channels * height * width
    pool = _noise_pool(max(_NOISE_POOL, 2 * size))
    starts = (draws["noise_place"].cpu().double() * (len(pool) - size)).long().tolist()
    noise = torch.stack([pool[start : start + size] for start in starts]).to(images.device)
    noise = noise.reshape(count, height, width, channels).permute(0, 3, 1, 2)
    return torch.addcmul(images, noise, (0.05 * strength * draws["noise_size"])[:, None, None, None])


@lru_cache(maxsize=2)
def _noise_pool(size: int) -> Tensor:
    rng = np.random.default_rng(derive("augment noise pool"))
    return torch.from_numpy(rng.standard_normal(size, np.float32))


def _tilt(images: Tensor, draws: Draws, strength: float) -> Tensor:
    """Turned about the middle, bilinear, reflected at the border."""
    angle = strength * (draws["tilt"] - 0.5) * (np.pi / 2)
    ratio = images.shape[2] / images.shape[3]
    zero, cosine, sine = torch.zeros_like(angle), angle.cos(), angle.sin()
    top = torch.stack([cosine, -sine * ratio, zero], dim=1)
    bottom = torch.stack([sine / ratio, cosine, zero], dim=1)
    grid = functional.affine_grid(torch.stack([top, bottom], dim=1), list(images.shape), align_corners=False)
    tilted = functional.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
    return tilted.contiguous(memory_format=torch.channels_last)


def _move(images: Tensor, names: Sequence[str], draws: Draws, strength: float) -> Tensor:
    """Flips, quarter turns and translation (around the edge) in one exchange of pixels."""
    count, channels, height, width = images.shape
    turned, flip_y, flip_x = _symmetry(images, names, draws, strength)
    rows = _shifted(height, draws["shift_y"], strength * ("translation" in names)) % height
    columns = _shifted(width, draws["shift_x"], strength * ("translation" in names)) % width
    rows = torch.where(flip_y, height - 1 - rows, rows)
    columns = torch.where(flip_x, width - 1 - columns, columns)
    index = _pixel_index(rows, columns, turned)
    down, right = rows.argsort(1), columns.argsort(1)  # where each row and column goes
    if height == width:
        down, right = torch.where(turned, right, down), torch.where(turned, down, right)
    pixels = images.permute(0, 2, 3, 1).reshape(count * height * width, channels)
    moved: Tensor = _Exchange.apply(pixels, index, _pixel_index(down, right, turned))  # type: ignore[no-untyped-call]
    return moved.reshape(count, height, width, channels).permute(0, 3, 1, 2)


def _symmetry(
    images: Tensor, names: Sequence[str], draws: Draws, strength: float
) -> tuple[Tensor, Tensor, Tensor]:
    """For each image (N, 1): transposed, then top and bottom exchanged, then left and right exchanged."""
    never = torch.zeros(len(images), 1, dtype=torch.bool, device=images.device)
    turned, flip_y, flip_x = never, never, never
    if "flip" in names:
        flip_y, flip_x = (draws[name][:, None] < 0.5 * strength for name in ("flip_y", "flip_x"))
    if "rotate" in names:
        if images.shape[2] != images.shape[3]:
            size = f"{images.shape[2]}x{images.shape[3]}"
            raise ConfigError(f"rotate needs square images, these have {size} px; use tilt or flip.")
        quarters = torch.where(draws["turned"] < strength, (4 * draws["turn"]).long(), 0)[:, None]
        turned = quarters % 2 == 1  # a quarter turn is a transposition and a flip
        flip_y, flip_x = flip_y ^ ((quarters == 1) | (quarters == 2)), flip_x ^ (quarters >= 2)
    return turned, flip_y, flip_x


def _shifted(side: int, draw: Tensor, strength: float) -> Tensor:
    """(N, side) source of each row after a shift by up to an eighth; outside 0..side-1 there is none."""
    most = int(side * 0.125 * strength + 0.5)
    return torch.arange(side, device=draw.device) + most - ((2 * most + 1) * draw).long()[:, None]


def _pixel_index(rows: Tensor, columns: Tensor, turned: Tensor) -> Tensor:
    """Flat source (N * H * W,) of each pixel, from the source of its row (N, H) and column (N, W)."""
    count, height, width = len(rows), rows.shape[1], columns.shape[1]
    start = torch.arange(count, device=rows.device)[:, None] * (height * width)
    along_rows = start + torch.where(turned, rows, rows * width)
    along_columns = torch.where(turned, columns * width, columns)
    return (along_rows[:, :, None] + along_columns[:, None, :]).reshape(-1)


class _Exchange(torch.autograd.Function):
    """Row `index[i]` of the pixels at place i; the gradient is the inverse exchange, not a slow sum."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(index, inverse)
        return pixels.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        return _Exchange.apply(gradients[0], inverse, index), None, None  # type: ignore[no-untyped-call]


def _visible(images: Tensor, names: Sequence[str], draws: Draws, strength: float) -> Tensor:
    """(N, 3, H, W) float32: 0 where translation left nothing or cutout hides, 1 elsewhere."""
    count, channels, height, width = images.shape
    # whole rows of values in memory: a mask of one value a pixel multiplies five times slower
    mask = torch.ones(count, height, width * channels, device=images.device)
    if "translation" in names:
        rows, columns = (
            _shifted(side, draws[name], strength) for name, side in (("shift_y", height), ("shift_x", width))
        )
        mask = _outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width), channels)
    if "cutout" in names:
        holes = (_hole(height, draws["cut_y"], strength), _hole(width, draws["cut_x"], strength))
        mask = mask * (1 - _outer(*holes, channels))
    return mask.reshape(count, height, width, channels).permute(0, 3, 1, 2)


def _hole(side: int, draw: Tensor, strength: float) -> Tensor:
    """(N, side), True in a stretch of half the side around a random place."""
    size = int(side * 0.5 * strength + 0.5)
    start = ((side + 1 - size % 2) * draw).long()[:, None] - size // 2
    places = torch.arange(side, device=draw.device)
    return (places >= start) & (places < start + size)


def _outer(rows: Tensor, columns: Tensor, channels: int) -> Tensor:
    """(N, H, W * C) float32: 1 where both the row (N, H) and the column (N, W) are True."""
    return rows.float()[:, :, None] * columns.float().repeat_interleave(channels, 1)[:, None, :]
