"""Train a method on a folder of labelled cells: a data set goes in, a run folder comes out."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel, create_model

from cytoforge.core.batch import DataShape
from cytoforge.core.device import fastest_precision
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig
from cytoforge.core.randomness import derive
from cytoforge.core.run import Run, require_empty
from cytoforge.core.settings import checked, suggestion
from cytoforge.data.cache import MASK_CHANNELS, CachedCells, open_cache
from cytoforge.data.folder import CellSet, open_cells
from cytoforge.data.split import Split, check_split, require_trainable
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.features import open_extractor
from cytoforge.evaluation.monitor import Monitor
from cytoforge.methods.catalogue import method_type
from cytoforge.stages.split import split as split_folder
from cytoforge.training.loop import Loop, LoopConfig, Measure, Until

MINUTES = 20.0
"""How long a training lasts where neither images nor minutes are given."""

VOLATILE = ("versions", "threads", "format")
"""Parts of config.json in which a resumed run may differ."""


@dataclass(frozen=True)
class Plan:
    """What a training was asked for, checked."""

    method: type[Method]
    preset: str
    settings: MethodConfig
    loop: LoopConfig
    preparation: Preparation


def plan(method: str, preset: str | None, settings: Mapping[str, Any]) -> Plan:
    """Check a method's name, preset and settings, all at once.

    Args:
        method: word such as "wgan-gp".
        preset: one of the method's presets; None takes "cpu" on a machine without GPU, else the defaults.
        settings: field -> value (or text) of the method, the loop or the preparation.

    Raises:
        ConfigError: something is unknown or out of range; names everything that is.
    """
    kind = method_type(method)
    if preset is None:
        preset = "cpu" if "cpu" in kind.presets and not torch.cuda.is_available() else "default"
    if preset != "default" and preset not in kind.presets:
        raise ConfigError(
            f'{method} has no preset "{preset}".{suggestion(preset, kind.presets)} '
            f"Presets: {', '.join(['default', *kind.presets])}."
        )
    parts: tuple[type[BaseModel], ...] = (kind.config_type, LoopConfig, Preparation)
    fields: dict[str, Any] = {
        name: (field.annotation, field) for part in parts for name, field in part.model_fields.items()
    }
    every = create_model(f"{method} settings", __config__=parts[0].model_config, **fields)
    values = {**kind.presets.get(preset, {}), **settings}
    found = checked(every, values, f"settings of {method}").model_dump()
    chosen, loop, preparation = (
        part.model_validate({name: found[name] for name in part.model_fields}) for part in parts
    )
    assert isinstance(chosen, MethodConfig)
    assert isinstance(loop, LoopConfig)
    assert isinstance(preparation, Preparation)
    return Plan(kind, preset, chosen, loop, preparation)


def train(
    method: str,
    data: Path,
    run: Path,
    *,
    resolution: int | None = None,
    images: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    split: Path | None = None,
    layout: str = "auto",
    group: str | None = None,
    extractor: str = "efficientnet-lite0",
    resume: bool = False,
) -> Run:
    """Train until enough images have been seen.

    Args:
        method: word such as "wgan-gp".
        data: folder of labelled cells.
        run: new or empty folder, or an earlier run with `resume`.
        resolution: side of the images, in pixels; 64 where it is not given here or in `settings`.
        images: stop after so many training images.
        minutes: stop after so many minutes; `MINUTES` where neither is given.
        seed: of weights, order, noise and augmentation.
        preset: named settings of the method.
        settings: single settings of method, loop and preparation.
        split: a split.json; one is made where it is missing.
        layout: how `data` is laid out, see data.folder.
        group: regular expression that finds a cell's group in its path.
        extractor: network whose features give the curve; "" measures nothing.
        resume: go on with the run in `run`; starts it where there is none.

    Returns:
        The run.

    Raises:
        ConfigError: settings do not fit, or `run` holds something else.
        DataError: the data cannot be used.
        TrainingError: NaN, divergence or collapse.
        KeyboardInterrupt: stopped by the user, saved.
    """
    wanted = {**(settings or {}), **({"resolution": resolution} if resolution is not None else {})}
    chosen = plan(method, preset, wanted)
    if not resume:
        require_empty(run)
    cells = open_cells(data, layout, group)
    loop = _resolved(chosen.loop, run)
    fabric = _fabric(loop)
    torch.manual_seed(derive(seed, "weights"))
    model = chosen.method(chosen.settings, _shape(chosen, cells))
    folder = _started(chosen, loop, cells, run, seed, split, resume, fabric)
    loop = LoopConfig.model_validate(folder.config["loop"])
    parts = Split.load(folder.split_path)
    cached = open_cache(cells, chosen.preparation)
    measure = _measure(cached, parts, extractor) if fabric.is_global_zero else None
    shown = cached.select(parts.names("train"))
    shown = shown.with_masks() if _uses_masks(chosen) else shown.without_masks()
    trainer = Loop(model, shown, loop, folder, seed, fabric, measure)
    if resume and any(folder.checkpoints.glob("[0-9]*")):
        trainer.resume()
    trainer.train(Until(images, MINUTES if images is None and minutes is None else minutes))
    return folder


def _uses_masks(chosen: Plan) -> bool:
    return chosen.method.uses_masks(chosen.settings)


def _shape(chosen: Plan, cells: CellSet) -> DataShape:
    """What the method will see of the cells, refused where it needs masks and there are none."""
    if _uses_masks(chosen) and not any(cell.mask for cell in cells.cells):
        raise ConfigError(
            f"{chosen.method.name} needs cells with masks, and {cells.root} has none. "
            f"Make some with: cytoforge mask {cells.root} --out DIR, then train on DIR."
        )
    channels = len(MASK_CHANNELS) if _uses_masks(chosen) else 0
    return DataShape(chosen.preparation.resolution, cells.classes, channels)


def _resolved(loop: LoopConfig, run: Path) -> LoopConfig:
    """The number format is measured once, when a run starts, and stays."""
    if loop.precision != "auto":
        return loop
    known = (run / "config.json").is_file()
    precision = Run.open(run).config["loop"]["precision"] if known else fastest_precision()
    return loop.model_copy(update={"precision": precision})


def _fabric(loop: LoopConfig) -> Fabric:
    """One process, or the group that torchrun started."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if loop.batch % (processes * loop.accumulate):
        raise ConfigError(
            f"batch={loop.batch} cannot be dealt out to {processes} processes x accumulate="
            f"{loop.accumulate}; choose a multiple of {processes * loop.accumulate}."
        )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="auto" if torch.cuda.is_available() else "cpu",
        strategy="ddp" if processes > 1 else "auto",
        devices=local,
        num_nodes=max(1, processes // local),
    )
    fabric.launch()
    return fabric


