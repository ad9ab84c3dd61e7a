"""A run reduced to what `train --from` needs: small enough to ship, without the place of its data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from cytoforge.core.checkpoint import load_checkpoint, save_checkpoint
from cytoforge.core.errors import ConfigError
from cytoforge.core.files import write_atomic
from cytoforge.core.run import Run, require_empty
from cytoforge.data.split import Split
from cytoforge.methods.catalogue import method_type
from cytoforge.networks.image_buffer import emptied
from cytoforge.training.loop import LoopConfig

SIMULATED = Path("simulated")
"""What `--from` calls the weights that come with the package, see `shipped_weights`."""

LARGEST = 10_000_000
"""Bytes of weights that may ship with the package."""

_LEFT_OUT = ("data", "split_sha256", "base", "frozen")
"""Of a run's config.json: where its cells and the run before it lie."""

_CARD = """# Starting weights of `{method}`

Made from {source}. {origin}

{megabytes:.1f} MB of {count:,} numbers in half precision: all networks, no optimiser state, no images, no
names of cells. {resolution} px; classes: {classes}. {seen:,} images were seen.

```
cytoforge train {method} DATA --run RUN --from {folder}
```

Other classes may be refined to: those with these names keep their weights, new ones start from the mean of
all. For research; cells drawn from these weights alone look like what they were trained on.
"""


def write_starting_weights(run: Path, out: Path, source: str, origin: str, largest: int = LARGEST) -> Path:
    """Write a run folder that holds weights in half precision and nothing that tells of its cells.

    Images that a discriminator is shown again (`ImageBuffer`) are zeros in it. Batch, saves and measurements
    of a training that starts from it are those of the run's preset, not of the run.

    Args:
        run: a trained run.
        out: new or empty folder.
        source: what the weights were trained on, in words, for config.json and CARD.md.
        origin: a sentence on why the weights may be passed on, for CARD.md.
        largest: bytes that the weights may take.

    Returns:
        The file of weights (safetensors).

    Raises:
        CheckpointError: the run has no intact checkpoint.
        ConfigError: `out` holds something, or the weights are larger than `largest`.
    """
    require_empty(out, advice="Choose another place for the weights.")
    trained = Run.open(run)
    loaded = load_checkpoint(trained.checkpoints, "best")
    tensors = emptied(loaded.tensors)
    kept = {name: _half(tensor) for name, tensor in tensors.items() if _needed(name, tensors)}
    size = require_small(kept.values(), f"the weights of {run}", largest)
    config = {key: value for key, value in trained.config.items() if key not in _LEFT_OUT}
    preset = method_type(config["method"]).presets.get(config["preset"], {})
    loop = LoopConfig(**{name: preset[name] for name in preset if name in LoopConfig.model_fields})
    told = {"loop": loop.model_dump(mode="json"), "data": {"root": source, "layout": "none"}}
    target = Run.create(out, {**config, **told})
    Split(seed=trained.config["seed"], fractions=(1, 0, 0), parts={}, groups={}, hashes={}).save(
        target.split_path
    )
    place = save_checkpoint(target.checkpoints, kept, {"seen": loaded.state["seen"], "score": None})
    card = _CARD.format(
        method=config["method"],
        source=source,
        origin=origin,
        megabytes=size / 1e6,
        count=sum(tensor.numel() for tensor in kept.values()),
        resolution=config["preparation"]["resolution"],
        classes=", ".join(config["classes"]),
        seen=loaded.state["seen"],
        folder=out.name,
    )
    write_atomic(out / "CARD.md", card)
    return place / "tensors.safetensors"


def shipped_weights(method: str) -> Path:
    """The run folder in the package to start a method from: weights of simulated cells alone.

    They were made by `cytoforge experiment warm-start --scale full`, which measures what they save.

    Raises:
        ConfigError: there is none for this method.
    """
    shipped = Path(__file__).parent / "weights"
    if not (place := shipped / method / SIMULATED).is_dir():
        names = ", ".join(sorted(folder.name for folder in shipped.iterdir()))
        raise ConfigError(
            f"no weights of simulated cells come with the package for {method}, only for {names}; give the "
            "folder of a run to --from, or leave it out."
        )
    return place


def require_small(tensors: Iterable[Tensor], whose: str, largest: int = LARGEST) -> int:
    """Bytes that tensors take in half precision.

    Raises:
        ConfigError: they are more than `largest`.
    """
    size = sum(
        tensor.numel() * (2 if tensor.is_floating_point() else tensor.element_size()) for tensor in tensors
    )
    if size > largest:
        raise ConfigError(
            f"{whose} take {size / 1e6:.1f} MB in half precision, more than {largest / 1e6:.1f} MB; "
            "train narrower networks, for example --set most_channels=128."
        )
    return size


def _needed(name: str, tensors: dict[str, Tensor]) -> bool:
    """Whether a refinement starts from this tensor: the average of a network where one is kept."""
    kind, _, rest = name.partition("/")
    return kind == "average" or (kind == "network" and f"average/{rest}" not in tensors)


def _half(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float16) if tensor.is_floating_point() else tensor
