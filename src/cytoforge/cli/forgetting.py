"""`cytoforge forgetting`: what a refined model has lost of the classes that it knew before."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from cytoforge.cli.console import Outcome


def forgetting(
    run: Path,
    /,
    *,
    out: Path,
    real: Path | None = None,
    base: Path | None = None,
    per_class: int = 100,
    extractor: str | None = None,
) -> Outcome:
    """Compare a refined run with the run that it started from, class by class.

    Args:
        run: a run of `train --from`.
        out: new folder for forgetting.json and forgetting.png.
        real: cells that the first run was trained on; where it found them if not given.
        base: the first run; as the refined run names it if not given.
        per_class: images of each class from each model.
        extractor: network whose features are compared, see `evaluate`; where not given, another than the one
            that either model was trained against, if it is installed.
    """
    from cytoforge.stages.forgetting import forgetting as measure

    found = measure(run, out, real=real, base=base, per_class=per_class, extractor=extractor)
    lines = [f"{'class':<28}{'KID before':>11}{'after':>9}{'recognised':>12}{'after':>7}"]
    for name, item in found.classes.items():
        after = item.after
        kid, right = (
            ("-", "-") if after is None else (f"{after.kernel_distance:.3f}", f"{after.recognised:.2f}")
        )
        verdict = "  forgotten" if item.forgotten else ""
        before = item.before
        lines.append(
            f"{name[:27]:<28}{before.kernel_distance:>11.3f}{kid:>9}{before.recognised:>12.2f}{right:>7}{verdict}"
        )
    lines += [f"Judged by {found.extractor}.", *(f"Note: {warning}" for warning in found.warnings)]
    return Outcome({"out": out, **asdict(found)}, "\n".join(lines))
