"""`cytoforge evaluate`: how good is a synthetic set, and does it copy?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cytoforge.cli.console import Outcome


def evaluate(
    synthetic: Path,
    *,
    real: Path,
    out: Path,
    split: Path | None = None,
    extractor: str | None = None,
    layout: str | None = None,
    alpha: float = 0.01,
    seed: int = 0,
    audit: Path | None = None,
    real_images: Annotated[bool, Parameter(negative="--no-real-images")] = True,
    masks: Literal["given", "unsupervised", "none"] = "given",
) -> Outcome:
    """Compare a synthetic set with real cells that its generator never saw: metrics.json and report.html.

    Args:
        synthetic: the --out folder of generate.
        real: folder of the real cells that the generator was trained on.
        out: folder for metrics.json and report.html.
        split: split.json of the training; found by itself while the run folder is where it was.
        extractor: efficientnet-lite0, mobilenet-v2, timm:NAME, onnx:PATH or torch-fidelity:inception; @SIZE
            may follow. Where not given efficientnet-lite0, or mobilenet-v2 for what was trained against the
            former or chosen by it.
        layout: layout of the real folder; as in training where not given.
        alpha: false-alarm rate of the copy test, for one image.
        seed: of random divisions and thinning.
        audit: folder of an audit, to be part of the report.
        real_images: show real cells in the report; leave them out before sharing it with outsiders.
        masks: whose masks cells are measured by: given where both sets have them, unsupervised finds them in
            the pictures of both, none measures nothing.
    """
    from cytoforge.stages.evaluate import evaluate as measure

    metrics = measure(
        synthetic,
        real,
        out,
        split=split,
        extractor=extractor,
        layout=layout,
        alpha=alpha,
        seed=seed,
        audit=audit,
        real_images=real_images,
        masks=masks,
    )
    report = out / "report.html"
    lines = [f"{verdict.headline}. {verdict.because}" for verdict in metrics.verdicts]
    lines += [f"Note: {warning}" for warning in metrics.warnings]
    facts = {"metrics": out / "metrics.json", "report": report, **metrics.model_dump(mode="json")}
    return Outcome({**facts, "kind": "evaluation"}, "\n".join([*lines, f"Report: {report}"]))
