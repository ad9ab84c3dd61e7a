"""`cytoforge generate`: a run becomes a synthetic set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cytoforge.cli.console import Outcome
from cytoforge.core.executors import Executor


def generate(
    run: Path,
    *,
    out: Path,
    per_class: int | None = None,
    label: Annotated[str | None, Parameter(name="--class")] = None,
    seeds: str | None = None,
    truncation: float = 1.0,
    checkpoint: Literal["best", "newest"] = "best",
    device: Literal["cpu", "cuda"] = "cpu",
    masks: Path | None = None,
    edges: Path | None = None,
    executor: Executor = "serial",
    workers: int | None = None,
) -> Outcome:
    """Make synthetic cells from a trained run; the same command again goes on after an interruption.

    Args:
        run: folder of a training.
        out: folder of the set: new, empty, or begun by the same generator, which then adds to it.
        per_class: images of each class.
        label: one class, together with --seeds.
        seeds: numbers and ranges, for example 0-99,200.
        truncation: more than 0, at most 1; below 1, images are more alike and more typical.
        checkpoint: best by the score measured in training, or newest.
        device: where to compute.
        masks: data set or synthetic set with masks/<class>/, for methods that draw cells from masks.
        edges: data set or synthetic set whose images lend their edges, for training with condition=edges.
        executor: serial, loky for many processes on this machine, or a cluster by ray or dask.
        workers: processes at once; what the executor offers where not given.
    """
    from cytoforge.stages.generate import generate as write_set

    made = write_set(
        run,
        out,
        per_class=per_class,
        label=label,
        seeds=seeds,
        truncation=truncation,
        checkpoint=checkpoint,
        device=device,
        masks=masks,
        edges=edges,
        executor=executor,
        workers=workers,
    )
    facts = {"out": made.folder, "images": made.images, "made": made.made, "kept": made.kept}
    kept = f", {made.kept} of them from before" if made.kept else ""
    return Outcome(
        facts, f"{made.images} synthetic cells in {made.folder}{kept}. Read {made.folder / 'CARD.md'} first."
    )
