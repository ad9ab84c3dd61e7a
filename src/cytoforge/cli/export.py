"""`cytoforge export`: a set or a run in a format that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cytoforge.cli.console import Outcome


def export(
    source: Path,
    /,
    *,
    format: Literal["imagefolder", "medmnist", "croissant", "dicom", "onnx", "cards", "checklist"],
    out: Path,
    evaluation: Path | None = None,
    study: Path | None = None,
    checkpoint: Literal["best", "newest"] | None = None,
) -> Outcome:
    """Write a synthetic set or a run for other tools; every image keeps the mark "synthetic".

    Sets: imagefolder, medmnist, croissant, dicom, cards, checklist. Runs: onnx, cards, checklist.

    Args:
        source: the --out folder of generate or the --run folder of a training.
        format: what to write.
        out: new folder.
        evaluation: the --out folder of evaluate, of a classifier that of classify report; its numbers go into
            cards and checklist.
        study: the --out folder of study; its verdicts go into the checklist.
        checkpoint: for onnx: best by the score measured in training (the default), or newest.
    """
    from cytoforge.stages.export import export as write

    done = write(source, out, format, evaluation=evaluation, study=study, checkpoint=checkpoint)
    facts = {"out": done.folder, "format": done.format, "files": list(done.files)}
    return Outcome(facts, "\n".join(f"wrote {path}" for path in done.files))
