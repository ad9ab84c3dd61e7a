"""`cytoforge train`: a folder of cells becomes a run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cytoforge.cli.console import Outcome, note
from cytoforge.core.errors import ConfigError, TrainingError

_MULTIPLES = {"k": 1_000, "m": 1_000_000}


def train(
    method: str | None = None,
    data: Path | None = None,
    /,
    *,
    run: Path | None = None,
    resolution: int | None = None,
    images: str | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    preset: str | None = None,
    split: Path | None = None,
    layout: str | None = None,
    group: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    config: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    freeze: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None,
    processes: int = 1,
) -> Outcome:
    """Train a generative model on a folder of labelled cells.

    Args:
        method: one of `cytoforge methods`.
        data: folder of labelled cells.
        run: new folder for the run.
        resolution: side of the images in pixels (64).
        images: stop after so many training images, such as 400k.
        minutes: stop after so many minutes (20, where --images is not given either).
        seed: seed of weights, order and noise (0).
        preset: named settings of the method.
        split: a split.json; made where missing.
        layout: how the folder is laid out; recognised where not given.
        group: regular expression with one (bracket) that finds the photo, slide or patient in a file's path.
        set_: settings as key=value; `cytoforge methods` lists them. May be repeated.
        config: YAML file with these options but --resume, --from, --freeze and --processes;
            `settings` is --set; options given here win.
        resume: go on with the run in --run where there is one.
        start: refine this run: start from its weights and settings; the data and its classes may be others.
            "simulated" starts from weights in the package, learned from simulated cells (auto, 64 px).
        freeze: what a refinement leaves as it is, as NETWORK/PARAMETER with * and ?; "none" for nothing.
        processes: number of processes on this machine; use torchrun for several machines.
    """
    asked = _asked(config, locals())
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        return _launch(processes, Path(asked["run"]))
    from cytoforge.stages import train as stage

    optional = ("resolution", "minutes", "preset", "split", "layout", "group")
    wanted = {name: asked[name] for name in optional if name in asked}
    done = stage.train(
        asked["method"],
        Path(asked["data"]),
        Path(asked["run"]),
        images=parse_count(str(asked["images"])) if "images" in asked else None,
        seed=asked.get("seed", 0),
        settings=asked["settings"],
        resume=resume,
        start=start,
        freeze=() if freeze == ("none",) else freeze,
        **wanted,
    )
    return _outcome(done.path)


def parse_count(text: str) -> int:
    """A number of images: 400k is 400,000.

    Raises:
        ConfigError: it is none.

    Example:
        >>> parse_count("400k"), parse_count("1.5m"), parse_count("64")
        (400000, 1500000, 64)
    """
    number, unit = text.strip().lower().replace("_", "").replace(",", ""), 1
    if number and number[-1] in _MULTIPLES:
        number, unit = number[:-1], _MULTIPLES[number[-1]]
    try:
        count = round(float(number) * unit)
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise ConfigError(f"--images {text}: expected a number of images such as 400k or 25000.")
    return count


def _asked(config: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """Options of the command line over those of the config file."""
    from cytoforge.cli.config_file import TrainFile, read_train_file

    file = read_train_file(config).model_dump(exclude_none=True) if config is not None else {}
    names = set(TrainFile.model_fields) - {"settings"}
    here = {name: given[name] for name in names if given[name] is not None}
    asked = {**file, **here, "settings": {**file.get("settings", {}), **parse_settings(given["set_"])}}
    missing = [name for name in ("method", "data", "run") if name not in asked]
    if missing:
        raise ConfigError(
            f"missing: {', '.join(missing)}. Write: cytoforge train METHOD DATA --run RUN, for example "
            "cytoforge train wgan-gp my-cells --run runs/first."
        )
    return asked


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Settings of the form key=value; numbers with commas between them are a list, "null" is nothing.

    Raises:
        ConfigError: one has another form.

    Example:
        >>> parse_settings(("batch=32", "betas=0.5,0.9", "augment=translation,cutout", "clip=null"))
        {'batch': '32', 'betas': ['0.5', '0.9'], 'augment': 'translation,cutout', 'clip': None}
    """
    pairs: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {setting}: expected key=value, for example --set batch=32.")
        pairs[name.strip()] = setting_value(value.strip())
    return pairs


def setting_value(text: str) -> str | list[str] | None:
    """A value of --set: numbers with commas between them as a list, "null" as None, else the text."""
    parts = [part.strip() for part in text.strip("[]()").split(",")]
    if len(parts) > 1 and all(_NUMBER.fullmatch(part) for part in parts):
        return parts
    return None if text == "null" else text


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


def _launch(processes: int, run: Path) -> Outcome:
    """The same command in several processes, started by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    log = run / "log.jsonl"
    before = log.stat().st_mtime_ns if log.exists() else None
    words = [*command, "-m", "--", "cytoforge", *sys.argv[1:]]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    # In a session of their own: a terminal's Ctrl-C is for this process alone, which asks the others once.
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True) as group:  # noqa: S603
        try:
            status = group.wait()
        except KeyboardInterrupt:
            group.terminate()
            status = group.wait()
    if status == 0:
        return _outcome(run)
    from cytoforge.core.run import Run

    written = log.exists() and log.stat().st_mtime_ns != before
    event = Run.open(run).last_event() if written else None
    if event == "interrupted":
        raise KeyboardInterrupt
    if event == "alarm":
        raise TrainingError("the training stopped itself; the reason is above.")
    raise ConfigError(f"one of the {processes} processes stopped (exit code {status}); its message is above.")


def _outcome(path: Path) -> Outcome:
    from cytoforge.core.run import Run

    run = Run.open(path)
    last: dict[str, dict[str, Any]] = {}
    for record in run.read_log():
        last[record["kind"]] = record
        if record["kind"] == "event" and record["event"] == "damaged checkpoint":
            note(f"passed over: {record['message']}")
    losses, measured = last.get("losses", {}), last.get("measure", {})
    facts = {
        "run": path,
        "seen": losses.get("seen"),
        "seconds": losses.get("seconds"),
        "losses": losses.get("losses"),
        "measure": {
            name: value for name, value in measured.items() if name not in ("kind", "seen", "seconds")
        },
    }
    return Outcome(facts)
