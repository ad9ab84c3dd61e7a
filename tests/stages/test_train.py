import json

import pytest

from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import CheckpointError, ConfigError, DataError
from cytoforge.core.run import Run
from cytoforge.data.split import Split
from cytoforge.evaluation.ledger import Shown
from cytoforge.stages.train import plan, train

SMALL = {
    "latent": 8,
    "generator_channels": 4,
    "critic_channels": 4,
    "most_channels": 8,
    "batch": 16,
    "measure_every": 64,
    "measure_images": 8,
}


def go(data, run, images=64, extractor="", **options):
    return train(
        "wgan-gp", data, run, resolution=32, images=images, settings=SMALL, extractor=extractor, **options
    )


def test_a_folder_becomes_a_run_and_goes_on(tiny_cells, tmp_path):
    run = go(tiny_cells, tmp_path / "runs" / "my run", group=r"(\w+/\d+)_", extractor="efficientnet-lite0")
    assert run.config["classes"] == ["blue", "red"]
    assert run.config["preparation"]["resolution"] == 32
    assert run.config["settings"]["latent"] == 8
    split = Split.load(run.split_path)
    assert split.sha256 == run.config["split_sha256"]
    assert len(set(split.groups.values())) == 20
    shown = Shown.load(run.path)
    assert (len(shown.train), len(shown.val)) == (len(split.names("train")), len(split.names("val")))
    assert not set(shown.train) & set(shown.val)
    measured = [record for record in run.read_log() if record["kind"] == "measure"]
    assert measured[-1]["kid"] > 0
    again = go(tiny_cells, run.path, 128, group=r"(\w+/\d+)_", extractor="efficientnet-lite0", resume=True)
    assert load_checkpoint(again.checkpoints).state["seen"] == 128


def test_a_run_with_other_settings_is_not_touched(tiny_cells, tmp_path):
    run = go(tiny_cells, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="--resume"):
        go(tiny_cells, run.path)
    with pytest.raises(ConfigError, match=r"(?s)other settings.*seed: the run has 0, asked for 1"):
        go(tiny_cells, run.path, seed=1, resume=True)
    Split.load(run.split_path).model_copy(update={"seed": 1}).save(tmp_path / "other.json")
    with pytest.raises(ConfigError, match="not the split that"):
        go(tiny_cells, run.path, split=tmp_path / "other.json", resume=True)
    config = {**run.config, "method": "pix2pix"}
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="method: the run has pix2pix"):
        go(tiny_cells, run.path, resume=True)
    (run.path / "config.json").write_text(json.dumps(run.config, indent=1, ensure_ascii=False) + "\n")
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_data_that_changed_is_refused(tiny_cells, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(tiny_cells, data)
    run = go(data, tmp_path / "run")
    (data / "red" / "000_00.png").unlink()
    with pytest.raises(DataError, match="missing"):
        go(data, run.path, resume=True)


def test_resume_where_nothing_was_started_starts(tiny_cells, tmp_path):
    assert load_checkpoint(go(tiny_cells, tmp_path / "new", resume=True).checkpoints).state["seen"] == 64


def test_folder_that_is_no_run(tiny_cells, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="not an empty folder"):
        go(tiny_cells, tmp_path / "letters")
    with pytest.raises((ConfigError, CheckpointError)):
        go(tiny_cells, tmp_path / "letters", resume=True)
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["mine.txt"]


def test_presets_and_settings_are_checked_all_at_once():
    assert plan("wgan-gp", "paper", {}).settings.critic_steps == 5
    assert plan("wgan-gp", "cpu", {}).settings.critic_steps == 1
    mine = plan("wgan-gp", "cpu", {"critic_steps": "3", "batch": "32", "fit": "pad"})
    assert (mine.settings.critic_steps, mine.loop.batch, mine.preparation.fit) == (3, 32, "pad")
    with pytest.raises(ConfigError, match=r"(?s)2 settings.*latnt.*latent.*batch"):
        plan("wgan-gp", "cpu", {"latnt": "8", "batch": "-1"})
    with pytest.raises(ConfigError, match='Did you mean "paper"'):
        plan("wgan-gp", "papr", {})
    with pytest.raises(ConfigError, match="no method"):
        plan("wgam", None, {})


@pytest.mark.parametrize("asked", [{"minutes": 0}, {"minutes": -1.0}, {"images": 0}, {"images": -5}])
def test_a_training_of_no_length_is_refused(tiny_cells, tmp_path, asked):
    with pytest.raises(ConfigError, match=rf"--{next(iter(asked))} must be above 0"):
        train("wgan-gp", tiny_cells, tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()


def test_batch_must_fit_accumulation(tiny_cells, tmp_path):
    with pytest.raises(ConfigError, match="multiple of 3"):
        train("wgan-gp", tiny_cells, tmp_path / "run", settings={**SMALL, "accumulate": 3}, images=64)
    assert not (tmp_path / "run").exists()


def test_wrong_resolution_leaves_nothing_behind(tiny_cells, tmp_path):
    with pytest.raises(ConfigError, match="32, 64, 128 or 256"):
        train("wgan-gp", tiny_cells, tmp_path / "run", resolution=48, images=64)
    assert not (tmp_path / "run").exists()


def test_run_opens_again(tiny_cells, tmp_path):
    run = go(tiny_cells, tmp_path / "run")
    assert Run.open(run.path).config == run.config
