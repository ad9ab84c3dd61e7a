"""A trained classifier as an ONNX file: pictures in, logits out."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from cytoforge.core.files import sha256_file, write_atomic, write_json
from cytoforge.core.randomness import normal
from cytoforge.core.run import Run
from cytoforge.evaluation.classifiers import Fitted, open_classifier
from cytoforge.evaluation.trust import read_calibration
from cytoforge.exports.cards import classifier_card
from cytoforge.exports.classifier_scores import ClassifierScores
from cytoforge.exports.onnx_network import OPSET, Graph, write_onnx
from cytoforge.networks.image_classifier import over_views

FILE = "classifier.onnx"


class _Levels(nn.Module):
    """Pictures in 0..255 to logits; eight flips and turns averaged where the recipe says so."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.network = fitted.network
        self.views = fitted.recipe.views

    def forward(self, images: Tensor) -> Tensor:
        return over_views(self.network, images / 127.5 - 1, self.views)


def write_classifier(run: Run, out: Path, checkpoint: str = "best") -> list[Path]:
    """Write `classifier.onnx`, `export.json` with the measured parity, and a model card.

    The parity gate compares ONNX Runtime with torch.

    Raises:
        CheckpointError: `run` holds no usable classifier, its calibration is broken or of other weights, or
            ONNX Runtime computes something else.
        ConfigError: a package is missing.
    """
    fitted = open_classifier(run, checkpoint)
    calibration = read_calibration(run.path, fitted.weights_sha256, fitted.classes)
    temperature = None if calibration is None else calibration.temperature
    graph = export_graph(fitted, run)
    parity = write_onnx(graph, out / FILE)
    facts = {
        "kind": "classifier",
        "classes": list(fitted.classes),
        "resolution": fitted.recipe.resolution,
        "fit": fitted.recipe.fit,
        "opset": OPSET,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "temperature": temperature,
        "parity": {"largest": parity.largest, "tolerance": parity.tolerance, "batches": parity.batches},
        "config_sha256": run.config_hash,
        "onnx_sha256": sha256_file(out / FILE),
    }
    write_json(out / "export.json", facts)
    write_atomic(
        out / "README.md", classifier_card(run, ClassifierScores(calibration), _usage(fitted, temperature))
    )
    return [out / FILE, out / "export.json", out / "README.md"]


def export_graph(fitted: Fitted, run: Run) -> Graph:
    """How a classifier is called: `images` (N, 3, R, R) float32 in 0..255, RGB; `logits` (N, K)."""
    side = fitted.recipe.resolution

    def example(count: int) -> tuple[Tensor, ...]:
        coarse = normal(torch.arange(count), (3, 8, 8), "picture") * 40 + 140
        images = nn.functional.interpolate(coarse, (side, side), mode="bilinear")
        return (images.clamp(0, 255).round(),)

    marks = {
        "content": "classifier of cells; for research, not for diagnosis",
        "classes": json.dumps(list(fitted.classes)),
        "config_sha256": run.config_hash,
    }
    network = _Levels(fitted).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Graph(network, ("images",), ("logits",), example, marks, tolerance=1e-3)


_SQUARE = {
    "crop": """
side = min(picture.size)
left, top = (picture.width - side) // 2, (picture.height - side) // 2
picture = picture.crop((left, top, left + side, top + side))  # the middle, as in training""",
    "pad": """
pixels, side = numpy.asarray(picture), max(picture.size)
edge = numpy.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
square = Image.new("RGB", (side, side), tuple(int(level) for level in numpy.median(edge, axis=0)))
square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
picture = square  # with a border of its edge's colour, as in training""",
    "stretch": "",
}
"""How a picture becomes square, as `data.transform` does it."""


def _usage(fitted: Fitted, temperature: float | None) -> str:
    side = fitted.recipe.resolution
    divided = "logits" if temperature is None else f"logits / {temperature:.4f}"
    return f"""```python
import numpy, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("{FILE}")
picture = ImageOps.exif_transpose(Image.open("cell.png"))  # of 8 bits a channel, nothing transparent
picture = picture.convert("RGB"){_SQUARE[fitted.recipe.fit]}
picture = picture.resize(({side}, {side}), Image.Resampling.BICUBIC)
images = numpy.asarray(picture, numpy.float32).transpose(2, 0, 1)[None]  # (1, 3, {side}, {side}) in 0..255
logits = session.run(None, {{"images": images}})[0]
scaled = {divided}
probabilities = numpy.exp(scaled - scaled.max()) / numpy.exp(scaled - scaled.max()).sum()
```"""
