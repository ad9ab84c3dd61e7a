"""A synthetic set and the real cells it imitates, read so that they can be compared."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.core.symmetry import symmetries
from cytoforge.data.cache import CachedCells, cache_directory, open_cache
from cytoforge.data.cells import Part
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, check_split
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.comparison import FeatureSet
from cytoforge.evaluation.copies import Look
from cytoforge.evaluation.distances import Floats
from cytoforge.evaluation.features import Extractor, another_extractor, extract, extract_views
from cytoforge.evaluation.memorisation import coarse_pattern
from cytoforge.methods.catalogue import METHODS
from cytoforge.sampling.provenance import Header, Manifest, read_manifest

_PIECE = 16
"""Images whose coarse pattern is computed at a time."""


@dataclass(frozen=True)
class Images:
    """Images with their classes, names and groups, and what the extractor sees in them."""

    pixels: NDArray[np.uint8]
    names: tuple[str, ...]
    features: FeatureSet

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class OpenedSet:
    """A synthetic set with the real cells that its generator was trained on.

    Attributes:
        manifest: of the set.
        run: that made it, None where it is not there any more.
        split: of its training.
        cells: all real cells, prepared as in training.
        pixels: (N, R, R, 3) images of the set.
    """

    manifest: Manifest
    run: Run | None
    split: Split
    cells: CachedCells
    pixels: NDArray[np.uint8]


def open_with_real(synthetic: Path, real: Path, split: Path | None, layout: str | None) -> OpenedSet:
    """Read a set and the real cells that it imitates, and check that they belong together.

    Args:
        synthetic: folder of the set.
        real: folder of the real cells that the generator was trained on.
        split: the split.json of the training; None takes that of the run that the set names.
        layout: of `real`; None takes that of the training.

    Raises:
        ConfigError: there is no split, or it is not that of the training.
        DataError: the set or the real cells cannot be used.
    """
    manifest = read_manifest(synthetic)
    run = run_of(synthetic, manifest.header)
    division = find_split(split, run, manifest.header)
    cells = real_cells(real, division, manifest.header, run, layout)
    return OpenedSet(manifest, run, division, cells, read_set(synthetic, manifest, cells))


def run_of(synthetic: Path, header: Header) -> Run | None:
    """The run that made a set, None where it is not there any more; another may lie in its place."""
    path = (synthetic / header.run).resolve()
    run = Run.open(path) if (path / "config.json").is_file() else None
    return run if run is not None and run.config_hash == header.config_sha256 else None


def opponent_of(method: str, run: Run | None) -> str | None:
    """The extractor that a generator was trained against, see `Method.opponent`.

    Args:
        method: name of its method.
        run: of its training; None takes the method's usual settings.
    """
    kind = METHODS.get(method)
    if kind is None:
        return None
    config = kind.config_type()
    if run is not None:
        with suppress(ValidationError):  # settings of another version
            config = kind.config_type.model_validate(run.config["settings"])
    return kind.opponent(config)


def flattery(network: Extractor, *opponents: str | None, chooser: str | None = None) -> list[str]:
    """A warning where a generator was trained against the network that measures it.

    Args:
        network: that measures.
        opponents: of `opponent_of`, one for each generator.
        chooser: network by which the images were chosen, which is not advised either.
    """
    if network.network not in opponents:
        return []
    another = another_extractor(network.network, *opponents, chooser)
    return [
        f"The generator was trained against {network.network}, the network that measures here: distances and "
        f"shares flatter it. Judge by another one: --extractor {another}."
    ]


def find_split(given: Path | None, run: Run | None, header: Header) -> Split:
    """The split of the training; another would put training cells into the holdout.

    Raises:
        ConfigError: it is not known, or the one that was given is another.
    """
    if given is None and (run is None or not run.split_path.is_file()):
        raise ConfigError(
            f"the run of this set is not at {header.run!r} any more, so its split is unknown; "
            "give the split.json that the generator was trained with: --split RUN/split.json."
        )
    path = given if given is not None or run is None else run.split_path
    assert path is not None
    split = Split.load(path)
    if header.split_sha256 is not None and split.sha256 != header.split_sha256:
        raise ConfigError(
            f"{path} is not the split that this generator was trained with ({split.sha256[:12]}, expected "
            f"{header.split_sha256[:12]}): cells it was trained on would count as unseen. Give the "
            "split.json of its run."
        )
    return split


def real_cells(
    root: Path,
    split: Split,
    header: Header,
    run: Run | None,
    layout: str | None,
) -> CachedCells:
    """The real cells, prepared as in training; arguments as for `open_with_real`.

    Raises:
        DataError: they are not those of the training.
    """
    trained: dict[str, Any] = {} if run is None else run.config.get("data", {})
    cells = open_cells(root, layout or trained.get("layout") or "auto")
    if tuple(cells.classes) != header.classes:
        raise DataError(
            f"{root} has the classes {', '.join(cells.classes)}, but the set was made for "
            f"{', '.join(header.classes)}; give the folder that the generator was trained on."
        )
    check_split(split, cells)
    try:
        preparation = Preparation.model_validate(header.preparation)
    except ValidationError as error:
        raise DataError(f"the manifest's preparation cannot be understood: {error}.") from error
    return open_cache(cells, preparation)


def read_set(synthetic: Path, manifest: Manifest, cached: CachedCells) -> NDArray[np.uint8]:
    """All images of the set, each checked against its hash: (N, R, R, 3).

    Raises:
        DataError: there is none, or one is not as the manifest says or of another size than real cells.
    """
    if not manifest.images:
        raise DataError(f"{synthetic} holds no images; generate some first.")
    side = cached.shape.resolution
    pixels = np.empty((len(manifest.images), side, side, 3), np.uint8)
    for index, entry in enumerate(manifest.images):
        path = synthetic / entry.file
        image, _ = decode_png(_content(synthetic, entry.file, entry.sha256))
        if image.shape != (side, side, 3):
            raise DataError(
                f"{path} has {image.shape[1]} x {image.shape[0]} px but real cells were prepared with {side} "
                "px; numbers of different resolutions cannot be compared. Generate the set again."
            )
        pixels[index] = image
    return pixels


def read_masks(synthetic: Path, manifest: Manifest, side: int) -> NDArray[np.uint8] | None:
    """The masks (N, R, R) that the images were drawn from, each checked; None where an image has none.

    Args:
        synthetic: folder of the set.
        manifest: of the set.
        side: R, of the images in pixels.

    Raises:
        DataError: a mask is not as the manifest says, or of another size than its image.
    """
    masks = []
    for entry in manifest.images:
        if entry.mask is None:
            return None
        mask, _ = decode_png(_content(synthetic, entry.mask, entry.mask_sha256), "L")
        if mask.shape != (side, side):
            raise DataError(
                f"{synthetic / entry.mask} is not of the size of its image, {side} px; generate the set "
                "again."
            )
        masks.append(mask)
    return np.stack(masks)


def _content(synthetic: Path, name: str, sha256: str | None) -> bytes:
    path = synthetic / name
    content = path.read_bytes() if path.is_file() else b""
    if sha256 is None or sha256_bytes(content) != sha256:
        raise DataError(
            f"{path} is missing or not as its manifest says; run `cytoforge verify {synthetic}`, then "
            "generate the set again."
        )
    return content


def synthetic_images(
    pixels: NDArray[np.uint8], manifest: Manifest, cached: CachedCells, network: Extractor
) -> Images:
    """The images of a set with what `network` sees in them; each is a group of its own."""
    names = tuple(entry.file for entry in manifest.images)
    values = extract(pixels, network, cache_directory())
    features = FeatureSet(values, manifest.labels, names, network.name, cached.shape.resolution)
    return Images(pixels, names, features)


def part_images(cached: CachedCells, split: Split, part: Part, network: Extractor) -> Images:
    """The real cells of one part; empty where the split has none."""
    wanted = set(split.names(part))
    kept = np.array([index for index, name in enumerate(cached.names) if name in wanted], np.int64)
    pixels = cached.read(kept)
    names = tuple(cached.names[index] for index in kept)
    features = FeatureSet(
        extract(pixels, network, cache_directory()),
        cached.labels[kept],
        tuple(split.groups[name] for name in names),
        network.name,
        cached.shape.resolution,
    )
    return Images(pixels, names, features)


def joined(sets: list[FeatureSet]) -> FeatureSet:
    """Several sets as one."""
    return FeatureSet(
        np.concatenate([each.values for each in sets]),
        np.concatenate([each.labels for each in sets]),
        tuple(group for each in sets for group in each.groups),
        sets[0].extractor,
        sets[0].resolution,
    )


def looks_at(train: Images, holdout: Images, fake: Images, network: Extractor) -> tuple[Look, Look]:
    """All images in the extractor's features and as coarse pictures, upright and in all symmetries.

    What it sees in real cells is cached; eight views of every synthetic image are hardly asked for again.
    """
    coarse = Look(
        _in_pieces(coarse_pattern, train.pixels),
        _in_pieces(_coarse_views, holdout.pixels),
        _in_pieces(_coarse_views, fake.pixels),
    )
    cache = cache_directory()
    features = Look(
        extract(train.pixels, network, cache),
        extract_views(holdout.pixels, network, cache),
        extract_views(fake.pixels, network),
    )
    return features, coarse


def _coarse_views(pixels: NDArray[np.uint8]) -> Floats:
    return coarse_pattern(symmetries(pixels))


def _in_pieces(describe: Callable[[NDArray[np.uint8]], Floats], pixels: NDArray[np.uint8]) -> Floats:
    """`describe` of images (N, S, S, 3), few at a time: it needs up to 76 times the memory of its images."""
    starts = range(0, max(1, len(pixels)), _PIECE)
    return np.concatenate([describe(pixels[start : start + _PIECE]) for start in starts])
