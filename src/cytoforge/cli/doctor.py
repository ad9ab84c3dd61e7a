"""`cytoforge doctor`: is everything here that the work needs?"""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from cytoforge.cli.console import Outcome

_MARKS = {True: Text("ok", style="green"), False: Text("broken", style="bold red"), None: Text("")}


def doctor() -> Outcome:
    """Check this machine: versions, processor, disk, memory, offline weights. Exit code 3 if one is broken."""
    from cytoforge.stages.doctor import examine

    findings = examine()
    table = Table(show_header=False, box=None)
    for finding in findings:
        table.add_row(_MARKS[finding.works], finding.name, Text(finding.value), Text(finding.advice))
    broken = [finding.name for finding in findings if finding.works is False]
    facts = {"ok": not broken, "broken": broken, "findings": findings}
    return Outcome(facts, table, failed=bool(broken))
