"""`cytoforge select`: drop doubtful images from a synthetic set, and say what that does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cytoforge.cli.console import Outcome


def select(
    synthetic: Path,
    /,
    *,
    real: Path,
    out: Path,
    rules: tuple[str, ...] = ("class", "region", "copies"),
    share: float = 0.05,
    alpha: float = 0.01,
    extractor: str = "efficientnet-lite0@128",
    judge: str = "mobilenet-v2",
    split: Path | None = None,
    layout: str | None = None,
    seed: int = 0,
) -> Outcome:
    """Drop images of doubtful class, unlike any real cell of their class, or copied.

    Args:
        synthetic: the --out folder of generate.
        real: folder of the real cells that the generator was trained on.
        out: new folder for set/, selection.json and dropped.png.
        rules: one or more of class, region, copies.
        share: of real cells that the rules class and region would lose each.
        alpha: false-alarm rate of the copy test, for one image.
        extractor: network whose features the rules see.
        judge: another network, not trained against either, in whose features the effect is measured.
        split: split.json of the training; found by itself while the run folder is where it was.
        layout: layout of the real folder; as in training where not given.
        seed: of the random choice of as many images, which is measured beside.
    """
    from cytoforge.stages.select import select as drop

    done = drop(
        synthetic,
        real,
        out,
        rules=rules,
        share=share,
        alpha=alpha,
        extractor=extractor,
        judge=judge,
        split=split,
        layout=layout,
        seed=seed,
    )
    facts = {
        "out": done.folder,
        "kept": done.kept,
        "dropped": done.dropped,
        "effects": done.effects,
        "note": done.note,
    }
    lines = [_table(done.effects), f"{done.kept} synthetic cells in {done.folder}"]
    return Outcome(facts, "\n".join(lines if done.note is None else [*lines, done.note]))


def _table(effects: dict[str, dict[str, Any]]) -> str:
    """One line for each rule: what is kept and how it scores."""
    lines = [f"{'rule':<8}{'kept':>6}{'KID':>9}{'floor':>9}{'precision':>11}{'recall':>8}{'class right':>13}"]
    for name, effect in effects.items():
        kid = effect.get("kernel_distance", {})
        cells = [
            _cell(kid.get("value"), 9, 4),
            _cell(kid.get("floor"), 9, 4),
            _cell(effect.get("precision", {}).get("value"), 11, 2),
            _cell(effect.get("recall", {}).get("value"), 8, 2),
            _cell(effect["class_correct"], 13, 2),
        ]
        lines.append(f"{name:<8}{effect['kept']:>6}{''.join(cells)}")
    return "\n".join(lines)


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-' if value is None else f'{value:.{digits}f}':>{width}}"
