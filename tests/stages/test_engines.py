from __future__ import annotations

import numpy as np
import pytest
import torch

from cytoforge.core.errors import CheckpointError, ConfigError
from cytoforge.data.augment import square_views
from cytoforge.evaluation.classifiers import Fitted
from cytoforge.evaluation.recipes import RECIPES, Recipe
from cytoforge.exports.onnx_network import write_onnx
from cytoforge.networks.backbones import Backbone
from cytoforge.networks.basic_cnn import BasicCNN
from cytoforge.stages.engines import classifier_graph, fast_classifier


@pytest.fixture(scope="module")
def lite0() -> Fitted:
    torch.manual_seed(0)
    recipe = RECIPES["lite0"].model_copy(update={"resolution": 64})
    network = Backbone(recipe.architecture, 3, 64).eval().requires_grad_(False)
    return Fitted(recipe, ("a", "b", "c"), network)


@pytest.fixture(scope="module")
def small() -> Fitted:
    torch.manual_seed(0)
    recipe = Recipe(architecture="basic-cnn", weights="none", resolution=32, views=1)
    return Fitted(recipe, ("a", "b"), BasicCNN(2, 32).eval().requires_grad_(False))


def pictures(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.parametrize("which", ["lite0", "small"])
def test_the_quick_torch_engine_gives_the_same_answers(which, request):
    fitted = request.getfixturevalue(which)
    images = pictures(11, 40)
    logits, features = fast_classifier(fitted, "torch")(images)
    levels = fitted.prepared(images)
    with torch.inference_mode():
        views = square_views(levels)[: fitted.recipe.views]
        plain = torch.stack([fitted.network(view) for view in views]).mean(0)
        np.testing.assert_allclose(logits, plain, atol=1e-4)
        np.testing.assert_allclose(features, fitted.network.features(levels), atol=1e-4)
    np.testing.assert_allclose(logits, fitted.logits(images), atol=1e-4)
    np.testing.assert_allclose(features, fitted.features(images), atol=1e-4)


def test_batch_norm_of_lite0_is_folded_away(lite0):
    names = {type(module).__name__ for module in lite0.folded.modules()}
    assert "BatchNormAct2d" not in names
    assert "BatchNormAct2d" in {type(module).__name__ for module in lite0.network.modules()}


def test_onnx_gives_the_same_answers_and_is_kept(small, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    images = pictures(19, 40)
    quick = fast_classifier(small, "onnx", tmp_path)
    logits, features = quick(images)
    np.testing.assert_allclose(logits, small.logits(images), atol=1e-4)
    np.testing.assert_allclose(features, small.features(images), atol=1e-4)
    (file,) = tmp_path.glob("*.onnx")
    before = file.stat().st_mtime_ns
    assert fast_classifier(small, "onnx", tmp_path).engine == "onnx"
    assert file.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_file_of_another_network_is_refused_and_torch_takes_over(small, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    fast_classifier(small, "onnx", tmp_path)
    (file,) = tmp_path.glob("*.onnx")
    torch.manual_seed(1)
    other = Fitted(small.recipe, small.classes, BasicCNN(2, 32).eval().requires_grad_(False))
    write_onnx(classifier_graph(other), file)
    with pytest.raises(CheckpointError, match="other answers"):
        fast_classifier(small, "onnx", tmp_path)
    assert fast_classifier(small, "auto", tmp_path).engine == "torch"
    file.write_bytes(b"not a network")
    with pytest.raises(ConfigError, match="cannot read"):
        fast_classifier(small, "onnx", tmp_path)


def test_an_unknown_engine_is_refused(small):
    with pytest.raises(ConfigError, match="torch"):
        fast_classifier(small, "tensorrt")  # type: ignore[arg-type]
