"""`cytoforge experiment`: a source's system, its numbers and ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from cytoforge.cli.console import Outcome
from cytoforge.cli.train import parse_settings
from cytoforge.core.executors import Executor


def experiment(
    name: str | None = None,
    /,
    *,
    data: Path | None = None,
    scale: Literal["smoke", "full"] = "smoke",
    out: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    executor: Executor = "serial",
    workers: int | None = None,
) -> Outcome:
    """Repeat a published system or comparison: result.json and pictures. Without a name, list them.

    Args:
        name: one of the list.
        data: folder of labelled cells; simulated ones where not given.
        scale: smoke shows in minutes that everything works, full takes as long as honest numbers take.
        out: new or empty folder for the results, or one in which the same call was interrupted.
        set_: numbers of the scale's budget as key=value, such as minutes=30 or seed=1. May be repeated.
        executor: serial, loky for many processes on this machine, or a cluster by ray or dask.
        workers: processes at once; what the executor offers where not given.
    """
    from cytoforge.core.errors import ConfigError
    from cytoforge.core.settings import checked
    from cytoforge.experiments.catalogue import EXPERIMENTS, begin, experiment_of

    if name is None:
        listed = {key: entry.summary for key, entry in EXPERIMENTS.items()}
        return Outcome({"experiments": listed}, "\n".join(f"{key}: {text}" for key, text in listed.items()))
    chosen = experiment_of(name)
    if out is None:
        raise ConfigError(f"missing: --out. Write: cytoforge experiment {name} --out results/{name}.")
    spread = {} if executor == "serial" and workers is None else {"executor": executor, "workers": workers}
    if spread and not chosen.spreads:
        raise ConfigError(f"{name} trains one thing after the other; leave out --executor and --workers.")
    settings = parse_settings(set_)
    changed: dict[str, Any] = {}
    if settings:
        if chosen.budgets is None:
            raise ConfigError(f"{name} has a fixed budget; leave out --set.")
        budget = chosen.budgets[scale]
        changed = {"budget": checked(type(budget), {**budget.model_dump(), **settings}, "--set")}
    begin(name, data, out, scale, settings)
    result = chosen.run(data, out, scale, **spread, **changed)
    return Outcome({"experiment": name, "scale": scale, "out": out, "result": result}, f"{name}: {out}")
