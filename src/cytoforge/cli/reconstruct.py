"""`cytoforge reconstruct`: what an autoencoder keeps of real cells."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cytoforge.cli.console import Outcome


def reconstruct(
    run: Path,
    *,
    out: Path,
    data: Path | None = None,
    checkpoint: Literal["best", "newest"] = "best",
    device: Literal["cpu", "cuda"] = "cpu",
) -> Outcome:
    """Encode and decode real cells with a trained cvae: pictures of reconstructions and interpolations.

    Args:
        run: folder of a training.
        out: folder for the pictures and reconstructions.json.
        data: folder of cells; the run's own validation cells where not given.
        checkpoint: best by the score measured in training, or newest.
        device: where to compute.
    """
    from cytoforge.stages.reconstruct import reconstruct as stage

    found = stage(run, out, data=data, checkpoint=checkpoint, device=device)
    text = (
        f"{found.cells} cells, root mean squared error {found.error:.1f} grey levels "
        f"({found.error_of_mean:.1f} if each were the mean cell of its class). Pictures in {out}."
    )
    return Outcome({"out": out, **vars(found)}, text)
