"""A model starts from the weights of another that knew other classes; parts of it may stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from cytoforge.core.errors import CheckpointError, ConfigError
from cytoforge.core.method import Method
from cytoforge.networks.mask_gan import PerClass
from cytoforge.networks.unet import Control, UNet


def starting_tensors(method: Method, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a checkpoint to start from, `<network>/<parameter>`: the average where one is kept.

    Args:
        method: any method of the same kind as the checkpoint's.
        tensors: of the checkpoint, see `training.state.pack`.
    """
    found = {}
    for name in method.networks:
        prefix = f"{'average' if name in method.averaged else 'network'}/{name}/"
        for key, tensor in tensors.items():
            if key.startswith(prefix):
                found[f"{name}/{key.removeprefix(prefix)}"] = tensor
    return found


@torch.no_grad()
def warm_start(
    networks: Mapping[str, nn.Module],
    larger: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    before: Sequence[str],
    now: Sequence[str],
) -> None:
    """Copy weights into networks, in place, class by class where they belong to classes.

    Which axis of a parameter counts classes is seen by comparison with the same networks for one class more.
    The classes' part stands last on that axis (one-hot labels are appended to what they condition). Where
    each class has a network of its own (`PerClass`), these are matched. Known classes keep their weights. New
    ones start around the mean of the known ones and as far apart as those, networks of their own as copies of
    known ones in turn. A network that the weights do not know at all stays as it is, but a control branch
    that is added to a trained U-Net starts as a copy of it.

    Args:
        networks: for the classes `now`, untrained.
        larger: the same for one class more.
        tensors: `<network>/<parameter>` -> weights for the classes `before`.
        before: names of the classes that the weights know.
        now: names of the classes that the networks shall know.

    Raises:
        CheckpointError: weights are missing, left over, or have other sizes than classes explain.
    """
    known = {key.partition("/")[0] for key in tensors}
    added = [module for name, module in networks.items() if name not in known]
    networks = {name: module for name, module in networks.items() if name in known}
    own = {f"{name}/{key}": value for name, module in networks.items() for key, value in _state(module)}
    more = {f"{name}/{key}": value for name, module in larger.items() for key, value in _state(module)}
    for prefix in _per_class(networks):
        tensors = _renumbered(tensors, prefix, before, now)
    if own.keys() != tensors.keys():
        odd = sorted(own.keys() ^ tensors.keys())[0]
        raise CheckpointError(f"the run to start from has other parts than this model (first: {odd}).")
    for key, target in own.items():
        source = tensors[key].to(target)
        axis = _class_axis(target, more[key])
        if axis is None:
            _check(key, source, target)
            target.copy_(source)
        else:
            size = more[key].shape[axis] - target.shape[axis]
            _copy_classes(key, source.movedim(axis, 0), target.movedim(axis, 0), size, before, now)
    for branch in (module for module in added if isinstance(module, Control)):
        for unet in (module for module in networks.values() if isinstance(module, UNet)):
            branch.start_from(unet)


def frozen_parameters(networks: Mapping[str, nn.Module], patterns: Iterable[str]) -> frozenset[str]:
    """Names `<network>/<parameter>` that match any of some patterns with `*` and `?`.

    Args:
        networks: of the model.
        patterns: such as "critic/body.0.*".

    Raises:
        ConfigError: a pattern matches nothing.

    Example:
        >>> sorted(frozen_parameters({"critic": nn.Linear(2, 1)}, ["critic/b*"]))
        ['critic/bias']
    """
    names = [f"{name}/{key}" for name, module in networks.items() for key, _ in module.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if fnmatchcase(name, pattern)}
        if not matching:
            raise ConfigError(
                f"--freeze {pattern}: no parameter has such a name. Some of them: {', '.join(names[:6])}."
            )
        found |= matching
    return frozenset(found)


def require_learning(method: Method, frozen: Collection[str]) -> None:
    """Make sure that each network that has a turn keeps something to learn.

    Args:
        method: that is going to be trained.
        frozen: `<network>/<parameter>` that stay as they are.

    Raises:
        ConfigError: a network that has a turn would be frozen as a whole.
    """
    for turn in method.turns():
        names = {f"{turn.network}/{key}" for key, _ in method.networks[turn.network].named_parameters()}
        if names and names <= set(frozen):
            raise ConfigError(
                f"--freeze leaves nothing to learn in {turn.network}, which every training moves; freeze a "
                "part of it, such as its first layers."
            )


def _state(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return module.state_dict().items()


def _per_class(networks: Mapping[str, nn.Module]) -> list[str]:
    """Beginnings of names of parameters, up to the number of the class, where each class has a network."""
    return [
        f"{name}/{place}.networks.".replace("/.", "/")
        for name, module in networks.items()
        for place, part in module.named_modules()
        if isinstance(part, PerClass)
    ]


def _renumbered(
    tensors: Mapping[str, Tensor], prefix: str, before: Sequence[str], now: Sequence[str]
) -> dict[str, Tensor]:
    """Weights `<prefix><number of a class><rest>` under the numbers of the new classes; others unchanged."""
    found = {key: tensor for key, tensor in tensors.items() if not key.startswith(prefix)}
    for rest in {key.removeprefix(f"{prefix}0") for key in tensors if key.startswith(f"{prefix}0.")}:
        known = [tensors[f"{prefix}{number}{rest}"] for number in range(len(before))]
        for number, name in enumerate(now):
            index = before.index(name) if name in before else number % len(known)
            found[f"{prefix}{number}{rest}"] = known[index]
    return found


def _class_axis(target: Tensor, larger: Tensor) -> int | None:
    """The axis whose length depends on the number of classes."""
    for axis, (own, more) in enumerate(zip(target.shape, larger.shape, strict=True)):
        if own != more:
            return axis
    return None


def _check(key: str, source: Tensor, target: Tensor) -> None:
    if source.shape != target.shape:
        raise CheckpointError(
            f"{key} has size {tuple(source.shape)} in the run to start from, but {tuple(target.shape)} here; "
            "keep that run's settings and resolution."
        )


def _copy_classes(
    key: str, source: Tensor, target: Tensor, size: int, before: Sequence[str], now: Sequence[str]
) -> None:
    """Rows of the first axis: what is common to all classes, then `size` rows of each class."""
    common = len(target) - size * len(now)
    if common < 0 or len(source) != common + size * len(before) or source.shape[1:] != target.shape[1:]:
        _check(key, source, target)
        raise CheckpointError(f"{key} does not show which of its {len(source)} rows belong to which class.")
    target[:common].copy_(source[:common])
    known = torch.stack(torch.split(source[common:], size))
    rows = torch.split(target[common:], size)
    new = [number for number, name in enumerate(now) if name not in before]
    if new:
        for number, start in zip(
            new, _around(known, torch.stack([rows[number] for number in new])), strict=True
        ):
            rows[number].copy_(start)
    for number, name in enumerate(now):
        if name in before:
            rows[number].copy_(known[before.index(name)])


def _around(known: Tensor, fresh: Tensor) -> Tensor:
    """Rows of new classes around the mean of the known ones, as far apart as those are.

    Their directions are those of their untrained weights. All at the mean, new classes look alike, and after
    8,000 images still did.

    Args:
        known: (classes, rows, ...).
        fresh: (new classes, rows, ...) untrained.
    """
    apart = fresh - fresh.mean(0)
    if len(known) > 1 and apart.any():
        apart = apart * _spread(known) / _spread(fresh)
    return known.mean(0) + apart


def _spread(rows: Tensor) -> Tensor:
    """Root mean square of the deviation from the mean of all, without bias."""
    return rows.var(0).mean().sqrt()
