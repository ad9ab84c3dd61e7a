"""Train a method on a folder of labelled cells: a data set goes in, a run folder comes out."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel, create_model

from cytoforge.core.batch import DataShape
from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.device import fastest_precision, surroundings
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method, MethodConfig
from cytoforge.core.randomness import derive
from cytoforge.core.run import SPLIT, Run, require_empty
from cytoforge.core.settings import checked, suggestion
from cytoforge.data.cache import MASK_CHANNELS, CachedCells, open_cache
from cytoforge.data.folder import CellSet, open_cells
from cytoforge.data.split import (
    Split,
    check_same_split,
    check_split,
    keep_parts,
    learned_by,
    require_trainable,
    trained_on,
)
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.features import fair_extractor, open_extractor
from cytoforge.evaluation.ledger import write_shown
from cytoforge.evaluation.monitor import Monitor
from cytoforge.methods.catalogue import method_type
from cytoforge.stages.split import split as split_folder
from cytoforge.stages.starting_weights import SIMULATED, shipped_weights
from cytoforge.training.loop import Loop, LoopConfig, Measure, Until
from cytoforge.training.warm_start import (
    frozen_parameters,
    require_learning,
    starting_tensors,
    warm_start,
)

MINUTES = 20.0
"""How long a training lasts where neither images nor minutes are given."""


@dataclass(frozen=True)
class Plan:
    """What a training was asked for, checked."""

    method: type[Method]
    preset: str
    settings: MethodConfig
    loop: LoopConfig
    preparation: Preparation


@dataclass(frozen=True)
class _Base:
    """The run that a refinement starts from: its folder, its preset and all its settings.

    `frozen` are the patterns that a refinement which goes on was started with.
    """

    path: Path
    preset: str
    settings: dict[str, Any]
    frozen: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Asked:
    """Everything that decides what a new run is."""

    chosen: Plan
    loop: LoopConfig
    cells: CellSet
    path: Path
    seed: int
    split: Path | None
    resume: bool
    base: _Base | None
    frozen: tuple[str, ...]


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
        preset = usual_preset(method, torch.cuda.is_available())
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


def usual_preset(method: str, gpu: bool) -> str:
    """The preset of a method where none is asked for."""
    return "cpu" if "cpu" in method_type(method).presets and not gpu else "default"


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
    extractor: str | None = None,
    resume: bool = False,
    start: Path | None = None,
    freeze: Sequence[str] | None = None,
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
        preset: named settings of the method; with `start` that run's, or None.
        settings: single settings of method, loop and preparation.
        split: a split.json; one is made where it is missing.
        layout: how `data` is laid out, see data.folder.
        group: regular expression that finds a cell's group in its path.
        extractor: network whose features give the curve; "" measures nothing. None takes EfficientNet-Lite0,
            or MobileNetV2, if installed, where training uses the features of the first.
        resume: go on with the run in `run`; starts it where there is none.
        start: run of the same method whose weights and settings to start from; its classes may be others.
            "simulated" takes the weights that come with the package, of which nothing is frozen.
        freeze: patterns of `<network>/<parameter>` to leave as `start` has them; None takes the method's own,
            or those of a refinement that goes on.

    Returns:
        The run.

    Raises:
        ConfigError: settings do not fit, or `run` holds something else.
        DataError: the data cannot be used.
        TrainingError: NaN, divergence or collapse.
        KeyboardInterrupt: stopped by the user, saved.
    """
    for name, amount in (("minutes", minutes), ("images", images)):
        if amount is not None and amount <= 0:
            raise ConfigError(f"--{name} must be above 0, got {amount}.")
    wanted = {**(settings or {}), **({"resolution": resolution} if resolution is not None else {})}
    if start == SIMULATED and not start.exists():
        start, freeze = shipped_weights(method), freeze or ()
    base = _base(start, run, method, resume)
    if base is not None:
        wanted, preset = {**base.settings, **wanted}, _kept_preset(preset, base)
    chosen = plan(method, preset, wanted)
    _require_start(chosen, base)
    if not resume:
        require_empty(run)
    cells = open_cells(data, layout, group)
    loop = _resolved(chosen.loop, run)
    fabric = _fabric(loop)
    torch.manual_seed(derive(seed, "weights"))
    model = chosen.method(chosen.settings, shape_of(chosen, cells))
    frozen = _frozen(model, base, freeze)
    folder = _started(_Asked(chosen, loop, cells, run, seed, split, resume, base, frozen), fabric)
    loop = LoopConfig.model_validate(folder.config["loop"])
    parts = Split.load(folder.split_path)
    cached = open_cache(cells, chosen.preparation)
    opponent = chosen.method.opponent(chosen.settings)
    held = _held_back(cached, parts, extractor) if fabric.is_global_zero else None
    measure = None if held is None else _measure(held, extractor, opponent)
    shown = cached.select(parts.names("train"))
    shown = shown.with_masks() if _uses_masks(chosen) else shown.without_masks()
    if fabric.is_global_zero:
        write_shown(folder.path, shown, held)
    going_on = resume and any(folder.checkpoints.glob("[0-9]*"))
    if base is not None and not going_on:
        _load(model, chosen, cells.classes, base)
    frozen_names = frozen_parameters(model.networks, folder.config.get("frozen", ()))
    trainer = Loop(model, shown, loop, folder, seed, fabric, measure, frozen_names)
    if going_on:
        trainer.resume()
    trainer.train(Until(images, MINUTES if images is None and minutes is None else minutes))
    return folder


