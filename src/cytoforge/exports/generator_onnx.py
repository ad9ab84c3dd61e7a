"""A trained generator as an ONNX file: noise and classes in, synthetic cells out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cytoforge.core.batch import to_uint8
from cytoforge.core.errors import ConfigError
from cytoforge.core.files import sha256_file, write_atomic, write_json
from cytoforge.core.method import Method
from cytoforge.core.png import encode_png
from cytoforge.core.run import Run
from cytoforge.exports.cards import generator_card
from cytoforge.exports.onnx_network import OPSET, Graph, run_onnx, write_onnx
from cytoforge.networks.mask_gan import PerClass
from cytoforge.sampling.generator import Generator, open_generator
from cytoforge.sampling.pictures import labelled_rows

FILE = "generator.onnx"
_REFUSED = {
    "diffusion": "it draws in a loop of many steps, not in one pass",
    "text-to-image": "it is a pipeline of several large models",
    "cyclegan": "it translates images and draws none",
}
_COLUMNS = 8


class _Sampling(nn.Module):
    """`Method.sample` as a module: noise, labels and, for some methods, masks."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        self.networks = nn.ModuleDict(method.networks)

    def forward(self, noise: Tensor, labels: Tensor, masks: Tensor | None = None) -> Any:
        condition = self.method.masks(noise, labels) if masks is None else masks
        images = self.method.sample(noise, labels, condition)
        return images if masks is not None or condition is None else (images, condition)


class _EveryClass(nn.Module):
    """`PerClass` without asking which classes are in the batch: all networks run, one counts."""

    def __init__(self, networks: PerClass) -> None:
        super().__init__()
        self.networks = networks.networks

    def forward(self, pictures: Tensor, labels: Tensor) -> Tensor:
        zeros = torch.zeros_like(labels)
        outputs = torch.stack([network(pictures, zeros) for network in self.networks])
        chosen = nn.functional.one_hot(labels, len(self.networks)).to(outputs).T
        return (outputs * chosen.reshape(*chosen.shape, *[1] * (outputs.ndim - 2))).sum(0)


def write_generator(run: Run, out: Path, checkpoint: str = "best") -> list[Path]:
    """Write `generator.onnx`, `export.json` with the measured parity, a picture and a model card.

    Args:
        run: of a training.
        out: new or empty folder.
        checkpoint: "best" or "newest".

    Raises:
        ConfigError: the method has no such form, or a package is missing.
        CheckpointError: there is no usable checkpoint, or ONNX Runtime computes something else.
    """
    method = str(run.config["method"])
    if method in _REFUSED:
        raise ConfigError(f"{method} cannot be exported as one ONNX graph: {_REFUSED[method]}.")
    generator = open_generator(run, checkpoint)
    graph = generator_graph(generator, run)
    parity = write_onnx(graph, out / FILE)
    noise = generator.method.noise(np.arange(1))
    facts = {
        "kind": "generator",
        "synthetic": True,
        "method": method,
        "classes": list(generator.classes),
        "resolution": generator.shape.resolution,
        "opset": OPSET,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "noise": list(noise.shape[1:]),
        "parity": {"largest": parity.largest, "tolerance": parity.tolerance, "batches": parity.batches},
        "config_sha256": run.config_hash,
        "onnx_sha256": sha256_file(out / FILE),
    }
    write_json(out / "export.json", facts)
    write_atomic(out / "contents.png", encode_png(_picture(generator, graph, out / FILE), dict(graph.marks)))
    write_atomic(out / "README.md", generator_card(run, how_to_use=_usage(graph, list(noise.shape[1:]))))
    return [out / FILE, out / "export.json", out / "README.md"]


def generator_graph(generator: Generator, run: Run) -> Graph:
    """How a generator is called.

    Inputs are `noise` (N, ...) standard normal, `labels` (N,) int64 and, for methods that paint onto masks
    and draw none, `masks` (N, 2, R, R) in {0, 1}: cytoplasm, nucleus. Outputs are `images` (N, 3, R, R) in
    [-1, 1] and, where the method draws masks first, `masks`.
    """
    method = generator.method
    networks = {
        name: _EveryClass(network) if isinstance(network, PerClass) else network
        for name, network in method.networks.items()
    }
    method = method.replaced({name: network.eval() for name, network in networks.items()})
    classes, side = len(generator.classes), generator.shape.resolution
    draws = method.draws_masks()
    takes = bool(generator.shape.mask_channels) and not draws

    def example(count: int) -> tuple[Tensor, ...]:
        noise = method.noise(np.arange(count))
        inputs: tuple[Tensor, ...] = (noise, torch.arange(count) % classes)
        return (*inputs, _discs(count, side)) if takes else inputs

    marks = {
        "synthetic": "true",
        "content": "generator of synthetic cells; what it draws is no photograph of a patient's cell",
        "method": method.name,
        "classes": json.dumps(list(generator.classes)),
        "config_sha256": run.config_hash,
    }
    return Graph(
        network=_Sampling(method).eval(),
        inputs=("noise", "labels", "masks") if takes else ("noise", "labels"),
        outputs=("images", "masks") if draws else ("images",),
        example=example,
        marks=marks,
        tolerance=1e-3,
    )


def _discs(count: int, side: int) -> Tensor:
    """Masks of round cells, for tracing and for the parity gate: (N, 2, side, side)."""
    axis = (torch.arange(side) + 0.5) / side - 0.5
    radius = (axis[:, None].square() + axis[None].square()).sqrt()
    nucleus = radius < 0.15
    masks = torch.stack([(radius < 0.4) & ~nucleus, nucleus]).float()
    return masks.repeat(count, 1, 1, 1)


def _picture(generator: Generator, graph: Graph, path: Path) -> Any:
    """Seeds 0 to 7 of each class, drawn by ONNX Runtime."""
    example = graph.example(_COLUMNS)
    rows = {}
    for label, name in enumerate(generator.classes):
        inputs = {"noise": example[0].numpy(), "labels": np.full(_COLUMNS, label, np.int64)}
        if len(example) > 2:
            inputs["masks"] = example[2].numpy()
        rows[name] = to_uint8(torch.from_numpy(run_onnx(path, inputs)[0]))
    return labelled_rows(rows, "synthetic, drawn by ONNX Runtime")


def _usage(graph: Graph, noise: list[int]) -> str:
    masks = (
        ', "masks": masks  # (4, 2, R, R) float32 in {0, 1}: cytoplasm, nucleus'
        if "masks" in graph.inputs
        else ""
    )
    return f"""```python
import numpy, onnxruntime

session = onnxruntime.InferenceSession("{FILE}")
noise = numpy.random.default_rng(0).standard_normal((4, {", ".join(map(str, noise))}), numpy.float32)
inputs = {{"noise": noise, "labels": numpy.zeros(4, numpy.int64){masks}}}
images = session.run(None, inputs)[0]  # (4, 3, R, R) in [-1, 1]
```

Images that you make so carry no mark of their own: write one into each file, or use `cytoforge generate`."""
