import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import read_json
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.data.split import Split
from cytoforge.experiments import generators
from cytoforge.experiments.generators import Budget
from cytoforge.methods.catalogue import METHODS


def test_every_method_that_needs_no_large_model_competes():
    contestants = {*generators.UNCONDITIONED, *generators.PAINTERS}
    assert contestants - set(generators.VARIANTS) == set(METHODS) - {"text-to-image"}
    assert {method for method, _ in generators.VARIANTS.values()} < set(METHODS)


def test_painters_need_masks(tmp_path, tiny_cells):
    with pytest.raises(ConfigError, match="cytoforge mask"):
        generators.run_painters(tiny_cells, tmp_path / "out", "smoke")


@pytest.mark.slow
def test_painters_paint_onto_masks_of_validation_cells(tmp_path, monkeypatch):
    monkeypatch.setitem(generators.BUDGETS, "smoke", Budget(resolution=32, minutes=0.02, drawn=10))
    result = generators.run_painters(None, tmp_path, "smoke")
    assert set(result["numbers"]) == set(generators.PAINTERS), result["stopped"]
    run = Run.open(tmp_path / "pix2pix" / "run")
    validation = set(Split.load(run.split_path).names("val"))
    painted = [
        decode_png(path.read_bytes())[1]["Mask"] for path in (tmp_path / "pix2pix" / "masks").rglob("*.png")
    ]
    assert set(painted) == validation
    assert not (tmp_path / "syncgan" / "masks").exists()


@pytest.mark.slow
def test_methods_are_trained_drawn_judged_twice_and_kept(tmp_path, monkeypatch):
    settings = {"measure_every": 10**9, "generator_channels": 4, "critic_channels": 4, "most_channels": 8}
    monkeypatch.setitem(
        generators.BUDGETS, "smoke", Budget(resolution=32, minutes=0.02, drawn=10, settings=settings)
    )
    monkeypatch.setattr(generators, "UNCONDITIONED", ("auto", "wgan-gp"))
    result = generators.run(None, tmp_path, "smoke")
    assert set(result["numbers"]) == {"auto", "wgan-gp"}
    for numbers in result["numbers"].values():
        assert set(numbers) == set(generators.COLUMNS)
        assert numbers["images/s"] > 0
        assert 0.1 < numbers["GiB"] < 8
    assert (tmp_path / "cells.png").stat().st_size > 1000
    before = read_json(tmp_path / "auto" / "cost.json")
    again = generators.run(None, tmp_path, "smoke")
    assert again["numbers"]["auto"]["KID"] == result["numbers"]["auto"]["KID"]
    assert read_json(tmp_path / "auto" / "cost.json") == before
