"""The demonstration's memory: finished steps are skipped, an interrupted one is done again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.stages import demo as stage
from cytoforge.stages.demo import DemoSettings, demo


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps that only note their name; `interrupt` stops the first `train`."""
    done: list[str] = []

    def noting(name: str) -> stage.Step:
        def step(out: Path, settings: DemoSettings) -> None:
            done.append(name)
            if name == "train" and done.count("train") == 1:
                raise KeyboardInterrupt

        return step

    names = ("phantom", "train", "evaluate")
    monkeypatch.setattr(stage, "STEPS", {name: (name, noting(name)) for name in names})
    return done


def quiet(_line: str) -> None:
    pass


def test_it_goes_on_where_it_was(tmp_path: Path, steps: list[str]) -> None:
    out = tmp_path / "demo"
    with pytest.raises(KeyboardInterrupt):
        demo(out, DemoSettings(), quiet)
    done = demo(out, DemoSettings(), quiet)
    assert steps == ["phantom", "train", "train", "evaluate"]
    assert done.skipped == ("phantom",)
    assert demo(out, DemoSettings(), quiet).skipped == ("phantom", "train", "evaluate")
    assert len(steps) == 4


def test_a_training_that_was_killed_while_it_began_is_begun_again(
    tmp_path: Path, tiny_cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between split.json and config.json."""
    settings = DemoSettings(resolution=32, images=8)
    shutil.copytree(tiny_cells, tmp_path / "phantom")
    stage._split(tmp_path, settings)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for place, left in (
        ("core.run.write_json", {"split.json"}),
        ("stages.train.open_cache", {"config.json"}),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"cytoforge.{place}", killed)
            with pytest.raises(KeyboardInterrupt):
                stage._train(tmp_path, settings)
        assert left <= {path.name for path in (tmp_path / "run").iterdir()}


def test_what_a_killed_call_left_of_a_file_is_no_obstacle(tmp_path: Path, steps: list[str]) -> None:
    steps.append("train")
    (tmp_path / ".demo.json.x1").write_text("{")
    assert set(demo(tmp_path, DemoSettings(), quiet).seconds) == {"phantom", "train", "evaluate"}


def test_other_settings_or_a_foreign_folder_are_refused(tmp_path: Path, steps: list[str]) -> None:
    steps.append("train")
    demo(tmp_path / "demo", DemoSettings(), quiet)
    with pytest.raises(ConfigError, match="other settings"):
        demo(tmp_path / "demo", DemoSettings(seed=1), quiet)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("text")
    with pytest.raises(ConfigError, match="no demonstration"):
        demo(tmp_path / "thesis", DemoSettings(), quiet)
    with pytest.raises(ConfigError, match="no demonstration"):
        demo(tmp_path / "thesis" / "chapter.tex", DemoSettings(), quiet)
