"""`cytoforge doctor`: is everything here that the work needs?"""

from __future__ import annotations

from rich.text import Text

from cytoforge.cli.console import Outcome

_MARKS = {True: ("ok     ", "green"), False: ("broken ", "bold red"), None: ("       ", "")}


def doctor() -> Outcome:
    """Check this machine: versions, processor, disk, memory, weights; exit code 3 if one is broken."""
    from cytoforge.stages.doctor import examine

    findings = examine()
    lines = []
    for finding in findings:
        advice = f"\n{'':25}{finding.advice}" if finding.advice else ""
        lines.append(Text.assemble(_MARKS[finding.works], f"{finding.name:18}{finding.value}{advice}"))
    broken = [finding.name for finding in findings if finding.works is False]
    facts = {"ok": not broken, "broken": broken, "findings": findings}
    return Outcome(facts, Text("\n").join(lines), failed=bool(broken))
