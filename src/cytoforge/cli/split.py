"""`cytoforge split`: which cells are for training and which for judging."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cytoforge.cli.console import Outcome


def split(
    data: Path,
    /,
    *,
    out: Path,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    layout: str = "auto",
    group: str | None = None,
) -> Outcome:
    """Divide a data set into train, val and test so that no photo, slide or repeated cell is in two of them.

    Args:
        data: folder with one subfolder of images per class, or another layout that is recognised.
        out: folder that gets split.json, or a name that ends in .json.
        fractions: shares of train, val and test.
        seed: another seed gives another division.
        layout: how the data lies on disk; auto recognises it.
        group: regular expression with one (bracket) that finds the photo, slide or patient in a file's path.
    """
    from cytoforge.data.folder import open_cells
    from cytoforge.data.split import split_summary
    from cytoforge.stages.split import split as divide

    cells = open_cells(data, layout, group)
    made = divide(cells, out, fractions=fractions, seed=seed)
    path = out if out.suffix == ".json" else out / "split.json"
    counts = split_summary(made, cells)
    facts = {
        "split": path,
        "sha256": made.sha256,
        "counts": counts,
        "merged": len(made.merged),
        "left_out": len(made.left_out),
        "published": made.published,
        "warnings": made.warnings,
    }
    table = Table("", *counts, box=None, padding=(0, 2))
    for name in cells.classes:
        table.add_row(Text(name), *(str(part["classes"][name]) for part in counts.values()))
    table.add_row("cells", *(str(part["cells"]) for part in counts.values()), style="bold")
    table.add_row("groups", *(str(part["groups"]) for part in counts.values()))
    lines = [
        f"{len(made.merged)} pairs of groups show the same cell and were merged.",
        *made.warnings,
        str(path),
    ]
    return Outcome(facts, Group(table, *(Text(line) for line in lines)))
