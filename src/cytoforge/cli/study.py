"""`cytoforge study`: do synthetic cells help a classifier?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from cytoforge.cli.console import Outcome
from cytoforge.cli.train import setting_value
from cytoforge.core.errors import ConfigError
from cytoforge.core.executors import Executor


def study(
    data: Path,
    /,
    *,
    out: Path,
    generators: str = "auto,wgan-gp,cvae",
    classifiers: str = "linear",
    real: str = "20,50,100",
    repeats: int = 5,
    minutes: float | None = None,
    images: str | None = None,
    control: str | None = None,
    regimes: str | None = None,
    ratios: str = "2",
    folds: int = 5,
    resolution: int = 64,
    traditional: str | None = None,
    score: Literal["balanced_accuracy", "accuracy", "macro_f1"] = "balanced_accuracy",
    level: float = 0.95,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    layout: str = "auto",
    group: str | None = None,
    seed: int = 0,
    executor: Executor = "serial",
    workers: int | None = None,
    threads: int = 1,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> Outcome:
    """Compare classifiers with and without synthetic cells: study.json, report.html, and a verdict.

    The same command goes on after an interruption.

    Args:
        data: folder of labelled cells.
        out: folder for the study.
        generators: methods whose cells are tried, separated by commas.
        classifiers: recipes such as linear,lite0,basic-cnn.
        real: real cells of each class; all takes every training cell.
        repeats: test folds, five or more for a verdict that is worth something.
        minutes: training of each generator (5, where --images is not given either).
        images: the same in training images, such as 100k; then a slower machine gives the same table.
        control: generator of the regimes gan and orig+gan.
        regimes: what is compared; all that the study can have where not given.
        ratios: synthetic cells for each real one.
        folds: of each division by groups.
        resolution: side of real and synthetic cells in pixels.
        traditional: ordinary augmentation (flip,rotate,tilt,noise).
        score: what is compared.
        level: 1 - level is the rate of false alarms within a question.
        set_: settings of a generator or classifier as NAME.key=value. May be repeated.
        layout: how the folder is laid out; recognised where not given.
        group: regular expression with one (bracket) that finds the photo, slide or patient in a file's path.
        seed: of everything.
        executor: serial or loky on this machine, ray or dask on a cluster.
        workers: jobs at once.
        threads: that each job computes with.
        dry_run: only say how much there is to do.
    """
    from cytoforge.cli.train import parse_count
    from cytoforge.core.settings import checked
    from cytoforge.evaluation.regimes import DEFAULT_REGIMES, REGIMES
    from cytoforge.stages.study import study as compare
    from cytoforge.stages.study_plan import Plan, check_plan, cost

    usual = tuple(name for name, regime in REGIMES.items() if control and regime.control)
    chosen = words(regimes) if regimes is not None else (*DEFAULT_REGIMES, *usual)
    asked: dict[str, Any] = {
        "generators": words(generators),
        "control": control,
        "classifiers": words(classifiers),
        "real": _counts(real),
        "ratios": words(ratios),
        "regimes": chosen,
        "repeats": repeats,
        "folds": folds,
        "resolution": resolution,
        "minutes": minutes,
        "images": None if images is None else parse_count(images),
        "score": score,
        "level": level,
        "seed": seed,
        "settings": _settings(set_),
        **({} if traditional is None else {"traditional": traditional}),
    }
    plan = checked(Plan, asked, "study")
    check_plan(plan)
    if dry_run:
        return Outcome(cost(plan))
    content = compare(
        data, out, plan, layout=layout, group=group, executor=executor, workers=workers, threads=threads
    )
    return Outcome(
        {name: content[name] for name in ("answers", "remarks", "ledger")} | {"out": out}, _text(content, out)
    )


def words(text: str) -> tuple[str, ...]:
    """What stands between commas.

    Example:
        >>> words("auto, cvae")
        ('auto', 'cvae')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _counts(text: str) -> tuple[int | None, ...]:
    parts = words(text)
    if not all(part == "all" or part.isdecimal() for part in parts):
        raise ConfigError(f"--real {text}: expected numbers of cells such as 20,50,100 or the word all.")
    return tuple(None if part == "all" else int(part) for part in parts)


def _settings(pairs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """NAME.key=value, sorted by name."""
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        left, equals, value = pair.partition("=")
        name, dot, key = left.rpartition(".")
        if not equals or not dot or not name or not key:
            raise ConfigError(f"--set {pair}: expected NAME.key=value such as wgan-gp.batch=32.")
        found.setdefault(name, {})[key] = setting_value(value)
    return found


def _text(content: dict[str, Any], out: Path) -> str:
    from cytoforge.report.study import headline

    lines = []
    for answer in content["answers"]:
        _, words_, because = headline(answer)
        lines += [words_, f"  {because}"]
    lines += [f"remark: {remark}" for remark in content["remarks"]]
    return "\n".join([*lines, f"{out / 'report.html'}"])
