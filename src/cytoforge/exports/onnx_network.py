"""A torch network as one ONNX file that computes the same, or no file at all."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoforge.core.errors import CheckpointError, ConfigError
from cytoforge.core.files import write_atomic
from cytoforge.core.onnx_session import open_session, session_of

OPSET = 18
"""Version of ONNX's operators; onnxruntime 1.14 of 2023 and later know it."""

_MOST_BYTES = 2**31 - 1
_MOST_BATCH = 512


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime is from torch.

    Attributes:
        largest: output -> largest absolute difference over all images tried.
        tolerance: what was allowed.
        batches: sizes of the batches tried.
    """

    largest: dict[str, float]
    tolerance: float
    batches: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A network and how it is called.

    Attributes:
        network: in evaluation mode, float32, on the CPU.
        inputs: names, the first dimension of each being the batch.
        outputs: names.
        example: number of images -> inputs, for tracing and for the parity gate.
        marks: what the file says about itself.
        tolerance: largest difference allowed in any output.
    """

    network: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: Callable[[int], tuple[Tensor, ...]]
    marks: Mapping[str, str]
    tolerance: float = 1e-4


def write_onnx(graph: Graph, path: Path, batches: Sequence[int] = (1, 3, 8)) -> Parity:
    """Write a network to `path`, after ONNX Runtime gave what torch gives.

    Args:
        graph: what to write.
        path: of the file; weights are inside it.
        batches: sizes of the batches that must agree.

    Raises:
        ConfigError: onnx, onnxscript or onnxruntime is missing, or torch cannot translate the network.
        CheckpointError: the two do not compute the same; nothing is written.
    """
    onnx = _library()
    model = _translated(graph)
    onnx.helper.set_model_props(model, {**graph.marks, "opset": str(OPSET)})
    content = _serialised(onnx, model)
    parity = _parity(graph, session_of(content, str(path)), batches)
    write_atomic(path, content)
    return parity


def run_onnx(path: Path, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs of an ONNX file.

    Args:
        path: of the file.
        inputs: name -> (N, ...).
    """
    return [np.asarray(output) for output in open_session(path).run(None, dict(inputs))]


def external_tensors(onnx: ModuleType, model: Any) -> list[str]:
    """Names of tensors whose values are kept in other files; empty where the file is whole."""
    stored = (tensor for tensor in model.graph.initializer)
    return [tensor.name for tensor in stored if onnx.external_data_helper.uses_external_data(tensor)]


def _library() -> ModuleType:
    try:
        import onnx
        import onnx.external_data_helper
        import onnxruntime  # noqa: F401 - checks what was written
        import onnxscript  # noqa: F401 - torch's translator
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs onnx, onnxscript and onnxruntime ({error}): pip install 'cytoforge[export]'."
        ) from error
    library: ModuleType = onnx
    return library


def _translated(graph: Graph) -> Any:
    """The ONNX model of a network, its batch free, without the traces of source files that torch leaves."""
    example = graph.example(4)
    batch = torch.export.Dim("batch", min=1, max=_MOST_BATCH)
    free = tuple({0: batch} for _ in example)
    try:
        with torch.no_grad(), _quiet():
            # captured here: torch.onnx.export would fall back to a fixed batch without a word
            captured = torch.export.export(graph.network.eval(), example, dynamic_shapes=free, strict=False)
            program = torch.onnx.export(
                captured,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                verbose=False,
            )
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"torch cannot translate this network to ONNX: {first}") from error
    assert program is not None
    return _cleaned(program.model_proto)


def _cleaned(model: Any) -> Any:
    """The model without names of source files and symbols; its free dimension is called batch."""
    del model.metadata_props[:]
    for part in (model.graph, *model.functions):
        del part.value_info[:], part.metadata_props[:]
        part.ClearField("doc_string")
        for node in part.node:
            del node.metadata_props[:]
            node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _serialised(onnx: ModuleType, model: Any) -> bytes:
    if external := external_tensors(onnx, model):
        raise CheckpointError(
            f"the ONNX model would keep {external[0]} outside its file; nothing was written."
        )
    if model.ByteSize() > _MOST_BYTES:
        raise ConfigError("the network is larger than 2 GiB, which one ONNX file cannot hold.")
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _parity(graph: Graph, session: Any, batches: Sequence[int]) -> Parity:
    largest = dict.fromkeys(graph.outputs, 0.0)
    for count in batches:
        example = graph.example(count)
        with torch.no_grad():
            wanted = graph.network(*example)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        given = {name: value.numpy() for name, value in zip(graph.inputs, example, strict=True)}
        for name, ours, theirs in zip(graph.outputs, wanted, session.run(None, given), strict=True):
            if not np.isfinite(theirs).all() or theirs.shape != tuple(ours.shape):
                raise CheckpointError(f"ONNX Runtime gives another {name} than torch; nothing was written.")
            difference = np.abs(theirs.astype(np.float64) - ours.double().numpy()).max()
            largest[name] = max(largest[name], float(difference))
    if max(largest.values()) > graph.tolerance:
        raise CheckpointError(
            f"ONNX Runtime and torch differ by {max(largest.values()):.2g}, more than {graph.tolerance:.2g}; "
            "nothing was written."
        )
    return Parity(largest, graph.tolerance, tuple(batches))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch's translator talks on standard output and warns of its own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
