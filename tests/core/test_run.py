import pytest

from cytoforge.core.errors import CheckpointError, ConfigError
from cytoforge.core.record import Record
from cytoforge.core.run import ANOTHER_OUT, Run, require_empty


def test_create_open_and_refuse(tmp_path):
    run = Run.create(tmp_path / "a b", {"method": "x"})
    assert Run.open(run.path).config == {"format": 1, "method": "x"}
    with pytest.raises(ConfigError, match="--resume"):
        Run.create(run.path, {})
    with pytest.raises(CheckpointError, match="not a run folder"):
        Run.open(tmp_path)
    (run.path / "config.json").write_text('{"format": 99}')
    with pytest.raises(CheckpointError, match="update cytoforge"):
        Run.open(run.path)


class Old(Record):
    width: int


class New(Old):
    depth: int = 3


def test_a_setting_that_came_later_has_its_default_in_an_earlier_run(tmp_path):
    run = Run.create(tmp_path / "r", {"settings": Old(width=4).model_dump(), "seed": 0})
    asked = {"settings": New(width=4).model_dump(), "seed": 0}
    run.require_same(asked, {"settings": New})
    with pytest.raises(ConfigError, match=r"settings\.depth: the run has 3, asked for 2"):
        run.require_same({**asked, "settings": New(width=4, depth=2).model_dump()}, {"settings": New})
    with pytest.raises(ConfigError, match=r"settings\.depth: the run has None, asked for 3"):
        run.require_same(asked, {})


def test_a_run_that_was_killed_while_it_began_can_be_begun(tmp_path):
    """Its split and half a file may be there already."""
    (tmp_path / "split.json").write_text("{}")
    (tmp_path / ".config.json.x1").write_text("{")
    with pytest.raises(ConfigError, match="--resume"):
        require_empty(tmp_path)
    assert Run.create(tmp_path, {"x": 1}).config["x"] == 1


def test_what_cannot_go_on_does_not_speak_of_resume(tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(ConfigError, match=r"is not an empty folder\. Choose another --out\.$"):
        require_empty(tmp_path, advice=ANOTHER_OUT)


def test_log_survives_a_line_cut_short_and_rewinds(tmp_path):
    run = Run.create(tmp_path / "r", {})
    for seen in (10, 20, 30):
        run.log({"kind": "losses", "seen": seen})
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"kind": "los')
    assert [record["seen"] for record in run.read_log()] == [10, 20, 30]
    run.rewind_log(20)
    assert [record["seen"] for record in run.read_log()] == [10, 20]


def test_config_hash_ignores_order(tmp_path):
    first = Run.create(tmp_path / "a", {"x": 1, "y": 2})
    second = Run.create(tmp_path / "b", {"y": 2, "x": 1})
    assert first.config_hash == second.config_hash
