import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cytoforge.cli.main import run as cytoforge
from cytoforge.core.batch import to_float
from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.png import decode_png
from cytoforge.data.folder import decode
from cytoforge.data.transform import Preparation, prepare
from cytoforge.diffusion.pretrained import open_backbone
from cytoforge.methods.text_to_image import TextToImage, TextToImageConfig
from cytoforge.networks.unet import edges as outlines
from cytoforge.stages.generate import generate
from cytoforge.stages.phantom import phantom
from cytoforge.stages.text_to_image import Sketch, draw
from cytoforge.stages.train import train

SIZES = {"size": 32, "steps": 2, "guidance": 1.0, "weights": "32-true"}
SMALL = {**SIZES, "rank": 2, "learning_rate": 1e-2, "batch": 4, "precision": "32-true"}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text-to-image") / "phantom"
    phantom(folder, per_class=8, size=32)
    return folder


def trained(model, cells, folder, **settings):
    wanted = {**SMALL, "checkpoint": str(model), **settings}
    return train(
        "text-to-image", cells, folder, resolution=16, images=8, preset="cpu", settings=wanted, extractor=""
    )


def pixels(files):
    return decode_png(files[0].read_bytes())[0]


def test_cells_become_a_run_and_a_run_a_set_and_pictures(tiny_stable_diffusion, cells, tmp_path, capsys):
    model = str(tiny_stable_diffusion)
    run = trained(model, cells, tmp_path / "run", condition="masks")
    assert load_checkpoint(run.checkpoints).state["seen"] == 8
    assert len(list(run.samples.glob("*.png"))) == 1
    made = generate(run.path, tmp_path / "set", per_class=1, masks=cells)
    assert made.images == 5
    assert len(list((tmp_path / "set" / "masks").rglob("*.png"))) == 5

    def drawn(name, *more):
        words = ["text-to-image", model, "--run", str(run.path), "--prompt", "a cell", "--seeds", "3"]
        assert cytoforge([*words, "--out", str(tmp_path / name), "--json", *more]) == 0
        assert json.loads(capsys.readouterr().out)["images"] == ["00000003.png"]
        return pixels([tmp_path / name / "00000003.png"])

    settings = {"size": 32, "steps": 2, "guidance": 1.0}
    wanted = draw(model, "a cell", tmp_path / "wanted", "3", run=run.path, settings=settings)
    assert np.array_equal(drawn("as the run"), pixels(wanted))
    assert not np.array_equal(drawn("guided", "--guidance", "4"), pixels(wanted))
    assert drawn("larger", "--size", "64").shape == (64, 64, 3)
    drawn("as the run")
    assert cytoforge(["verify", str(tmp_path / "as the run")]) == 0
    assert str(tmp_path) not in (tmp_path / "as the run" / "manifest.jsonl").read_text()
    with pytest.raises(ConfigError, match="made otherwise"):
        draw(model, "a nucleus", tmp_path / "as the run", "3", run=run.path, settings=settings)
    with pytest.raises(ConfigError, match="control network of edges"):
        draw(model, "a cell", tmp_path / "no", "3", run=run.path, sketch=Sketch(edges=True))
    picture = next((tmp_path / "wanted").glob("*.png"))
    with pytest.raises(ConfigError, match="more than 0 and at most 1"):
        draw(model, "a cell", tmp_path / "no", "3", run=run.path, sketch=Sketch(picture, strength=0.0))
    with pytest.raises(ConfigError, match="give --image"):
        draw(model, "a cell", tmp_path / "no", "3", run=run.path, sketch=Sketch(strength=0.5))


def test_without_a_run_sizes_are_the_defaults(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "cytoforge.stages.text_to_image.draw", lambda *_, **words: asked.append(words["settings"]) or []
    )
    words = ["text-to-image", "model", "--prompt", "a cell", "--out", str(tmp_path)]
    assert cytoforge(words) == cytoforge([*words, "--steps", "3"]) == 0
    assert asked == [{}, {"steps": 3}]
    config = TextToImageConfig()
    assert (config.guidance, config.steps, config.size) == (4.0, 25, 512)


