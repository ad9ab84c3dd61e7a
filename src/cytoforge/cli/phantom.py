"""`cytoforge phantom`: simulated cells whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytoforge.cli.console import Outcome


def phantom(
    out: Path,
    *,
    per_class: int = 200,
    size: int = 96,
    seed: int = 0,
    faults: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    native: Annotated[bool, Parameter(negative="")] = False,
) -> Outcome:
    """Simulate Pap-smear cells of five classes with masks, photos and planted faults.

    Args:
        out: folder to write: new, empty, or an older phantom, which it replaces.
        per_class: cells in each class.
        size: pixels along a side.
        seed: the same seed gives the same folder.
        faults: any of duplicate, flipped, recoloured, recurring, blurred, overexposed, mislabelled,
            truncated, wrong_stain, leak; or all. What was planted where stands in truth.json.
        native: instead of --size, give each crop the size that a microscope's camera gives it.
    """
    from cytoforge.stages.phantom import phantom as write

    made = write(out, per_class, None if native else size, seed, faults)
    planted = sum(made["faults"].values())
    return Outcome(
        made,
        f"{made['images']} simulated cells from {made['photos']} photos in {out}, {planted} faults planted. "
        f"Classes, masks, measurements and faults stand in {made['truth']}.",
    )