def _started(
    chosen: Plan,
    loop: LoopConfig,
    cells: CellSet,
    path: Path,
    seed: int,
    split: Path | None,
    resume: bool,
    fabric: Fabric,
) -> Run:
    """The run folder with its split, made by the first process only."""
    if fabric.is_global_zero:
        if resume and (path / "config.json").exists():
            run = Run.open(path)
            parts = Split.load(run.split_path)
            _compare(run, _config(chosen, loop, cells, seed, parts))
            check_split(parts, cells)
        else:
            parts = _split(cells, seed, split)
            require_trainable(parts, cells)
            run = Run.create(path, _config(chosen, loop, cells, seed, parts))
            parts.save(run.split_path)
    fabric.barrier()
    return Run.open(path)


def _split(cells: CellSet, seed: int, split: Path | None) -> Split:
    if split is None:
        return split_folder(cells, seed=seed)
    parts = Split.load(split)
    check_split(parts, cells)
    return parts


def _config(chosen: Plan, loop: LoopConfig, cells: CellSet, seed: int, split: Split) -> dict[str, Any]:
    return {
        "method": chosen.method.name,
        "preset": chosen.preset,
        "seed": seed,
        "settings": chosen.settings.model_dump(mode="json"),
        "loop": loop.model_dump(mode="json"),
        "preparation": chosen.preparation.model_dump(mode="json"),
        "classes": list(cells.classes),
        "mask_channels": _shape(chosen, cells).mask_channels,
        "data": {"root": str(cells.root.resolve()), "layout": cells.layout},
        "split_sha256": split.sha256,
        "threads": torch.get_num_threads(),
        "versions": {
            "cytoforge": version("cytoforge"),
            "torch": version("torch"),
            "python": platform.python_version(),
        },
    }


def _compare(run: Run, asked: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other settings than it was started with."""
    before = run.config
    differences = [
        f"\n  - {key}: the run has {before.get(key)}, asked for {asked[key]}"
        for key in asked
        if key not in VOLATILE and before.get(key) != asked[key]
    ]
    if differences:
        raise ConfigError(
            f"{run.path} was started with other settings:{''.join(differences)}\n"
            "Repeat the settings of its config.json, or choose another --run."
        )


def _measure(cached: CachedCells, split: Split, extractor: str) -> Measure | None:
    """The curve's numbers against cells held back for it; None where there are too few."""
    if not extractor or len(split.names("val")) < 2 * len(cached.shape.classes):
        return None
    held = cached.select(split.names("val"))
    return Monitor(held.images, held.labels, open_extractor(extractor))
