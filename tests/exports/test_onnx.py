from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cytoforge.core.batch import DataShape
from cytoforge.core.errors import CheckpointError, ConfigError
from cytoforge.core.files import write_json
from cytoforge.core.run import Run
from cytoforge.evaluation.classifiers import fit, open_classifier
from cytoforge.evaluation.recipes import RECIPES
from cytoforge.evaluation.trust import Calibration
from cytoforge.exports.classifier_onnx import write_classifier
from cytoforge.exports.generator_onnx import generator_graph, write_generator
from cytoforge.exports.onnx_network import OPSET, Graph, external_tensors, run_onnx, write_onnx
from cytoforge.methods.catalogue import METHODS
from cytoforge.sampling.generator import Generator, open_generator
from cytoforge.stages.predict import predict

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


class Doubled(nn.Module):
    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return 2 * numbers


def doubling(network: nn.Module | None = None) -> Graph:
    return Graph(
        network or Doubled(), ("x",), ("y",), lambda count: (torch.arange(count * 3.0).reshape(-1, 3),), {}
    )


def test_a_network_is_written_whole_and_computes_the_same(tmp_path) -> None:
    parity = write_onnx(replace(doubling(), marks={"synthetic": "true"}), tmp_path / "x.onnx")
    assert parity.largest == {"y": 0.0}
    assert run_onnx(tmp_path / "x.onnx", {"x": np.ones((5, 3), np.float32)})[0].tolist() == [[2.0] * 3] * 5
    model = onnx.load(tmp_path / "x.onnx")
    onnx.checker.check_model(model)
    assert external_tensors(onnx, model) == []
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    assert {entry.key: entry.value for entry in model.metadata_props}["synthetic"] == "true"


