from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes, sha256_file, write_json
from cytoforge.core.png import encode_png
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, split_cells
from cytoforge.evaluation.features import Extractor
from cytoforge.evaluation.metrics import Metrics
from cytoforge.sampling.provenance import (
    Entry,
    Header,
    Manifest,
    class_folders,
    image_file,
    image_marks,
    write_manifest,
)
from cytoforge.sampling.sealed import MANIFEST
from cytoforge.stages import evaluate as stage

CLASSES = ("<b>round", "=cmd")
SIDE = 32


def picture(kind: int, seed: int) -> np.ndarray:
    """A blotchy cell, bright or dark by class."""
    rng = np.random.default_rng([kind, seed])
    smooth = gaussian_filter(rng.normal(size=(SIDE, SIDE, 3)), (3, 3, 0))
    return np.clip(90 + 60 * kind + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def embed(levels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(levels, 8).flatten(1)


@pytest.fixture(autouse=True)
def avoided(monkeypatch) -> list[str | None]:
    """Networks that the evaluation did not want to judge by; features are coarse pictures, for speed."""
    grid, names = Extractor(f"grid@{SIDE}", SIDE, 48, embed), []

    def fair(*unfair: str | None, side: int | None = None) -> Extractor:
        names.extend(unfair)
        return grid

    monkeypatch.setattr(stage, "open_extractor", lambda name: grid)
    monkeypatch.setattr(stage, "fair_extractor", fair)
    return names


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("zell bilder") / "real"
    for kind, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for seed in range(70):
            Image.fromarray(picture(kind, seed)).save(root / name / f"{seed:03d}.png")
    return root


@pytest.fixture(scope="module")
def split(data) -> tuple[Path, Split]:
    found = split_cells(open_cells(data), (0.6, 0.1, 0.3))
    found.save(data.parent / "split.json")
    return data.parent / "split.json", found


def write_set(folder: Path, split: Split, classes: tuple[str, ...], pictures, **changes) -> Path:
    header = Header(
        **{
            "method": "wgan-gp",
            "config_sha256": "0" * 64,
            "checkpoint": "best",
            "checkpoint_sha256": "0" * 64,
            "seen": 1000,
            "truncation": 1.0,
            "preparation": {"resolution": SIDE, "fit": "crop", "denoise": 0.0},
            "classes": classes,
            "folders": class_folders(classes),
            "run": "../run",
            "split_sha256": split.sha256,
            "versions": {"torch": torch.__version__},
            "threads": 1,
            **changes,
        }
    )
    entries = []
    for kind, label in enumerate(classes):
        for seed, image in enumerate(pictures(kind)):
            content = encode_png(image, image_marks(header, label, seed))
            path = folder / image_file(header.folders, label, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            file = image_file(header.folders, label, seed)
            entries.append(
                Entry(file=file, label=label, seed=seed, truncation=1.0, sha256=sha256_bytes(content))
            )
    write_manifest(folder, Manifest(header, tuple(entries)))
    return folder


def honest(kind: int) -> list[np.ndarray]:
    return [picture(kind, 1000 + seed) for seed in range(30)]


@pytest.fixture
def classes(data) -> tuple[str, ...]:
    return open_cells(data).classes


def test_honest_set_gets_numbers_floors_verdicts_and_a_page(data, split, classes, tmp_path) -> None:
    made = write_set(tmp_path / "set", split[1], classes, honest)
    metrics = stage.evaluate(made, data, tmp_path / "out", split=split[0])
    assert Metrics.load(tmp_path / "out" / "metrics.json") == metrics
    assert metrics.counts.synthetic == 60
    assert set(metrics.classes) == set(classes)
    assert all(number.floor is not None for number in metrics.overall.values())
    assert [verdict.topic for verdict in metrics.verdicts] == ["realism", "variety", "classes", "copies"]
    assert not metrics.copies.found
    assert metrics.class_correctness.accuracy > 0.9
    assert {"floors", "intervals", "copies", "collapse", "realism"} <= set(metrics.rules)
    assert any("false-alarm rate" in line for line in metrics.warnings)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>round" not in page
    json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))


def test_flipped_training_cells_are_found_and_named(data, split, classes, tmp_path) -> None:
    trained = open_cells(data).select(split[1].names("train")).cells

    def copies(kind: int) -> list[np.ndarray]:
        own = [np.asarray(Image.open(cell.path)) for cell in trained if cell.label == classes[kind]]
        return honest(kind)[:20] + [np.ascontiguousarray(image[:, ::-1]) for image in own[:10]]

    made = write_set(tmp_path / "set", split[1], classes, copies)
    copies_found = stage.evaluate(made, data, tmp_path / "out", split=split[0]).copies
    assert copies_found.found
    flagged = {(closest.label, closest.seed) for closest in copies_found.closest if closest.flagged}
    assert {(label, seed) for label in classes for seed in range(20, 30)} <= flagged
    assert {closest.view for closest in copies_found.closest[:20]} == {"mirrored"}


@pytest.mark.parametrize(
    ("rules", "extractor", "same", "warned"),
    [
        (("copies",), "grid@128", True, ["copies"]),
        (("region", "copies"), "mobilenet-v2@128", True, ["copies"]),
        (("region",), "grid@64", True, ["grid"]),
        (("class", "copies"), "grid@128", True, ["copies", "grid"]),
        (("class", "copies"), "grid@128", False, []),
    ],
)
def test_a_set_that_was_selected_is_told_what_flatters_it(
    data, split, classes, tmp_path, rules, extractor, same, warned
) -> None:
    made = write_set(tmp_path / "set", split[1], classes, honest)
    kept = sha256_file(made / MANIFEST) if same else "0" * 64
    told = {"kept_manifest_sha256": kept, "rules": dict.fromkeys(rules, ""), "kept": 60, "images": 70}
    write_json(tmp_path / "selection.json", {**told, "extractor": extractor})
    metrics = stage.evaluate(made, data, tmp_path / "out", split=split[0], masks="none")
    words = {
        "copies": "chosen by the copies rule (60 of 70 were kept)",
        "grid": "chosen by the features of grid (60 of 70 were kept)",
    }
    found = [key for key, text in words.items() if any(text in line for line in metrics.warnings)]
    assert found == warned
    if "grid" in warned:
        assert any("--extractor mobilenet-v2" in line for line in metrics.warnings)


def test_nothing_is_judged_by_what_it_was_trained_against_or_chosen_by(
    data, split, classes, tmp_path, avoided
) -> None:
    made = write_set(tmp_path / "set", split[1], classes, honest, method="auto")
    stage.evaluate(made, data, tmp_path / "out", split=split[0], masks="none")
    assert avoided == ["efficientnet-lite0", None, "efficientnet-lite0"], "who judges, who searches copies"
    told = {
        "kept_manifest_sha256": sha256_file(made / MANIFEST),
        "rules": {"class": ""},
        "kept": 6,
        "images": 7,
    }
    write_json(tmp_path / "selection.json", {**told, "extractor": "mobilenet-v2@128"})
    stage.evaluate(made, data, tmp_path / "out", split=split[0], masks="none")
    assert avoided[3:] == ["efficientnet-lite0", "mobilenet-v2", "efficientnet-lite0"]
    stage.evaluate(made, data, tmp_path / "out", split=split[0], masks="none", extractor="mobilenet-v2")
    assert avoided[6:] == ["efficientnet-lite0"]


def test_who_judges_by_the_network_of_the_training_is_warned(
    data, split, classes, tmp_path, monkeypatch
) -> None:
    judge = Extractor("efficientnet-lite0@16", SIDE, 48, embed)
    monkeypatch.setattr(stage, "open_extractor", lambda name: judge)
    made = write_set(tmp_path / "set", split[1], classes, honest, method="auto")
    options = {"split": split[0], "masks": "none", "extractor": "efficientnet-lite0"}
    found = stage.evaluate(made, data, tmp_path / "out", **options).warnings
    assert any("trained against efficientnet-lite0" in line and "mobilenet-v2" in line for line in found)
    other = write_set(tmp_path / "other", split[1], classes, honest)
    found = stage.evaluate(other, data, tmp_path / "out", **options).warnings
    assert not any("trained against" in line for line in found)


def test_copies_searched_by_the_network_of_the_training_are_told(
    data, split, classes, tmp_path, monkeypatch
) -> None:
    """Where no second one is installed, whichever network measures the rest, if there was a search."""
    options = {"split": split[0], "masks": "none"}
    alone, fair = Extractor("efficientnet-lite0@64", SIDE, 48, embed), stage.fair_extractor
    monkeypatch.setattr(stage, "fair_extractor", lambda *unfair, side=None: alone if side else fair(*unfair))
    told = "Copies were searched by efficientnet-lite0@64, a network that the generator was trained against"
    made = write_set(tmp_path / "set", split[1], classes, honest, method="auto")
    found = stage.evaluate(made, data, tmp_path / "out", **options)
    assert found.extractor == f"grid@{SIDE}"
    assert [told in line for line in found.warnings].count(True) == 1
    other = write_set(tmp_path / "other", split[1], classes, honest)
    assert not any("searched" in line for line in stage.evaluate(other, data, tmp_path, **options).warnings)
    monkeypatch.setattr(stage, "FEWEST", 1000)
    assert not any("searched" in line for line in stage.evaluate(made, data, tmp_path, **options).warnings)


def test_another_split_is_refused(data, split, classes, tmp_path) -> None:
    made = write_set(tmp_path / "set", split[1], classes, honest)
    split_cells(open_cells(data), (0.6, 0.1, 0.3), seed=9).save(tmp_path / "other.json")
    with pytest.raises(ConfigError, match="not the split"):
        stage.evaluate(made, data, tmp_path / "out", split=tmp_path / "other.json")


def test_a_lost_run_asks_for_the_split(data, split, classes, tmp_path) -> None:
    made = write_set(tmp_path / "set", split[1], classes, honest)
    with pytest.raises(ConfigError, match="--split"):
        stage.evaluate(made, data, tmp_path / "out")


def test_changed_images_other_sizes_and_other_data_are_refused(data, split, classes, tmp_path) -> None:
    made = write_set(tmp_path / "set", split[1], classes, honest)
    first = next(made.rglob("*.png"))
    first.write_bytes(first.read_bytes() + b" ")
    with pytest.raises(DataError, match="cytoforge verify"):
        stage.evaluate(made, data, tmp_path / "out", split=split[0])
    preparation = {"resolution": 16, "fit": "crop", "denoise": 0.0}
    small = write_set(tmp_path / "small", split[1], classes, honest, preparation=preparation)
    with pytest.raises(DataError, match="resolutions"):
        stage.evaluate(small, data, tmp_path / "out", split=split[0])
    other = write_set(tmp_path / "other", split[1], ("x", "y"), honest)
    with pytest.raises(DataError, match="classes"):
        stage.evaluate(other, data, tmp_path / "out", split=split[0])
    assert not (tmp_path / "out").exists()


def test_a_rate_that_is_none_is_refused(data, split, classes, tmp_path) -> None:
    made = write_set(tmp_path / "set", split[1], classes, honest)
    with pytest.raises(ConfigError, match="false-alarm"):
        stage.evaluate(made, data, tmp_path / "out", split=split[0], alpha=0)
