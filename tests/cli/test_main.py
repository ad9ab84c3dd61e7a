"""The command line as a whole: help, JSON, exit codes."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys

import numpy as np
import pytest
from cyclopts import App

from cytoforge.cli import main
from cytoforge.cli.console import Outcome
from cytoforge.core.errors import ConfigError, DataError, TrainingError

HEAVY = ("torch", "matplotlib", "sklearn", "skimage", "scipy", "timm", "numpy")


def verbs() -> list[str]:
    return [verb.__name__.rstrip("_").replace("_", "-") for verb in main.VERBS]


def grouped() -> list[list[str]]:
    return [[group, verb.__name__] for group, (_, verbs) in main.GROUPS.items() for verb in verbs]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *[[verb, "--help"] for verb in verbs()], *[[*path, "--help"] for path in grouped()]],
    ids=" ".join,
)
def test_help_comes_without_heavy_imports(arguments: list[str]) -> None:
    script = (
        "import sys; from cytoforge.cli.main import run; code = run(sys.argv[1:]);"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules];"
        "sys.exit(f'loaded {loaded}' if loaded else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: cytoforge" in done.stdout


def test_help_takes_less_than_300_ms() -> None:
    def seconds(code: str) -> float:
        """Processor time: waiting for other processes of a busy machine is not what is measured."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # On a slow machine the parser alone takes most of it; torch would be several times the parser. A shared
    # core slows down for moments, so both are timed in turns, the best of several.
    calls = ("from cytoforge.cli.main import run; run(['--help'])", "import cyclopts, rich.console")
    taken, parser = np.min([[seconds(call) for call in calls] for _ in range(8)], axis=0)
    assert taken < max(0.3, 2.5 * parser)


def test_every_verb_offers_json(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in verbs():
        assert main.run([verb, "--help"]) == 0
        assert "--json" in capsys.readouterr().out


def test_nothing_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 0
    assert "Usage: cytoforge COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["docter"], "doctor"),
        (["demo", "--mintes", "3"], "--minutes"),
        (["demo", "--minutes", "soon"], "--minutes"),
        (["doctor", "surplus"], "surplus"),
        (["--jsn"], "cytoforge --help"),
    ],
)
def test_a_slip_of_the_pen_exits_2_with_a_hint(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == 2
    printed = capsys.readouterr()
    assert hint in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | Outcome]:
    """A command line with one verb `act`, which raises or returns what the test puts into the list."""
    will: list[BaseException | Outcome] = []

    def act() -> Outcome:
        """Do what the test says."""
        print("a stage that talks")
        if isinstance(will[0], Outcome):
            return will[0]
        raise will[0]

    monkeypatch.setattr(main, "VERBS", (act,))
    monkeypatch.setattr(main, "app", main.build_app())
    return will


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (Outcome({"n": 1}), 0),
        (Outcome({"n": 1}, failed=True), 3),
        (DataError("no such folder"), 2),
        (ConfigError("no such setting"), 2),
        (TrainingError("the loss is NaN"), 3),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), 2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("as_json", [False, True])
def test_exit_codes_and_one_object(
    what: BaseException | Outcome,
    code: int,
    as_json: bool,
    raising: list[BaseException | Outcome],
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising.append(what)
    assert main.run(["act", "--json"] if as_json else ["act"]) == code
    printed = capsys.readouterr()
    if as_json:
        told = json.loads(printed.out)
        assert ("error" in told) == isinstance(what, BaseException)
    if isinstance(what, BaseException):
        assert printed.err.count("error: ") == 1
        assert "Traceback" not in printed.err


def test_our_own_mistake_is_not_hidden(raising: list[BaseException | Outcome]) -> None:
    raising.append(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        main.run(["act"])


def test_sigterm_exits_130_and_says_how_to_go_on() -> None:
    script = (
        "import os, signal, sys; from cytoforge.cli import main\n"
        "def train():\n"
        "    '''Wait to be stopped.'''\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
        "main.VERBS = (train,); main.app = main.build_app(); sys.argv = ['cytoforge', 'train']; main.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "--resume" in done.stderr


@pytest.mark.parametrize(
    ("verb", "advice"),
    [("demo", "what is finished is kept."), ("audit", "run the same command again."), ("train", "--resume")]
    + [(verb, "with --out empty or another.") for verb in ("mask", "select", "forgetting", "export")],
)
def test_who_stops_a_verb_is_told_what_the_same_command_would_do(
    verb: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> Outcome:
        """Be stopped."""
        raise KeyboardInterrupt

    stopped.__name__ = verb
    monkeypatch.setattr(main, "VERBS", (stopped,))
    monkeypatch.setattr(main, "app", main.build_app())
    assert main.run([verb]) == 130
    assert advice in capsys.readouterr().err


def test_every_verb_with_advice_is_there() -> None:
    assert set(main._GO_ON) <= {verb.__name__ for verb in main.VERBS} | set(main.GROUPS)


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f'"{sys.executable}" -c "from cytoforge.cli.main import main; main()" --help | true'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_the_parser_is_one_app() -> None:
    assert isinstance(main.app, App)
