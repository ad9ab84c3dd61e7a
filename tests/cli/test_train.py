import json

import pytest

from cytoforge.cli.main import run
from cytoforge.cli.train import parse_count
from cytoforge.core.errors import ConfigError

SMALL = [
    "latent=8",
    "generator_channels=4",
    "critic_channels=4",
    "most_channels=8",
    "batch=16",
    "measure_images=10",
]


def command(data, folder, *more):
    settings = [word for pair in SMALL for word in ("--set", pair)]
    return ["train", "wgan-gp", str(data), "--run", str(folder), "--resolution", "32", *settings, *more]


@pytest.mark.parametrize(("text", "count"), [("400k", 400_000), ("1_000", 1000), ("2M", 2_000_000), ("7", 7)])
def test_counts(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "k", "many", "-5", "0", "1e999"])
def test_counts_that_are_none(text):
    with pytest.raises(ConfigError, match="400k"):
        parse_count(text)


def test_trains_says_what_came_out_and_resumes(tiny_cells, tmp_path, capsys):
    assert run([*command(tiny_cells, tmp_path / "run", "--images", "48"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["seen"] == 48
    assert facts["measure"]["kid"] > 0
    assert run([*command(tiny_cells, tmp_path / "run", "--images", "96"), "--json", "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["seen"] == 96


def test_config_file_gives_what_the_command_line_does_not(tiny_cells, tmp_path, capsys):
    settings = "".join(f"  {pair.replace('=', ': ')}\n" for pair in SMALL)
    file = tmp_path / "train.yaml"
    file.write_text(
        f"method: wgan-gp\ndata: {tiny_cells}\nimages: 96\nresolution: 32\nseed: 5\nsettings:\n{settings}"
    )
    assert (
        run(["train", "--config", str(file), "--run", str(tmp_path / "run"), "--images", "32", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["seen"] == 32
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["seed"], config["settings"]["latent"]) == (5, 8)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["train", "wgan-gp"], "missing: data, run"),
        (["train", "wgan-gp", "x", "--run", "y", "--set", "latent"], "key=value"),
        (["train", "wgan-gp", "x", "--run", "y", "--images", "lots"], "400k"),
    ],
)
def test_what_is_wrong_is_said(words, hint, capsys):
    assert run(words) == 2
    assert hint in capsys.readouterr().err


def test_bench_prints_the_ratio(capsys):
    assert run(["bench", "step", "--resolution", "32", "--rounds", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ratio"] > 0
