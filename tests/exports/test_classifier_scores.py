from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import CheckpointError, ConfigError, DataError
from cytoforge.core.files import read_json, write_json
from cytoforge.core.run import Run
from cytoforge.evaluation.calibration import softmax
from cytoforge.evaluation.classification import Estimate, score
from cytoforge.evaluation.classifier_report import ClassifierReport, Protocol
from cytoforge.evaluation.classifiers import fit
from cytoforge.evaluation.novelty import learn_known
from cytoforge.evaluation.recipes import RECIPES
from cytoforge.evaluation.trust import Calibration, Held, calibrate, judge
from cytoforge.exports.cards import LIMITS, TO_FILL
from cytoforge.exports.checklist import Known, fill, known_answers
from cytoforge.exports.classifier_scores import read_scores, table
from cytoforge.stages.export import export

hub = pytest.importorskip("huggingface_hub")

CLASSES = ("blue", "red")
RECIPE = RECIPES["basic-cnn"].model_copy(update={"resolution": 16, "steps": 12, "batch": 8})


def held(seed: int) -> Held:
    """Eighty cells of twenty photos, most of them named rightly."""
    rng = np.random.default_rng(seed)
    labels = np.arange(80) % 2
    logits = (np.eye(2)[labels] + rng.normal(size=(80, 2))).astype(np.float32)
    features = (labels[:, None] + rng.normal(size=(80, 4))).astype(np.float32)
    return Held(logits, features, labels, tuple(f"{seed}-{row // 4}" for row in range(80)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated classifier in "run" and the report of its kind in "report"."""
    folder = tmp_path_factory.mktemp("classifier")
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    fit(RECIPE, images, np.arange(16) % 2, CLASSES, folder=folder / "run")
    train, val, test = map(held, range(3))
    known = learn_known(train.features, train.labels, "neighbours")
    weights = load_checkpoint(folder / "run" / "checkpoints", "best").sha256
    found = calibrate(val, known, CLASSES, part="val", weights_sha256=weights, reference_sha256="0")
    found = found.model_copy(update={"judged": judge(found, known, test, "test")})
    write_json(folder / "run" / "calibration.json", found.model_dump(mode="json"))
    write_json(folder / "report" / "classify.json", reported(test).model_dump(mode="json"))
    return folder


def reported(cells: Held) -> ClassifierReport:
    protocol = Protocol(
        name="grouped", scores=score(cells.labels, softmax(cells.logits), CLASSES, cells.groups), coarse=None,
        accuracies=(0.7, 0.8), sibling=0.0, seconds=(1.0, 1.0), curves=(),
    )  # fmt: skip
    return ClassifierReport(
        data="secret-clinic", layout="folders", cells=80, groups=20, recipe="basic-cnn",
        settings=RECIPE.model_dump(mode="json"), parameters=1, folds=2, seed=0, random=protocol,
        grouped=protocol, leak=Estimate(value=0.02, low=0.0, high=0.04), published=(),
    )  # fmt: skip


@pytest.fixture
def calibration(trained: Path) -> Calibration:
    return Calibration.model_validate(read_json(trained / "run" / "calibration.json"))


def test_the_card_quotes_calibration_and_report(trained, calibration, tmp_path) -> None:
    export(trained / "run", tmp_path, "cards", evaluation=trained / "report")
    card = hub.ModelCard.load(tmp_path / "README.md")
    shown = {result.metric_type: result.metric_value for result in card.data.eval_results}
    judged = calibration.judged
    assert judged is not None
    assert shown["accuracy"] == pytest.approx(judged.after.accuracy, abs=1e-6)
    assert f"| calibration error (ECE) | {judged.after.error:.3f} " in card.text
    assert f"{judged.cells} cells of {judged.groups} groups (test part)" in card.text
    stored = read_json(trained / "report" / "classify.json")["grouped"]["scores"]["accuracy"]
    assert f"| accuracy | {stored['value']:.3f} ({stored['low']:.3f} to {stored['high']:.3f}) |" in card.text
    evaluation = card.text.partition("## Evaluation")[2].partition("## Limits")[0]
    assert TO_FILL not in evaluation
    assert "secret-clinic" not in card.text
    assert "| architecture | basic-cnn |" in card.text
    assert "| weights |" not in card.text, "a network that has no trained weights"


def test_the_checklist_answers_from_both(trained, calibration) -> None:
    run = Run.open(trained / "run")
    scores = read_scores(run, trained / "report" / "classify.json")
    claim = fill(Known(run=run, scores=scores))[0]
    items = {item.number: item for item in claim.items}
    assert items["24"].answer == "Random, from seed 0."
    assert items["37"].source == "classify.json, calibration.json"
    assert f"accuracy {calibration.judged.after.accuracy:.3f}, ECE" in items["37"].answer
    assert "by bootstrap over groups" in items["29"].answer
    assert f"one temperature ({calibration.temperature:.3f})" in items["29"].answer
    assert items["31"].source == "calibration.json"
    assert items["39"].answer.startswith("Recall by class: blue ")
    assert LIMITS not in items["40"].answer
    assert "knows its classes and nothing else" in items["40"].answer
    alone = known_answers(Known(run=run, scores=read_scores(run)))
    assert alone["performance"][1] == "calibration.json"
    assert "failures" not in alone


def test_of_cells_without_photos_no_leak_is_quoted(trained) -> None:
    run = Run.open(trained / "run")
    scores = read_scores(run, trained / "report" / "classify.json")
    assert scores.report is not None
    alone = replace(scores, report=scores.report.model_copy(update={"ungrouped": True}))
    for known, quoted in ((scores, True), (alone, False)):
        said = known_answers(Known(run=run, scores=known))
        assert ("Random folds would say" in said["performance"][0]) == quoted
        assert ("leak inflation" in table(known)) == quoted
    assert "cells of one photo may lie on both sides" in table(alone)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architecture": "basic-cnn", "mode": "scratch", "weights": "imagenet"}, ""),
        ({"architecture": "resnet50", "mode": "scratch", "weights": "imagenet"}, ""),
        ({"architecture": "resnet50", "mode": "full", "weights": "none"}, ""),
        ({"architecture": "resnet50", "mode": "full", "weights": "/secret/w.safetensors"}, "w.safetensors"),
        ({"architecture": "tf_efficientnet_lite0", "mode": "linear", "weights": "imagenet"}, "imagenet"),
    ],
)
def test_only_networks_with_trained_weights_are_called_pretrained(trained, settings, words) -> None:
    run = Run.open(trained / "run")
    changed = Run(run.path, {**run.config, "settings": {**run.config["settings"], **settings}})
    answer, _ = known_answers(Known(run=changed))["initialisation"]
    assert answer == f"Random, from seed 0{f'; pretrained body ({words})' if words else ''}."


def test_evaluations_of_another_kind_are_refused(trained, run, opened, tmp_path) -> None:
    other = tmp_path / "other.json"
    content = read_json(trained / "report" / "classify.json")
    with pytest.raises(ConfigError, match=r"no classify.json; give .*classify report"):
        export(trained / "run", tmp_path / "card", "cards", evaluation=run.path)
    write_json(other, {"kind": "study"})
    with pytest.raises(DataError, match="classify report"):
        export(trained / "run", tmp_path / "card", "cards", evaluation=other)
    write_json(other, {**content, "settings": {**content["settings"], "steps": 13}})
    with pytest.raises(ConfigError, match=r"another recipe .*steps: 13, the run has 12"):
        export(trained / "run", tmp_path / "card", "cards", evaluation=other)
    for source in (run.path, opened.folder):
        with pytest.raises(ConfigError, match=r"no metrics.json; give .*evaluate"):
            export(source, tmp_path / "card", "cards", evaluation=trained / "report")
    with pytest.raises(ConfigError, match="--evaluation goes into cards"):
        export(run.path, tmp_path / "card", "onnx", evaluation=trained / "report")
    with pytest.raises(ConfigError, match="--study goes into checklists"):
        export(run.path, tmp_path / "card", "cards", study=trained)


def test_a_calibration_of_other_weights_is_refused(trained, calibration, tmp_path) -> None:
    run = Run.open(trained / "run")
    other = Run(tmp_path, run.config)
    (tmp_path / "checkpoints").symlink_to(run.checkpoints)
    write_json(
        tmp_path / "calibration.json",
        calibration.model_copy(update={"weights_sha256": "0"}).model_dump(mode="json"),
    )
    with pytest.raises(CheckpointError, match="other weights"):
        read_scores(other)