def test_edges_of_a_picture_steer_what_was_trained_on_edges(tiny_flux, tiny_cells, tmp_path):
    model = str(tiny_flux)
    run = trained(model, tiny_cells, tmp_path / "run", condition="edges")
    assert run.config["mask_channels"] == 0
    generate(run.path, tmp_path / "plain", per_class=1)
    generate(run.path, tmp_path / "steered", per_class=1, edges=tiny_cells)
    plain, steered = (sorted((tmp_path / name / "red").iterdir()) for name in ("plain", "steered"))
    assert len(plain) == len(steered) == 1
    assert not np.array_equal(pixels(plain), pixels(steered))
    pictures = {
        name: draw(model, "a cell", tmp_path / str(name), "0", run=run.path, sketch=Sketch(control=picture))
        for name, picture in enumerate([None, *sorted((tiny_cells / "red").iterdir())[:2]])
    }
    assert not np.array_equal(pixels(pictures[0]), pixels(pictures[1]))
    assert not np.array_equal(pixels(pictures[1]), pixels(pictures[2]))


def test_outlines_of_a_picture_are_those_of_training(
    tiny_stable_diffusion, tiny_cells, tmp_path, monkeypatch
):
    """A run hears outlines at its own resolution, enlarged; a published control network at full size."""
    model, picture = str(tiny_stable_diffusion), min((tiny_cells / "red").iterdir())
    run = trained(model, tiny_cells, tmp_path / "run", condition="edges")
    seen, drawn = [], TextToImage.draw

    def watched(self, noise, prompts, free, condition=None, *rest):
        seen.append(condition)
        return drawn(self, noise, prompts, free, condition, *rest)

    monkeypatch.setattr(TextToImage, "draw", watched)
    draw(model, "a cell", tmp_path / "a", "0", run=run.path, sketch=Sketch(control=picture))
    cell = prepare(decode(picture), Preparation.model_validate(run.config["preparation"]))
    assert torch.equal(seen[0], outlines(to_float(np.stack([cell]))))
    open_backbone(model, 32, "32-true").new_control().save_pretrained(tmp_path / "control")
    sketch = Sketch(control=picture, controlnet=str(tmp_path / "control"), edges=True)
    draw(model, "a cell", tmp_path / "b", "0", run=run.path, sketch=sketch)
    assert (seen[0].shape, seen[1].shape) == ((1, 1, 16, 16), (1, 1, 32, 32))


def test_masks_of_this_package_steer(tiny_stable_diffusion, tmp_path):
    model, place = str(tiny_stable_diffusion), tmp_path / "controlnet"
    control = open_backbone(model, 32, "32-true").new_control()
    for parameter in control.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    control.save_pretrained(place)
    levels = np.zeros((40, 48), np.uint8)
    levels[6:34, 10:38], levels[14:26, 18:30] = 1, 2
    colours = np.dstack([levels, 2 * levels, 3 * levels])
    masks = {"levels": levels, "grey": np.array([0, 128, 255], np.uint8)[levels], "none": levels * 0}
    for name, picture in {**masks, "colours": colours}.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")

    def drawn(name, **words):
        sketch = Sketch(control=tmp_path / f"{name}.png", controlnet=str(place), **words)
        out = tmp_path / f"{name} {'edges' if words else 'mask'}"
        return pixels(draw(model, "a cell", out, "0", sketch=sketch, settings=SIZES))

    assert np.array_equal(drawn("levels"), drawn("grey"))
    assert not np.array_equal(drawn("levels"), drawn("none"))
    assert not np.array_equal(drawn("levels"), drawn("grey", edges=True))
    with pytest.raises(DataError, match="expected a mask"):
        drawn("colours")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_stable_diffusion", "tiny_flux"])
def test_two_gloo_processes(model, cells, tmp_path, request):
    """Dealt out to two processes, a training gives the weights of one."""
    settings = {**SMALL, "measure_every": 10**9, "measure_images": 10, "condition": "masks"}
    settings["checkpoint"] = request.getfixturevalue(model)
    tensors = []
    for count in (1, 2):
        run = tmp_path / f"run{count}"
        words = ["train", "text-to-image", cells, "--run", run, "--resolution", 16, "--images", 16]
        words += ["--preset", "default", "--processes", count]
        words += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "cytoforge", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        tensors.append(load_checkpoint(run / "checkpoints").tensors)
    one, two = tensors
    assert one.keys() == two.keys()
    weights = [(one[key].double(), two[key].double()) for key in one if key.startswith("network/")]
    apart = torch.stack([(first - second).norm() for first, second in weights]).norm()
    assert apart / torch.stack([first.norm() for first, _ in weights]).norm() < 1e-4
