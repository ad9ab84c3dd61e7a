"""`cytoforge bench`: how fast this machine is."""

from __future__ import annotations

import dataclasses
from typing import Literal

from cytoforge.cli.console import Outcome


def bench(what: Literal["step"] = "step", /, *, resolution: int = 64, rounds: int = 5) -> Outcome:
    """Measure training speed against plain PyTorch, alternating in one process.

    Args:
        what: step, one training step of wgan-gp.
        resolution: side of the images in pixels.
        rounds: steps of each that count.
    """
    from cytoforge.stages.bench import bench_step

    found = bench_step(resolution=resolution, rounds=rounds)
    text = (
        f"{found.ours:.1f} images/s ({found.precision}, {found.threads} threads), "
        f"plain PyTorch {found.plain:.1f}: {found.ratio:.2f} times as fast.\n"
        f"{found.step_gflops:.0f} of {found.peak_gflops:.0f} Gflop/s, "
        f"{found.share_of_peak:.0%} of the fastest convolution measured here."
    )
    return Outcome(dataclasses.asdict(found), text)
