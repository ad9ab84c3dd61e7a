"""`cytoforge verify`: are synthetic pictures whole, unchanged and marked?"""

from __future__ import annotations

from pathlib import Path

from cytoforge.cli.console import Outcome

_SHOWN = 20


def verify(folder: Path) -> Outcome:
    """Check marks, hashes and manifest of synthetic pictures; exit code 3 if something is wrong.

    Args:
        folder: the --out folder of generate, translate or text-to-image.
    """
    from cytoforge.stages.verify import verify as find_problems

    problems = find_problems(folder)
    facts = {"ok": not problems, "folder": folder, "problems": problems}
    if not problems:
        return Outcome(facts, f"{folder} is whole: every image is marked as synthetic and unchanged.")
    lines = [f"{problem.file}: {problem.reason}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"... and {len(problems) - _SHOWN} more (--json lists all)")
    return Outcome(facts, "\n".join([f"{folder}: {len(problems)} problem(s)", *lines]), failed=True)
