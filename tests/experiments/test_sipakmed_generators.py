import json

import pytest

from cytoforge.experiments.sipakmed_generators import NUMBERS, contestants, parameters, run
from cytoforge.methods.catalogue import method_type
from cytoforge.stages.train import plan


def test_defaults_of_the_methods_are_the_sources_numbers():
    dense, autoencoder = (method_type(name).config_type() for name in ("cgan-dense", "cvae-source"))
    assert (dense.latent, 4 * dense.channels) == (NUMBERS.gan_noise, NUMBERS.gan_generator_filters[0])
    assert autoencoder.latent == NUMBERS.cvae_latent
    assert autoencoder.dropout == NUMBERS.cvae_dropout
    assert autoencoder.channels == NUMBERS.cvae_encoder_filters[0]


def test_parameters_are_those_of_the_docstring():
    counts = parameters()
    assert counts["cgan-dense"] == {"generator": 2_615_927, "discriminator": 6_879_233}
    assert counts["cvae-source"] == {"autoencoder": 3_684_480 + 13_085_315}


def test_settings_exist():
    for scale in ("smoke", "full"):
        for entry in contestants(scale).values():
            assert plan(entry.method, entry.preset, entry.settings).method.name == entry.method


@pytest.mark.slow
def test_smoke(tmp_path):
    result = run(None, tmp_path, "smoke")
    assert set(result["numbers"]) == {"real cells (floor)", "cgan-dense", "cgan", "cvae-source", "cvae"}
    assert all(
        numbers["kid"] > result["numbers"]["real cells (floor)"]["kid"]
        for name, numbers in result["numbers"].items()
        if name[0] == "c"
    )
    assert json.loads((tmp_path / "result.json").read_text())["judge"] == result["judge"]
    for name in (
        "cells.png",
        "curves.png",
        "table.md",
        "cvae/reconstructions.png",
        "cvae/interpolations.png",
    ):
        assert (tmp_path / name).is_file()
