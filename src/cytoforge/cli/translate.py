"""`cytoforge translate`: cells in another stain, or masks become cells."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cytoforge.cli.console import Outcome


def translate(
    run: Path,
    data: Path,
    /,
    *,
    out: Path,
    to: str | None = None,
    layout: str = "auto",
    checkpoint: Literal["best", "newest"] = "newest",
    device: Literal["cpu", "cuda"] = "cpu",
) -> Outcome:
    """Translate cells with a trained cyclegan; exit code 3 if it exchanged light and dark or lost them.

    Args:
        run: folder of a training.
        data: folder of cells, with masks where the run translates masks.
        out: folder for the translated cells.
        to: class to translate into.
        layout: how the folder is laid out; recognised where not given.
        checkpoint: newest, or best by the score measured in training.
        device: where to compute.
    """
    from cytoforge.stages.translate import translate as stage

    done = stage(run, data, out, to=to, layout=layout, checkpoint=checkpoint, device=device)
    beside = "" if done.swapped_real is None else f" (real cells: {done.swapped_real:.1%})"
    text = f"{done.images} cells translated to {out}."
    if done.median is not None and done.swapped is not None:
        text += f" {done.measure}: median {done.median:.2f}, light and dark exchanged in {done.swapped:.1%}"
        text += f"{beside}."
    if done.reason is not None:
        text += f" The check failed: {done.reason}."
    return Outcome({"out": out, **vars(done)}, text, failed=done.failed)