def _uses_masks(chosen: Plan) -> bool:
    return chosen.method.uses_masks(chosen.settings)


def shape_of(chosen: Plan, cells: CellSet) -> DataShape:
    """What the method will see of the cells.

    Raises:
        ConfigError: it needs masks and a class has none.
    """
    bare = set(cells.classes) - {cell.label for cell in cells.cells if cell.mask}
    if _uses_masks(chosen) and bare:
        raise ConfigError(
            f"{chosen.method.name} needs cells with masks, and {cells.root} has none of class {min(bare)!r}. "
            f"Make some with: cytoforge mask {cells.root} --out DIR, then train on DIR."
        )
    return _shape(chosen, cells.classes)


def _shape(chosen: Plan, classes: tuple[str, ...]) -> DataShape:
    channels = len(MASK_CHANNELS) if _uses_masks(chosen) else 0
    return DataShape(chosen.preparation.resolution, classes, channels)


def new_method(chosen: Plan, classes: tuple[str, ...]) -> Method:
    """The method with new weights of no use, for what can be learned from them; draws no random number.

    Raises:
        ConfigError: its networks cannot have the settings or the resolution.
    """
    with torch.random.fork_rng(devices=[]):
        return chosen.method(chosen.settings, _shape(chosen, classes))


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
    if processes > 1:
        atexit.register(_leave_group)
    return fabric


def _leave_group() -> None:
    """End the group's threads before the interpreter ends, which else aborts now and then with gloo."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _base(start: Path | None, run: Path, method: str, resume: bool) -> _Base | None:
    """The run to start from, also of a refinement that goes on; its own config is enough for that."""
    own = Run.open(run).config if resume and (run / "config.json").is_file() else {}
    if start is None and "base" not in own:
        return None
    place = Path(own["base"]) if start is None else start.resolve()
    config = own or Run.open(place).config
    if config["method"] != method:
        raise ConfigError(
            f"{place} is a run of {config['method']}, not of {method}; a refinement keeps the method."
        )
    loop = {name: value for name, value in config["loop"].items() if name != "precision"}
    settings = {**config["settings"], **loop, **config["preparation"]}
    frozen = tuple(own["frozen"]) if "frozen" in own else None
    return _Base(place, config["preset"], settings, frozen)


def _kept_preset(preset: str | None, base: _Base) -> str:
    """The base's: its settings, which a refinement keeps, would go before those of any other."""
    if preset not in (None, base.preset):
        raise ConfigError(
            f"--preset {preset} with --from: a refinement keeps all settings of {base.path} (preset "
            f"{base.preset}). Leave --preset out and change single settings with --set."
        )
    return base.preset


