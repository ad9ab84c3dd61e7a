"""Weights to start from: small, without a trace of the cells, and `train --from` takes them."""

from __future__ import annotations

import json

import pytest
import torch

from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import ConfigError
from cytoforge.core.run import Run
from cytoforge.stages.starting_weights import (
    LARGEST,
    SIMULATED,
    shipped_weights,
    write_starting_weights,
)
from cytoforge.stages.train import train
from cytoforge.training.loop import LoopConfig
from cytoforge.training.warm_start import starting_tensors

SMALL = {"latent": 8, "generator_channels": 4, "critic_channels": 4, "most_channels": 8, "batch": 16}
GROUP = r"(\w+/\d+)_"


@pytest.fixture(scope="module")
def trained(tiny_cells, tmp_path_factory):
    place = tmp_path_factory.mktemp("weights") / "run"
    return train(
        "wgan-gp", tiny_cells, place, images=32, resolution=32, extractor="", group=GROUP, settings=SMALL
    )


def test_half_precision_weights_that_name_no_cell_and_start_a_training(trained, tiny_cells, tmp_path):
    out = tmp_path / "weights"
    file = write_starting_weights(trained.path, out, "simulated cells", "No patient's cell was used.")
    whole = load_checkpoint(trained.checkpoints, "best").tensors
    assert file.stat().st_size < sum(tensor.numel() for tensor in whole.values())
    kept = load_checkpoint(Run.open(out).checkpoints).tensors
    assert {name.partition("/")[0] for name in kept} == {"average", "network"}
    key = "average/generator/output.weight"
    assert kept[key].dtype == torch.float16
    assert torch.allclose(kept[key].float(), whole[key], rtol=1e-3)
    assert "network/generator/output.weight" not in kept
    words = "".join(path.read_text() for path in out.rglob("*.json")) + (out / "CARD.md").read_text()
    assert str(tiny_cells) not in words
    assert "red" in json.loads((out / "config.json").read_text())["classes"]
    assert "000_" not in words
    begun = train(
        "wgan-gp", tiny_cells, tmp_path / "begun", images=16, extractor="", group=GROUP, start=out, freeze=()
    )
    assert begun.config["settings"] == trained.config["settings"]
    before, after = (
        kept[key].float(),
        load_checkpoint(begun.checkpoints).tensors["network/generator/output.weight"],
    )
    assert 0 < (before - after).abs().max() < 0.01


def test_the_same_parts_start_a_refinement(trained, tmp_path):
    """What is left out is what `starting_tensors` leaves out."""
    out = tmp_path / "weights"
    write_starting_weights(trained.path, out, "simulated cells", "No patient's cell was used.")
    from cytoforge.methods.catalogue import rebuild

    method = rebuild(trained.config)
    every = load_checkpoint(trained.checkpoints, "best").tensors
    kept = load_checkpoint(Run.open(out).checkpoints).tensors
    assert starting_tensors(method, every).keys() == starting_tensors(method, kept).keys()


def test_images_of_a_cycle_and_the_run_before_are_left_out(tiny_cells, tmp_path):
    settings = {"source": "red", "channels": 4, "blocks": 1, "discriminator_channels": 4, "halvings": 2}
    options = {"images": 16, "extractor": "", "group": GROUP}
    first = train(
        "cyclegan", tiny_cells, tmp_path / "first", resolution=32, preset="default",
        settings={**settings, "batch": 8}, **options,
    )  # fmt: skip
    run = train("cyclegan", tiny_cells, tmp_path / "run", start=first.path, **options)
    assert load_checkpoint(run.checkpoints).tensors["network/target_buffer/images"].any()
    out = tmp_path / "weights"
    write_starting_weights(run.path, out, "simulated cells", "No patient's cell was used.")
    kept = load_checkpoint(Run.open(out).checkpoints).tensors
    for name in ("source_buffer", "target_buffer"):
        assert kept[f"network/{name}/images"].shape[1:] == (3, 32, 32)
        assert not kept[f"network/{name}/images"].any()
        assert not kept[f"network/{name}/filled"]
    config = json.loads((out / "config.json").read_text())
    assert not {"base", "frozen"} & config.keys()
    assert str(tmp_path) not in json.dumps(config)
    train("cyclegan", tiny_cells, tmp_path / "begun", start=out, **options)


def test_larger_ones_are_refused(trained, tmp_path):
    with pytest.raises(ConfigError, match=r"more than 0\.0 MB"):
        write_starting_weights(trained.path, tmp_path / "weights", "cells", "Ours.", largest=1000)
    assert not (tmp_path / "weights").exists()


def test_the_package_comes_with_small_weights_of_simulated_cells_that_start_a_training(tiny_cells, tmp_path):
    place = shipped_weights("auto")
    assert sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) < LARGEST
    assert "simulated cells only" in (place / "CARD.md").read_text()
    run = train("auto", tiny_cells, tmp_path / "run", images=8, extractor="", group=GROUP, start=SIMULATED,
                settings={"batch": 8})  # fmt: skip
    assert (run.config["base"], run.config["frozen"], run.config["preset"]) == (str(place), [], "cpu")
    assert run.config["loop"]["measure_every"] == LoopConfig().measure_every, "not the experiment's"
    before = load_checkpoint(Run.open(place).checkpoints).tensors["average/generator/generator.output.weight"]
    after = load_checkpoint(run.checkpoints).tensors["network/generator/generator.output.weight"]
    assert 0 < (before.float() - after).abs().max() < 0.01, "one step away"


def test_what_has_no_weights_in_the_package_says_so(tiny_cells, tmp_path):
    with pytest.raises(ConfigError, match="come with the package for wgan-gp, only for auto"):
        train("wgan-gp", tiny_cells, tmp_path / "run", images=8, start=SIMULATED)
    assert not (tmp_path / "run").exists()
