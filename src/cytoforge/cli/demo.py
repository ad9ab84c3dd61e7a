"""`cytoforge demo`: simulated cells, from start to report."""

from __future__ import annotations

from pathlib import Path

from cytoforge.cli.console import Outcome, note


def demo(
    *, out: Path = Path("runs/demo"), minutes: float = 6.0, per_class: int = 200, seed: int = 0
) -> Outcome:
    """Simulate cells, audit, train, generate and evaluate them; run it again to go on after an interruption.

    Args:
        out: folder for everything it makes.
        minutes: training time.
        per_class: simulated cells of each class.
        seed: seed of everything.
    """
    from cytoforge.core.settings import checked
    from cytoforge.stages.demo import DemoSettings
    from cytoforge.stages.demo import demo as demonstrate

    asked = {"minutes": minutes, "per_class": per_class, "seed": seed}
    done = demonstrate(out, checked(DemoSettings, asked, "demo"), note)
    took = sum(seconds for step, seconds in done.seconds.items() if step not in done.skipped)
    facts = {"report": done.report, "seconds": done.seconds, "skipped": done.skipped}
    return Outcome(facts, f"The report is ready after {took:.0f} s:\n{done.report.resolve()}")