def _require_start(chosen: Plan, base: _Base | None) -> None:
    reason = chosen.method.needs_start(chosen.settings)
    if reason is not None and base is None:
        raise ConfigError(f"{reason}; give a trained run to start from: --from RUN.")


def _frozen(model: Method, base: _Base | None, freeze: Sequence[str] | None) -> tuple[str, ...]:
    if base is None:
        if freeze:
            raise ConfigError("--freeze makes sense with --from only: there are no weights to keep.")
        return ()
    usual = model.frozen_in_refinement if base.frozen is None else base.frozen
    patterns = tuple(usual if freeze is None else freeze)
    require_learning(model, frozen_parameters(model.networks, patterns))
    return patterns


def _load(model: Method, chosen: Plan, classes: tuple[str, ...], base: _Base) -> None:
    """Start `model` from the base's best weights."""
    run = Run.open(base.path)
    tensors = load_checkpoint(run.checkpoints, "best").tensors
    larger = new_method(chosen, (*classes, "one more"))
    warm_start(
        model.networks, larger.networks, starting_tensors(model, tensors), run.config["classes"], classes
    )


def _started(asked: _Asked, fabric: Fabric) -> Run:
    """The run folder with its split, made by the first process only."""
    path, cells = asked.path, asked.cells
    if fabric.is_global_zero:
        if asked.resume and (path / "config.json").exists():
            run = Run.open(path)
            parts = Split.load(run.split_path)
            kinds = {name: type(part) for name, part in _parts(asked).items()}
            run.require_same(_config(asked, parts), kinds)
            check_split(parts, cells)
            check_same_split(parts, asked.split, path)
        else:
            begun = path / SPLIT if asked.split is None and (path / SPLIT).is_file() else asked.split
            parts = _split(cells, asked.seed, begun, asked.base)
            require_trainable(parts, cells)
            Run.create(path, _config(asked, parts), parts)
    fabric.barrier()
    return Run.open(path)


def _split(cells: CellSet, seed: int, split: Path | None, base: _Base | None) -> Split:
    """The split that was given or a new one; nothing that the base was trained on is held back."""
    parts = split_folder(cells, seed=seed) if split is None else Split.load(split)
    if split is not None:
        check_split(parts, cells)
    if base is None:
        return parts
    before = Split.load(Run.open(base.path).split_path)
    if split is None:
        parts = keep_parts(parts, before)
    elif known := trained_on(parts, before):
        raise ConfigError(
            f"{split} holds back {len(known)} cells that {base.path} was trained on (first: {known[0]}), so "
            "they are not unseen. Leave --split out, or use that run's split."
        )
    return parts.model_copy(update={"learned": tuple(sorted(learned_by(before)))})


def _parts(asked: _Asked) -> dict[str, BaseModel]:
    """The records of config.json."""
    return {"settings": asked.chosen.settings, "loop": asked.loop, "preparation": asked.chosen.preparation}


def _config(asked: _Asked, split: Split) -> dict[str, Any]:
    chosen, cells = asked.chosen, asked.cells
    refined = {} if asked.base is None else {"base": str(asked.base.path), "frozen": list(asked.frozen)}
    return {
        "method": chosen.method.name,
        "preset": chosen.preset,
        "seed": asked.seed,
        **{name: part.model_dump(mode="json") for name, part in _parts(asked).items()},
        "classes": list(cells.classes),
        "mask_channels": shape_of(chosen, cells).mask_channels,
        "data": {"root": str(cells.root.resolve()), "layout": cells.layout},
        "split_sha256": split.sha256,
        **surroundings(),
        **refined,
    }


def _held_back(cached: CachedCells, split: Split, extractor: str | None) -> CachedCells | None:
    """The cells held back for the curve; None where none is wanted or there are too few."""
    if extractor == "" or len(split.names("val")) < 2 * len(cached.shape.classes):
        return None
    return cached.select(split.names("val"))


def _measure(held: CachedCells, extractor: str | None, opponent: str | None) -> Measure:
    """The curve's numbers against cells held back for it."""
    network = fair_extractor(opponent) if extractor is None else open_extractor(extractor)
    return Monitor(held.images, held.labels, network, opponent)
