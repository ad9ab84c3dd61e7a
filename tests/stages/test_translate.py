import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cytoforge.cli.main import run as cytoforge
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.data.folder import open_cells
from cytoforge.methods.cyclegan import CycleGAN
from cytoforge.stages.paired_names import paired_names
from cytoforge.stages.phantom import phantom
from cytoforge.stages.train import train
from cytoforge.stages.translate import _checked, translate

SMALL = {
    **{"batch": 4, "precision": "32-true", "channels": 4, "blocks": 1},
    **{"discriminator_channels": 4, "halvings": 2, "average_half_life": 1},
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translate") / "cells"
    phantom(folder, per_class=10, size=40)
    return folder


@pytest.fixture(scope="module")
def stains(tmp_path_factory, tiny_cells):
    return train(
        "cyclegan", tiny_cells, tmp_path_factory.mktemp("runs") / "stains", resolution=32, images=8,
        preset="default", settings={**SMALL, "source": "blue"}, extractor="",
    )  # fmt: skip


def test_masks_become_cells_and_the_check_sees_nucleus_and_background(cells, tmp_path, capsys):
    words = [f"--set={key}={value}" for key, value in SMALL.items()]
    run = [
        "train",
        "cyclegan",
        str(cells),
        "--run",
        str(tmp_path / "run"),
        "--resolution",
        "32",
        "--images",
        "8",
    ]
    assert cytoforge([*run, "--preset", "default", *words]) == 0
    capsys.readouterr()
    code = cytoforge(
        ["translate", str(tmp_path / "run"), str(cells), "--out", str(tmp_path / "out"), "--json"]
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["images"] == 50
    assert facts["measure"] == "contrast of nucleus"
    assert facts["swapped_real"] < 0.1
    assert code == (3 if facts["failed"] else 0)
    assert len(list((tmp_path / "out").glob("*/*.png"))) == 50
    assert (tmp_path / "out" / "translations.png").is_file()
    assert cytoforge(["verify", str(tmp_path / "out")]) == 0
    next((tmp_path / "out").glob("*/*.png")).unlink()
    assert cytoforge(["verify", str(tmp_path / "out")]) == 3


def test_only_cells_of_the_other_stain_are_translated_and_become_the_target(stains, tiny_cells, tmp_path):
    there = translate(stains.path, tiny_cells, tmp_path / "there")
    assert there.measure == "correlation of light"
    assert there.swapped_real is None
    assert there.images == 40
    assert -1 <= there.median <= 1
    back = translate(stains.path, tiny_cells, tmp_path / "back", to="blue")
    assert back.images == 40
    for out, place, source in (("there", "red", "blue"), ("back", "blue", "red")):
        files = sorted(path.relative_to(tmp_path / out).as_posix() for path in (tmp_path / out).rglob("*_*"))
        assert files == sorted(f"{place}/{source}_{path.name}" for path in (tiny_cells / source).iterdir())
    assert np.asarray(Image.open(tmp_path / "there" / "red" / "blue_000_00.png")).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("sample", "contrast", "says"),
    [
        (torch.zeros_like, 0, "contrast collapsed to 0.0%"),
        (lambda condition: condition * 0.05, 0.05, "contrast collapsed to 5"),
        (lambda condition: condition, 1, None),
    ],
)
def test_a_collapsed_translator_fails_the_check(
    stains, tiny_cells, tmp_path, monkeypatch, sample, contrast, says
):
    monkeypatch.setattr(CycleGAN, "sample", lambda self, noise, labels, condition: sample(condition))
    done = translate(stains.path, tiny_cells, tmp_path / "out")
    assert done.contrast == pytest.approx(contrast, abs=0.01)
    assert done.failed == (says is not None)
    assert says is None or says in done.reason


def masked(count, nuclei):
    """Cells of light 200, nuclei of 100 in their masks; the others have no nucleus in the mask."""
    masks = np.ones((count, 4, 4), np.uint8)
    masks[:nuclei, 1:3, 1:3] = 2
    images = np.where(masks == 2, 100, 200).astype(np.uint8)[..., None].repeat(3, axis=3)
    return SimpleNamespace(images=images, masks=masks)


def test_contrast_of_nuclei_by_hand():
    """The real contrast is 100; a twentieth is too little, a fifth is not, and a swap of it is a swap."""
    cells = masked(4, nuclei=4)
    nuclei = (cells.masks == 2)[..., None]
    for light, contrast, says in ((150, 0, "0.0%"), (145, 0.05, "5.0%"), (130, 0.2, None), (250, 1, "exch")):
        made = np.where(nuclei, light, 150).astype(np.uint8).repeat(3, axis=3)
        found = _checked(cells, made, made, masks=True)
        assert found.contrast == pytest.approx(contrast)
        assert found.failed == (says is not None)
        assert says is None or says in found.reason


@pytest.mark.parametrize(("nuclei", "known"), [(0, None), (1, False), (2, True)])
def test_a_check_that_knows_little_fails(nuclei, known):
    cells = masked(4, nuclei)
    found = _checked(cells, cells.images, cells.images, masks=True)
    assert found.failed == (not known)
    assert known or found.reason == f"only {nuclei} of 4 images tell light from dark"
    assert found.swapped == (None if known is None else 0)


def test_cells_of_the_target_do_not_dilute_the_check(stains, tiny_cells, tmp_path, monkeypatch):
    """A translator that exchanges light and dark in every cell of the source, and leaves the target alone."""

    def sample(self, noise, labels, condition):
        blue = condition[:, 2].mean((1, 2)) > condition[:, 0].mean((1, 2))
        return torch.where(blue[:, None, None, None], -condition, condition)

    monkeypatch.setattr(CycleGAN, "sample", sample)
    done = translate(stains.path, tiny_cells, tmp_path / "out")
    assert done.swapped == 1
    assert done.failed


def test_equal_file_names_do_not_overwrite_each_other(stains, tiny_cells, tmp_path):
    for part in ("train", "test"):
        for name in ("blue", "red"):
            shutil.copytree(tiny_cells / name, tmp_path / "cells" / part / name)
    done = translate(stains.path, tmp_path / "cells", tmp_path / "out")
    assert done.images == 80
    assert len(list((tmp_path / "out" / "red").iterdir())) == 80
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), np.uint8)
    parts = ("train", "val", "test")
    np.savez(
        tmp_path / "cells.npz",
        **{f"{part}_images": pixels for part in parts},
        **{f"{part}_labels": np.array([[0], [1]]) for part in parts},
    )
    names = paired_names(open_cells(tmp_path / "cells.npz").cells)
    assert len(set(names)) == 6
    assert sorted(names)[0] == "0/cells.npz_test_0"


def test_what_does_not_fit_is_refused(stains, tiny_cells, tmp_path):
    with pytest.raises(ConfigError, match="no class 'green'"):
        translate(stains.path, tiny_cells, tmp_path / "out", to="green")
    for name in ("pale", "dark"):
        shutil.copytree(tiny_cells / "red", tmp_path / "cells" / name)
    with pytest.raises(DataError, match="expected cells of class 'blue', found 'dark', 'pale'"):
        translate(stains.path, tmp_path / "cells", tmp_path / "out")
