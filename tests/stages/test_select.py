from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from cytoforge.cli.select import select as command
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes
from cytoforge.core.png import decode_png, encode_png
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, split_cells
from cytoforge.evaluation.features import Extractor
from cytoforge.sampling.provenance import (
    CARD,
    CONTACT,
    INTERPOLATION,
    Companion,
    Entry,
    Header,
    Manifest,
    class_folders,
    image_file,
    image_marks,
    mask_file,
    read_manifest,
    set_marks,
    verify,
    write_manifest,
)
from cytoforge.stages import select as stage
from cytoforge.stages.compared import looks_at

CLASSES = ("bright", "dark")
SIDE = 32


def picture(kind: int, seed: int) -> np.ndarray:
    """A blotchy cell, bright (0) or dark (1)."""
    smooth = gaussian_filter(np.random.default_rng([kind, seed]).normal(size=(SIDE, SIDE, 3)), (3, 3, 0))
    return np.clip(150 - 60 * kind + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def _quick_extractor(monkeypatch) -> None:
    def embed(levels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(levels, 8).flatten(1)

    monkeypatch.setattr(
        stage, "open_extractor", lambda name: Extractor(f"{name.split('@')[0]}@{SIDE}", SIDE, 48, embed)
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("select") / "real cells"
    for kind, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for seed in range(100):
            Image.fromarray(picture(kind, seed)).save(root / name / f"{seed // 4:02d}_{seed % 4}.png")
    split_cells(open_cells(root, group=r"(\w+/\d+)_"), (0.6, 0.1, 0.3)).save(root.parent / "split.json")
    return root


@pytest.fixture
def made(data, tmp_path) -> Path:
    """A class of 30 images: 18 honest, 4 of the other class, 4 of noise, 4 mirrored training cells."""
    split = Split.load(data.parent / "split.json")
    trained = open_cells(data).select(split.names("train")).cells
    noise = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    header = Header(
        method="wgan-gp",
        config_sha256="0" * 64,
        checkpoint="best",
        checkpoint_sha256="0" * 64,
        seen=1000,
        truncation=1.0,
        preparation={"resolution": SIDE, "fit": "crop", "denoise": 0.0},
        classes=CLASSES,
        folders=class_folders(CLASSES),
        run="../run",
        split_sha256=split.sha256,
        versions={"torch": torch.__version__},
        threads=1,
    )
    entries = []
    for kind, label in enumerate(CLASSES):
        own = [np.array(Image.open(cell.path)) for cell in trained if cell.label == label][:4]
        images = [
            *(picture(kind, 1000 + seed) for seed in range(18)),
            *(picture(1 - kind, 2000 + seed) for seed in range(4)),
            *noise,
            *(np.ascontiguousarray(image[:, ::-1]) for image in own),
        ]
        for seed, image in enumerate(images):
            file = image_file(header.folders, label, seed)
            content = encode_png(image, image_marks(header, label, seed))
            (tmp_path / "set" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / file).write_bytes(content)
            entries.append(
                Entry(file=file, label=label, seed=seed, truncation=1.0, sha256=sha256_bytes(content))
            )
    write_manifest(tmp_path / "set", Manifest(header, tuple(entries)))
    return tmp_path / "set"


def test_doubtful_images_go_honest_ones_stay_and_the_effects_are_written(data, made, tmp_path) -> None:
    done = stage.select(made, data, tmp_path / "out", split=data.parent / "split.json", alpha=0.05)
    written = json.loads((tmp_path / "out" / "selection.json").read_text(encoding="utf-8"))
    seeds = {
        rule: {int(Path(file).stem.rsplit("_")[-1]) for file in files}
        for rule, files in written["dropped"].items()
    }
    assert set(range(18, 22)) <= seeds["class"]
    assert set(range(22, 26)) <= seeds["region"]
    assert set(range(26, 30)) <= seeds["copies"]
    assert len([file for file in written["dropped"]["class"] if int(Path(file).stem[-2:]) < 18]) <= 6
    kept = read_manifest(done.folder)
    assert len(kept.images) == done.kept == written["kept"]
    for entry in kept.images:
        assert sha256_bytes((done.folder / entry.file).read_bytes()) == entry.sha256
    effects = written["effects"]
    assert list(effects) == ["none", "class", "region", "copies", "all", "random"]
    assert written["false_alarm_rate"] == 0.05
    assert effects["all"]["kept"] == effects["random"]["kept"]
    assert effects["all"]["class_correct"] > effects["none"]["class_correct"]
    assert effects["all"]["kernel_distance"]["value"] < effects["random"]["kernel_distance"]["value"]
    assert (tmp_path / "out" / "dropped.png").is_file()
    with pytest.raises(ConfigError, match="selected already"):
        stage.select(done.folder, data, tmp_path / "again", split=data.parent / "split.json")


def test_copies_are_told_by_validation_cells_at_the_rate_that_they_allow(
    data, made, tmp_path, monkeypatch
) -> None:
    asked = []

    def watch(train, unseen, fake, network):
        asked.append(unseen.names)
        return looks_at(train, unseen, fake, network)

    monkeypatch.setattr(stage, "looks_at", watch)
    stage.select(made, data, tmp_path / "out", rules=("copies",), split=data.parent / "split.json")
    held = Split.load(data.parent / "split.json").names("val")
    assert sorted(asked[0]) == sorted(held)
    written = json.loads((tmp_path / "out" / "selection.json").read_text(encoding="utf-8"))
    assert written["false_alarm_rate"] == pytest.approx(1 / (len(held) + 1))


def test_too_few_validation_cells_are_told(data, made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stage, "FEWEST", 100)
    with pytest.raises(DataError, match=r"100 validation cells, .*--rules class --rules region"):
        stage.select(made, data, tmp_path / "out", split=data.parent / "split.json")
    assert not (tmp_path / "out").exists()


def test_without_its_run_a_set_keeps_its_card(data, made, tmp_path) -> None:
    manifest = read_manifest(made)
    shown = encode_png(picture(0, 0), set_marks(manifest.header))
    contents = {CARD: b"# All 60 were computed\n", CONTACT: shown, INTERPOLATION: shown}
    for name, content in contents.items():
        (made / name).write_bytes(content)
    companions = [Companion(file=name, sha256=sha256_bytes(content)) for name, content in contents.items()]
    write_manifest(made, Manifest(manifest.header, manifest.images, tuple(companions)))
    assert not verify(made)
    done = stage.select(made, data, tmp_path / "out", rules=("region",), split=data.parent / "split.json")
    assert not verify(done.folder)
    text = (done.folder / CARD).read_text(encoding="utf-8")
    assert text.startswith("# All 60 were computed\n")
    assert f"{60 - done.kept} of 60 images were dropped" in text
    assert f"lists the {done.kept} that are left" in text


def test_the_selected_set_names_its_run_from_where_it_lies_and_shows_masks(data, made, tmp_path) -> None:
    options = {"rules": ("region",), "split": data.parent / "split.json"}
    plain = stage.select(made, data, tmp_path / "plain", **options).folder
    assert read_manifest(plain).header.run == "../../run"
    before = read_manifest(made)
    entries = []
    for entry in before.images:
        mask, content = mask_file(entry.file), encode_png(np.ones((SIDE, SIDE), np.uint8), {})
        (made / mask).parent.mkdir(parents=True, exist_ok=True)
        (made / mask).write_bytes(content)
        entries.append(entry.model_copy(update={"mask": mask, "mask_sha256": sha256_bytes(content)}))
    write_manifest(made, Manifest(before.header, tuple(entries)))
    masked = stage.select(made, data, tmp_path / "masked", **options).folder
    sheets = [decode_png((folder / CONTACT).read_bytes())[0] for folder in (plain, masked)]
    assert len(sheets[1]) >= len(sheets[0]) + 2 * SIDE


@pytest.mark.parametrize(
    ("options", "says"),
    [({"rules": ("clas",)}, "class"), ({"rules": ()}, "one or more"), ({"share": 0.7}, "between 0 and 0.5")],
)
def test_options_without_sense_are_refused(data, made, tmp_path, options, says) -> None:
    with pytest.raises(ConfigError, match=says):
        stage.select(made, data, tmp_path / "out", split=data.parent / "split.json", **options)
    assert not (tmp_path / "out").exists()


def taught_by_features(folder: Path) -> None:
    """The set's generator becomes `auto`, which is trained against efficientnet-lite0."""
    before = read_manifest(folder)
    write_manifest(folder, Manifest(before.header.model_copy(update={"method": "auto"}), before.images))


@pytest.mark.parametrize(
    ("method", "networks", "says"),
    [
        ("wgan-gp", {"extractor": "mobilenet-v2"}, r"mobilenet-v2 is .*choose.*--judge efficientnet-lite0\."),
        ("wgan-gp", {"judge": "efficientnet-lite0@64"}, r"efficientnet-lite0 is .*--judge mobilenet-v2\."),
        ("auto", {"extractor": "mobilenet-v2"}, r"choose.*--judge timm:NAME\."),
        (
            "auto",
            {"extractor": "timm:resnet18", "judge": "efficientnet-lite0"},
            r"trained against.*--judge mobilenet-v2\.",
        ),
    ],
)
def test_who_chose_or_taught_does_not_judge(data, made, tmp_path, method, networks, says) -> None:
    if method == "auto":
        taught_by_features(made)
    with pytest.raises(ConfigError, match=says):
        stage.select(made, data, tmp_path / "out", split=data.parent / "split.json", **networks)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rules", "extractor", "told"),
    [
        (("region",), "efficientnet-lite0", True),
        (("region",), "timm:resnet18", False),
        (("copies",), "efficientnet-lite0", False),
    ],
)
def test_rules_that_see_by_what_the_generator_was_trained_against_say_so(
    data, made, tmp_path, rules, extractor, told
) -> None:
    taught_by_features(made)
    options = {"rules": rules, "extractor": extractor, "split": data.parent / "split.json"}
    done = command(made, real=data, out=tmp_path / "out", **options)
    written = json.loads((tmp_path / "out" / "selection.json").read_text(encoding="utf-8"))
    assert ("trained against" in done.text) == told
    assert (written["note"] is not None) == told


@pytest.mark.parametrize(
    ("count", "trained", "unchecked", "says"),
    [
        (8, 5, 3, "3 of 63 images were not checked for copies: their classes have fewer than 6 training"),
        (20, 12, 0, None),
    ],
)
def test_images_that_no_rule_could_drop_are_told(
    data, made, tmp_path, count, trained, unchecked, says
) -> None:
    """Noise under the name of a class with few real cells stays, and the command names the class."""
    real = tmp_path / "real"
    shutil.copytree(data, real)
    (real / "rare").mkdir()
    for seed in range(count):
        Image.fromarray(picture(0, 5000 + seed)).save(real / "rare" / f"{seed:02d}_0.png")
    split = split_cells(open_cells(real, group=r"(\w+/\d+)_"), (0.6, 0.1, 0.3))
    split.save(tmp_path / "split.json")
    own = [name for name in split.names("train") if name.startswith("rare")]
    assert len(own) == trained
    before = read_manifest(made)
    classes = (*CLASSES, "rare")
    header = before.header.model_copy(
        update={"classes": classes, "folders": class_folders(classes), "split_sha256": split.sha256}
    )
    entries = list(before.images)
    for seed in range(3):
        file = image_file(header.folders, "rare", seed)
        noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        content = encode_png(noise, image_marks(header, "rare", seed))
        (made / file).parent.mkdir(parents=True, exist_ok=True)
        (made / file).write_bytes(content)
        entries.append(
            Entry(file=file, label="rare", seed=seed, truncation=1.0, sha256=sha256_bytes(content))
        )
    write_manifest(made, Manifest(header, tuple(entries)))
    done = command(made, real=real, out=tmp_path / "out", split=tmp_path / "split.json")
    written = json.loads((tmp_path / "out" / "selection.json").read_text(encoding="utf-8"))
    assert "The rules (class and region) drop nothing of rare: fewer than 20 real training" in done.text
    assert written["spared"] == ["rare"]
    assert not any("rare" in file for rule in ("class", "region") for file in written["dropped"][rule])
    assert written["unchecked"] == unchecked
    assert "not checked" in done.text if says else "not checked" not in done.text
    assert (says or "") in written["note"]
    again = command(
        made, real=real, out=tmp_path / "copies", split=tmp_path / "split.json", rules=("copies",)
    )
    assert "drop nothing" not in again.text


def test_an_occupied_folder_is_refused(data, made) -> None:
    with pytest.raises(ConfigError, match=r"not an empty folder\. Choose another --out"):
        stage.select(made, data, made, split=data.parent / "split.json")
