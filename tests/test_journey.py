"""The whole way as a user walks it: an awkward path, a home that cannot be written, no network at all."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoforge.cli import main

REFUSING = """
import socket

def refuse(*_arguments, **_named):
    raise OSError("this test refuses sockets")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
"""

SMALL = {
    "batch": 10, "generator_channels": 4, "critic_channels": 4, "most_channels": 8,
    "measure_images": 10, "measure_every": 20, "save_every": 20, "precision": "32-true",
}  # fmt: skip
TINY = ["--preset", "cpu", "--resolution", "32"]
TINY += [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path holds a space, an umlaut and a character beyond Latin."""
    folder = tmp_path_factory.mktemp("journey") / "Zellen für 細胞"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def surroundings(place: Path) -> dict[str, str]:
    """Environment of a process without sockets, without a home and without a cache folder of its own."""
    refusing = place / "refusing"
    refusing.mkdir()
    (refusing / "sitecustomize.py").write_text(REFUSING)
    (place / "a file").write_text("so that nothing below it can be made, not even by root")
    (place / "tmp").mkdir()
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(refusing),
        "HOME": str(place / "a file" / "home"),
        "TMPDIR": str(place / "tmp"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="module")
def shell(place: Path, surroundings: dict[str, str]) -> Shell:
    """Runs `cytoforge` in a process of its own and checks its exit code."""

    def run(
        *arguments: str, file_limit: int | None = None, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        done = subprocess.run(
            [sys.executable, "-c", "from cytoforge.cli.main import main; main()", *arguments],
            cwd=place, env=surroundings, capture_output=True, text=True, check=False, preexec_fn=limit,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def cells(shell: Shell, place: Path) -> Path:
    """A few simulated cells of each class."""
    told = json.loads(shell("phantom", "cells", "--per-class", "16", "--size", "48", "--json").stdout)
    assert told
    return place / "cells"


@pytest.fixture(scope="module")
def trained(shell: Shell, cells: Path, place: Path) -> Path:
    """A run of a few steps."""
    shell("train", "wgan-gp", cells.name, "--run", "run", "--images", "40", *TINY)
    return place / "run"


def test_the_sockets_are_refused(place: Path, surroundings: dict[str, str]) -> None:
    script = "import socket; socket.create_connection(('localhost', 1))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=surroundings, capture_output=True, text=True, check=False
    )
    assert "this test refuses sockets" in done.stderr


def test_audit(shell: Shell, cells: Path, place: Path) -> None:
    done = shell("audit", cells.name, "--out", "audit", "--json")
    assert isinstance(json.loads(done.stdout), dict)
    assert (place / "audit" / "audit.json").is_file()
    assert "http://" not in (place / "audit" / "audit.html").read_text(encoding="utf-8").replace(
        "http://www.w3.org", ""
    )


def test_generate_verify_evaluate(shell: Shell, cells: Path, trained: Path, place: Path) -> None:
    made = json.loads(shell("generate", trained.name, "--out", "made", "--per-class", "4", "--json").stdout)
    assert made["images"] == 20
    assert json.loads(shell("verify", "made", "--json").stdout)["ok"] is True
    shell("evaluate", "made", "--real", cells.name, "--out", "evaluation")
    metrics = json.loads((place / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    assert "efficientnet-lite0" in json.dumps(metrics)
    report = (place / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert all(label in report for label in ("Parabasal", "Koilocytotic"))


def test_a_changed_image_is_found(shell: Shell, trained: Path, place: Path) -> None:
    shell("generate", trained.name, "--out", "forged", "--class", "Parabasal", "--seeds", "0-1")
    image = next((place / "forged").glob("*/*.png"))
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(image)
    told = json.loads(shell("verify", "forged", "--json", code=3).stdout)
    assert told["ok"] is False
    assert image.name in json.dumps(told)


def test_a_full_disk_loses_nothing(shell: Shell, trained: Path, cells: Path, place: Path) -> None:
    shutil.copytree(trained, place / "full")
    more = ["train", "wgan-gp", cells.name, "--run", "full", "--images", "80", "--resume", *TINY]
    done = shell(*more, file_limit=1_000_000, code=2)
    assert "cannot save a checkpoint" in done.stderr
    shell("generate", "full", "--out", "after", "--per-class", "1")
    shell(*more)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(levels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """Folders that a training must refuse, and one that it takes."""
    for name, counts in {"good": (12, 12), "one-class": (12,), "lonely": (12, 1), "empty": ()}.items():
        (tmp_path / name).mkdir()
        for label, count in enumerate(counts):
            for index in range(count):
                picture(tmp_path / name / f"class{label}" / f"{index}.png", 100 * label + index)
    return {name: str(tmp_path / name) for name in ("good", "one-class", "lonely", "empty", "missing")}


REFUSED: dict[str, tuple[list[str], str]] = {
    "a missing folder": (["wgan-gp", "{missing}"], "missing"),
    "an empty folder": (["wgan-gp", "{empty}"], "empty"),
    "one class": (["wgan-gp", "{one-class}"], "class"),
    "a class with one image": (["wgan-gp", "{lonely}"], "class1"),
    "an unknown method": (["wgan-pg", "{good}"], 'Did you mean "wgan-gp"?'),
    "an unknown preset": (["wgan-gp", "{good}", "--preset", "cpuu"], '"cpu"'),
    "an unknown key": (["wgan-gp", "{good}", "--set", "penalti=5"], 'Did you mean "penalty"?'),
    "a value that is none": (["wgan-gp", "{good}", "--set", "penalty=much"], "penalty"),
    "a setting without a value": (["wgan-gp", "{good}", "--set", "penalty"], "penalty"),
    "a resolution that does not fit": (["wgan-gp", "{good}", "--resolution", "48"], "48"),
    "an unknown option": (["wgan-gp", "{good}", "--resolutoin", "64"], "--resolution"),
    "no images": (["wgan-gp", "{good}", "--images", "0"], "images"),
    "many images that are no number": (["wgan-gp", "{good}", "--images", "lots"], "lots"),
    "a missing config file": (["wgan-gp", "{good}", "--config", "{missing}"], "missing"),
}


@pytest.mark.parametrize(("arguments", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_training_refuses(
    arguments: list[str],
    hint: str,
    folders: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [argument.format(**folders) for argument in arguments]
    run = tmp_path / "run"
    assert main.run(["train", *filled, "--run", str(run)]) == 2
    printed = capsys.readouterr()
    assert hint in printed.err
    assert printed.err.count("error: ") == 1
    assert not run.exists() or not any(run.iterdir())


def test_a_run_folder_of_something_else_is_left_alone(
    trained: Path, cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    plain = ["train", "wgan-gp", str(cells), "--run", str(trained), "--images", "60", *TINY]
    assert main.run(plain) == 2
    assert "--resume" in capsys.readouterr().err
    assert main.run([*plain, "--resume", "--set", "penalty=3"]) == 2
    assert "penalty" in capsys.readouterr().err
    config = json.loads((trained / "config.json").read_text())
    (trained / "config.json").write_text(json.dumps({**config, "method": "another"}))
    assert main.run([*plain, "--resume"]) == 2
    assert "another" in capsys.readouterr().err
    (trained / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    after = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    assert {path for path in before if before[path] != after.get(path)} <= {trained / "config.json"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "{missing}", "--out", "{missing}-audit"],
        ["generate", "{missing}", "--out", "{missing}-made", "--per-class", "2"],
        ["generate", "{good}", "--out", "{missing}-made", "--per-class", "2"],
        ["verify", "{missing}"],
        ["evaluate", "{missing}", "--real", "{good}", "--out", "{missing}-evaluation"],
        ["evaluate", "{good}", "--real", "{good}", "--out", "{missing}-evaluation"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_other_verbs_refuse(
    arguments: list[str], folders: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*(argument.format(**folders) for argument in arguments), "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["message"] in printed.err
