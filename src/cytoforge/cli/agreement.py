"""`cytoforge agreement`: do the masks of a synthetic set show what is in its images?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytoforge.cli.console import Outcome


def agreement(
    synthetic: Path,
    *,
    real: Path,
    out: Path,
    split: Path | None = None,
    images: int | None = None,
    layout: str | None = None,
    seed: int = 0,
) -> Outcome:
    """Ask a segmenter that learned from real cells for the masks of synthetic images: agreement.json.

    Args:
        synthetic: the --out folder of generate, of a method that draws from masks.
        real: folder of the real cells that the generator was trained on, with masks.
        out: folder for agreement.json and agreement.png.
        split: split.json of the training; found by itself while the run folder is where it was.
        images: real cells that the segmenter is shown (12000).
        layout: layout of the real folder; as in training where not given.
        seed: of the segmenter.
    """
    from cytoforge.stages.agreement import IMAGES
    from cytoforge.stages.agreement import agreement as measure

    found = measure(
        synthetic,
        real,
        out,
        split=split,
        images=IMAGES if images is None else images,
        layout=layout,
        seed=seed,
    )
    lines = [_line(part, found["synthetic"][part], found["real"][part]) for part in ("nucleus", "cell")]
    return Outcome({"agreement": out / "agreement.json", **found}, "\n".join(lines))


def _line(part: str, synthetic: Mapping[str, Any], real: Mapping[str, Any]) -> str:
    ours, theirs = (
        "unknown" if side["value"] is None else f"{side['value']:.3f}" for side in (synthetic, real)
    )
    return (
        f"{part}: Dice {ours} of given and found masks of synthetic cells, {theirs} for real cells that were "
        f"not trained on; drawn in {synthetic['present']:.0%} of synthetic masks, there in "
        f"{real['present']:.0%} of real ones"
    )