class Drifting(nn.Module):
    """Gives another answer each time, as a network with dropout left on would."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return numbers + self.calls


def test_what_computes_something_else_is_not_written(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="differ by"):
        write_onnx(doubling(Drifting()), tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


class Counting(nn.Module):
    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers * int(numbers.sum())


def test_what_cannot_be_translated_says_so(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot translate"):
        write_onnx(doubling(Counting()), tmp_path / "x.onnx")


def test_the_generator_draws_the_cells_that_generate_draws(run, tmp_path) -> None:
    write_generator(run, tmp_path)
    facts = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))
    assert facts["parity"]["largest"]["images"] <= 1e-4
    assert facts["opset"] == OPSET
    assert facts["synthetic"] is True
    generator = open_generator(run)
    seeds = np.arange(5)
    noise = generator.method.noise(seeds).numpy()
    drawn = run_onnx(tmp_path / "generator.onnx", {"noise": noise, "labels": np.full(5, 1)})[0]
    levels = np.clip(np.round(drawn * 127.5 + 127.5), 0, 255).transpose(0, 2, 3, 1)
    assert np.abs(levels - generator.images(1, seeds.tolist())).max() <= 1
    model = onnx.load(tmp_path / "generator.onnx")
    marks = {entry.key: entry.value for entry in model.metadata_props}
    assert marks["synthetic"] == "true"
    assert marks["config_sha256"] == run.config_hash
    assert (tmp_path / "contents.png").is_file()
    content = (tmp_path / "generator.onnx").read_bytes()
    assert not [word for word in (b"secret", b".py", b"/home", b"/src/") if word in content]


@pytest.mark.parametrize("method", ["diffusion", "text-to-image", "cyclegan"])
def test_methods_without_one_graph_are_refused(run, tmp_path, method) -> None:
    with pytest.raises(ConfigError, match="cannot be exported"):
        write_generator(Run(run.path, {**run.config, "method": method}), tmp_path)


CELLS = np.random.default_rng(0).integers(0, 256, (12, 20, 24, 3), np.uint8)


@pytest.mark.parametrize("views", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_the_classifier_gives_the_logits_of_torch(tmp_path, views) -> None:
    recipe = RECIPES["basic-cnn"].model_copy(
        update={"resolution": 16, "steps": 2, "batch": 4, "views": views}
    )
    fitted = fit(recipe, CELLS, np.arange(12) % 3, ("a", "b", "c"), folder=tmp_path / "run")
    write_json(tmp_path / "run" / "calibration.json", calibration(fitted.classes, tmp_path / "run"))
    write_classifier(Run.open(tmp_path / "run"), tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert facts["temperature"] == 1.5
    assert facts["classes"] == ["a", "b", "c"]
    levels = ((fitted.prepared(CELLS) + 1) * 127.5).round().numpy()
    found = run_onnx(tmp_path / "out" / "classifier.onnx", {"images": levels})[0]
    np.testing.assert_allclose(found, open_classifier(tmp_path / "run").logits(CELLS), atol=1e-4)
    for wrong, words in (({"weights_sha256": "0"}, "other weights"), ({"format": 2}, "cannot be read")):
        write_json(
            tmp_path / "run" / "calibration.json", {**calibration(fitted.classes, tmp_path / "run"), **wrong}
        )
        with pytest.raises(CheckpointError, match=words):
            write_classifier(Run.open(tmp_path / "run"), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def calibration(classes: tuple[str, ...], run: Path) -> dict[str, Any]:
    """The content of a calibration.json with a temperature of 1.5."""
    found = Calibration(
        classes=classes, weights_sha256=open_classifier(run).weights_sha256, part="val", cells=20,
        groups=("1",), temperature=1.5, score="lac", by_class=False, thresholds={}, novelty="neighbours",
        false_alarm=0.05, novelty_threshold=None, reference_sha256="0",
    )  # fmt: skip
    return found.model_dump(mode="json")


@pytest.mark.parametrize("fit_", ["crop", "pad", "stretch"])
def test_the_example_of_the_card_answers_as_predict_does(tmp_path, monkeypatch, fit_) -> None:
    recipe = RECIPES["basic-cnn"].model_copy(
        update={"resolution": 16, "steps": 20, "batch": 12, "learning_rate": 0.01, "fit": fit_}
    )
    fit(recipe, CELLS, np.arange(12) % 3, ("a", "b", "c"), folder=tmp_path / "run")
    picture = np.random.default_rng(1).integers(0, 256, (21, 40, 3), np.uint8)
    picture[:, :8], picture[:, 32:] = 0, (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "cell.png")
    write_classifier(Run.open(tmp_path / "run"), tmp_path)
    code = (tmp_path / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code, found)
    (cell,) = predict(tmp_path / "run", tmp_path / "cell.png", tmp_path / "out", engine="torch").cells
    np.testing.assert_allclose(found["probabilities"][0], list(cell["probabilities"].values()), atol=1e-4)


_TINY = {
    "cvae": {"latent": 8, "channels": 8, "most_channels": 16, "perceptual": 0.0},
    "syncgan": {"width": 8, "most_width": 16, "mask_width": 8, "mask_most_width": 16},
    "pix2pix": {"width": 8, "most_width": 16},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(METHODS) - {"diffusion", "text-to-image", "cyclegan"}))
def test_every_other_method_has_an_onnx_form(name, tmp_path) -> None:
    torch.manual_seed(0)
    kind = METHODS[name]
    fields = kind.config_type.model_fields
    settings = {key: value for key, value in kind.presets.get("cpu", {}).items() if key in fields}
    shape = DataShape(32, ("a", "b", "c"), 2 if kind.needs_masks else 0)
    check(kind(kind.config_type(**settings, **_tiny(name, settings)), shape), shape, tmp_path)


def _tiny(name: str, settings: dict) -> dict:
    return {key: value for key, value in _TINY.get(name, {}).items() if key not in settings}


@pytest.mark.slow
def test_a_mask_gan_for_each_class_has_one(tmp_path) -> None:
    torch.manual_seed(0)
    kind = METHODS["syncgan"]
    shape = DataShape(32, ("a", "b", "c"), 2)
    check(kind(kind.config_type(**_TINY["syncgan"]), shape), shape, tmp_path)


def check(method, shape, folder: Path) -> None:
    run = Run(folder, {"method": method.name})
    for network in method.networks.values():
        network.eval()
    graph = generator_graph(Generator(method, shape, torch.device("cpu")), run)
    parity = write_onnx(graph, folder / "x.onnx")
    assert max(parity.largest.values()) < 1e-3
