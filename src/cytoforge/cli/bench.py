"""`cytoforge bench`: how fast this machine is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from cytoforge.cli.console import Outcome


def bench(
    what: Literal["step", "predict"] = "step",
    /,
    *,
    resolution: int | None = None,
    rounds: int = 5,
    views: Literal[1, 8] = 1,
    run: Path | None = None,
    source: Path | None = None,
) -> Outcome:
    """Measure speed against plain PyTorch, alternating in one process.

    Args:
        what: step, one training step of wgan-gp; predict, from picture files to the logits of a classifier
            (decoding and network).
        resolution: side of the images in pixels; 64 for step, 128 for predict.
        rounds: rounds of each that count.
        views: predict: looks at each picture, 8 for all flips and quarter turns.
        run: predict: a trained classifier; times the whole of `classify predict` with it, which opens it,
            answers as calibrated and writes its files. Resolution and views are the classifier's.
        source: predict: folder of pictures; simulated cells where not given.
    """
    if what == "predict":
        return _predict(resolution or 128, rounds, views, run, source)
    from cytoforge.stages.bench import bench_step

    found = bench_step(resolution=resolution or 64, rounds=rounds)
    text = (
        f"{found.ours:.1f} images/s ({found.precision}, {found.threads} threads), "
        f"plain PyTorch {found.plain:.1f}: {found.ratio:.2f} times as fast.\n"
        f"{found.step_gflops:.0f} of {found.peak_gflops:.0f} Gflop/s, "
        f"{found.share_of_peak:.0%} of the fastest convolution measured here."
    )
    return Outcome(dataclasses.asdict(found), text)


def _predict(resolution: int, rounds: int, views: int, run: Path | None, source: Path | None) -> Outcome:
    from cytoforge.stages.bench_predict import bench_predict, bench_run

    if run is None:
        found = bench_predict(resolution, rounds=rounds, views=views, source=source)
    else:
        found = bench_run(run, source, rounds=rounds)
    text = (
        f"{found.ours:.1f} pictures/s ({found.engine}), timm eager on {found.threads} threads "
        f"{found.plain:.1f}: {found.ratio:.2f} times as fast.\n"
        f"Same class in {found.same:.1%} of pictures, probabilities within {found.difference:.1e}."
    )
    return Outcome(dataclasses.asdict(found), text)
