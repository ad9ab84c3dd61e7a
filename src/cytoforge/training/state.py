"""Everything that training must remember, as flat tensors and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cytoforge.core.errors import CheckpointError


def pack(
    networks: Mapping[str, nn.Module], averages: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> dict[str, Tensor]:
    """All tensors under flat names.

    Returns:
        `network/<name>/<parameter>`, `average/<name>/<parameter>`, `optimizer/<name>/<index>/<key>`.
    """
    tensors: dict[str, Tensor] = {}
    for kind, modules in (("network", networks), ("average", averages)):
        for name, module in modules.items():
            for key, tensor in module.state_dict().items():
                tensors[f"{kind}/{name}/{key}"] = tensor
    for name, optimizer in optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            for key, tensor in values.items():
                tensors[f"optimizer/{name}/{index}/{key}"] = tensor
    return tensors


def load_modules(tensors: Mapping[str, Tensor], kind: str, modules: Mapping[str, nn.Module]) -> None:
    """Copy the tensors of `kind` ("network" or "average") into `modules`, in place.

    Raises:
        CheckpointError: names or sizes differ from the modules'.
    """
    for name, module in modules.items():
        prefix = f"{kind}/{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"the checkpoint does not fit the {name} of this run: {error}") from error


def load_optimizers(tensors: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer]) -> None:
    """Restore the state of each optimizer; tensors shaped like their parameter take its memory layout."""
    for name, optimizer in optimizers.items():
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "optimizer" and rest.startswith(f"{name}/"):
                index, field = rest.removeprefix(f"{name}/").split("/")
                state.setdefault(int(index), {})[field] = _like(tensor, parameters[int(index)])
        content: dict[str, Any] = {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        optimizer.load_state_dict(content)


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    if tensor.shape != parameter.shape:
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
