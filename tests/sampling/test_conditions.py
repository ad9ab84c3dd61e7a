"""Sets of images that were drawn from masks or edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cytoforge.core.checkpoint import save_checkpoint
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import write_json
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.data.cache import mask_channels, mask_levels
from cytoforge.data.folder import open_cells, read_mask
from cytoforge.data.transform import Preparation
from cytoforge.methods.catalogue import rebuild
from cytoforge.sampling.conditions import open_edges, open_masks, write_masks
from cytoforge.sampling.generate import generate
from cytoforge.sampling.generator import open_generator
from cytoforge.sampling.provenance import read_manifest, verify

PAINTER = {"width": 4, "most_width": 8, "norm": "group", "discriminator_width": 4, "noise_channels": 1}
MASKS = {"mask_network": "convolutional", "mask_width": 4, "mask_most_width": 8, "latent": 8}
WANTED = [(name, seed) for name in ("a", "b/c") for seed in (0, 1, 9)]


FLOW = {"channels": 8, "blocks": 1, "steps": 2, "condition": "edges", "sampling": "32-true"}
SETTINGS = {"pix2pix": PAINTER, "syncgan": {**PAINTER, **MASKS}, "diffusion": FLOW}


def run_of(path: Path, method: str) -> Run:
    config = {
        "method": method,
        "settings": SETTINGS[method],
        "preparation": {"resolution": 32, "fit": "crop", "denoise": 0.0},
        "classes": ["a", "b/c"],
        "mask_channels": 0 if method == "diffusion" else 2,
        "split_sha256": None,
    }
    run = Run.create(path, config)
    write_json(run.split_path, {"parts": {}, "groups": {}})
    torch.manual_seed(0)
    model = rebuild(config)
    with torch.no_grad():
        for network in model.networks.values():
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    tensors = {
        f"{kind}/{name}/{key}": tensor.clone()
        for name, module in model.networks.items()
        for key, tensor in module.state_dict().items()
        for kind in ("network", "average")
    }
    save_checkpoint(run.checkpoints, tensors, {"seen": 64, "score": 0.5})
    return run


def masks_in(root: Path, count: int = 3) -> Path:
    for name in ("a", "b%2Fc"):
        folder = root / "masks" / name
        folder.mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((48, 48), np.uint8)
            mask[8:40, 8:40] = 1
            mask[16 : 20 + 4 * index, 16:30] = 2
            mask[0, 0] = 3
            Image.fromarray(mask).save(folder / f"{index}.png")
    return root


def test_given_masks_become_part_of_the_set(tmp_path: Path) -> None:
    run, masks = run_of(tmp_path / "run", "pix2pix"), masks_in(tmp_path / "masks of mine")
    made = generate(run, tmp_path / "set", WANTED, masks=masks)
    assert (made.images, verify(tmp_path / "set")) == (6, [])
    manifest = read_manifest(tmp_path / "set")
    assert manifest.header.masks_sha256 is not None
    source = open_masks(masks, ("a", "b/c"), Preparation(resolution=32))
    for entry in manifest.images:
        assert entry.mask == f"masks/{entry.file}"
        levels, marks = decode_png((tmp_path / "set" / entry.mask).read_bytes(), "L")
        np.testing.assert_array_equal(levels, mask_levels(source.of(entry.label, entry.seed)[None])[0])
        assert levels.max() == 2
        assert (marks["Synthetic"], marks["Class"]) == ("true", entry.label)
    assert "given masks" in (tmp_path / "set" / "CARD.md").read_text()


def test_a_set_with_masks_is_a_data_set_with_masks(tmp_path: Path) -> None:
    generate(run_of(tmp_path / "run", "syncgan"), tmp_path / "set", WANTED)
    cells = open_cells(tmp_path / "set")
    assert cells.classes == ("a", "b%2Fc")
    masks = [read_mask(cell) for cell in cells.cells]
    assert len(masks) == 6
    assert all(mask is not None and mask.shape == (32, 32) for mask in masks)
    again = generate(run_of(tmp_path / "pix", "pix2pix"), tmp_path / "more", WANTED, masks=tmp_path / "set")
    assert again.made == 6


def test_the_method_draws_its_own_masks(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "syncgan")
    generate(run, tmp_path / "set", WANTED)
    assert read_manifest(tmp_path / "set").header.masks_sha256 is None
    assert "drew first" in (tmp_path / "set" / "CARD.md").read_text()
    generator = open_generator(run)
    drawn = generator.draw(1, [0, 1, 9])
    alone = generator.draw(1, [9])
    assert drawn.masks is not None
    assert alone.masks is not None
    assert (drawn.images[2] == alone.images[0]).all()
    assert (drawn.masks[2] == alone.masks[0]).all()
    given = generator.draw(1, [9], condition=mask_channels(alone.masks))
    assert (given.images == alone.images).all()
    file = tmp_path / "set" / "masks" / "a" / "a_00000009.png"
    np.testing.assert_array_equal(decode_png(file.read_bytes(), "L")[0], generator.draw(0, [9]).masks[0])  # type: ignore[index]


def test_changed_and_missing_masks_are_found_and_made_again(tmp_path: Path) -> None:
    run, out = run_of(tmp_path / "run", "syncgan"), tmp_path / "set"
    generate(run, out, WANTED)
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "masks" / "a" / "a_00000000.png").unlink()
    changed = out / "masks" / "a" / "a_00000001.png"
    changed.write_bytes(changed.read_bytes()[:-20])
    (out / "masks" / "extra.png").write_bytes(b"x")
    problems = {problem.file for problem in verify(out)}
    assert problems == {"masks/a/a_00000000.png", "masks/a/a_00000001.png", "masks/extra.png"}
    (out / "masks" / "extra.png").unlink()
    made = generate(run, out, WANTED)
    assert (made.made, made.kept) == (2, 4)
    assert before == {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "pix2pix")
    with pytest.raises(ConfigError, match="--masks FOLDER"):
        generate(run, tmp_path / "set", WANTED)
    with pytest.raises(DataError, match="not a folder"):
        generate(run, tmp_path / "set", WANTED, masks=tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no masks of any class"):
        generate(run, tmp_path / "set", WANTED, masks=tmp_path / "empty")
    some = masks_in(tmp_path / "some")
    for path in (some / "masks" / "a").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="no masks of class 'a'"):
        generate(run, tmp_path / "another", WANTED, masks=some)
    made = generate(run, tmp_path / "other", [("b/c", 0)], masks=some)
    assert made.images == 1


def images_in(root: Path, count: int = 3) -> Path:
    """Squares of another size in each image, so that all edges differ."""
    for name in ("a", "b%2Fc"):
        (root / name).mkdir(parents=True)
        for index in range(count):
            image = np.full((32, 32, 3), 250, np.uint8)
            image[4 : 12 + 4 * index, 4:20] = 20
            Image.fromarray(image).save(root / name / f"{index}.png")
    return root


def test_edges_are_those_of_the_image_at_the_seeds_place(tmp_path: Path) -> None:
    source = open_edges(images_in(tmp_path / "cells"), ("a", "b/c"), Preparation(resolution=32))
    found = [source.of("b/c", seed) for seed in (0, 1, 2, 3)]
    assert found[0].shape == (1, 32, 32)
    assert torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[1])
    assert found[0][0, 4, 10] == 1
    assert found[0][0, 8, 10] == 0
    other = images_in(tmp_path / "more", count=2)
    assert source.sha256 != open_edges(other, ("a", "b/c"), Preparation(resolution=32)).sha256


def test_given_edges_steer_and_belong_to_the_generator(tmp_path: Path) -> None:
    run, images = run_of(tmp_path / "run", "diffusion"), images_in(tmp_path / "cells")
    made = generate(run, tmp_path / "set", WANTED, edges=images)
    assert (made.images, verify(tmp_path / "set")) == (6, [])
    manifest = read_manifest(tmp_path / "set")
    assert manifest.header.edges_sha256 is not None
    assert manifest.header.masks_sha256 is None
    assert all(entry.mask is None for entry in manifest.images)
    card = (tmp_path / "set" / "CARD.md").read_text()
    assert "follow those of a given image" in card
    assert "--edges IMAGES" in card
    generator = open_generator(run)
    source = open_edges(images, ("a", "b/c"), Preparation(resolution=32))
    image = decode_png((tmp_path / "set" / "a" / "a_00000009.png").read_bytes())[0]
    assert (image == generator.images(0, [9], condition=source.of("a", 9)[None])[0]).all()
    assert (image != generator.images(0, [9])[0]).any()
    with pytest.raises(ConfigError, match="different: edges_sha256"):
        generate(run, tmp_path / "set", WANTED, edges=images_in(tmp_path / "more", count=2))
    again = generate(run, tmp_path / "loky", WANTED, edges=images, executor="loky", workers=1)
    assert again.made == 6
    for entry in manifest.images:
        assert (tmp_path / "loky" / entry.file).read_bytes() == (tmp_path / "set" / entry.file).read_bytes()


def test_edges_are_refused_where_they_are_not_followed(tmp_path: Path) -> None:
    images = images_in(tmp_path / "cells")
    with pytest.raises(ConfigError, match="--edges: this pix2pix was not trained to follow edges"):
        generate(run_of(tmp_path / "run", "pix2pix"), tmp_path / "set", WANTED, edges=images)
    flow = run_of(tmp_path / "flow", "diffusion")
    with pytest.raises(ConfigError, match="--masks"):
        generate(flow, tmp_path / "set", WANTED, masks=masks_in(tmp_path / "masks"))
    with pytest.raises(DataError, match="no images of any class"):
        generate(flow, tmp_path / "set", WANTED, edges=_renamed(images))
    assert not (tmp_path / "set").exists()


def _renamed(images: Path) -> Path:
    for number, folder in enumerate(sorted(images.iterdir())):
        folder.rename(images / f"other {number}")
    return images


def test_only_masks_that_training_uses_are_written_and_as_many_views_as_each_class_needs(
    tmp_path: Path,
) -> None:
    cells, corner = tmp_path / "cells", np.zeros((20, 20), np.uint8)
    corner[:6, :3] = 2
    damaged = {("a", 1): np.full((20, 20), 3, np.uint8), ("a", 2): corner[:9, :9]}  # unknown, of another size
    for name, count in (("a", 5), ("b", 2)):
        for folder in ("images", "masks"):
            (cells / folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (20, 20), (40 * number, 9, 9)).save(cells / "images" / name / f"{number}.png")
            mask = damaged.get((name, number), corner)
            Image.fromarray(mask).save(cells / "masks" / name / f"{number}.png")
    opened = open_cells(cells)
    names = [cell.name for cell in opened.cells if not cell.name.endswith("4.png")]
    write_masks(opened, names, tmp_path / "given", per_class=5)
    written = {name: sorted((tmp_path / "given" / "masks" / name).iterdir()) for name in ("a", "b")}
    assert {name: len(paths) for name, paths in written.items()} == {"a": 2 * 3, "b": 2 * 3}
    pictures = [decode_png(path.read_bytes(), "L")[0] for path in written["a"]]
    assert all(np.array_equal(picture, corner) for picture in pictures[:2])
    assert np.array_equal(pictures[2], np.rot90(corner))
