"""`cytoforge audit`: what is wrong with a data set."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from cytoforge.cli.console import Outcome

_MARKS = {
    "bad": ("bad    ", "bold red"),
    "unsure": ("look   ", "yellow"),
    "note": ("note   ", ""),
    "good": ("ok     ", "green"),
}


def audit(
    data: Path,
    /,
    *,
    out: Path = Path("audit"),
    layout: str = "auto",
    group: str | None = None,
    extractor: str = "efficientnet-lite0@128",
    seed: int = 0,
    pictures: bool = True,
) -> Outcome:
    """Find what would spoil a result: broken files, copies, recurring cells, leaks, shortcuts, wrong labels.

    Writes audit.json and audit.html. Exit code 3 if a fault forbids to go on.

    Args:
        data: folder with one subfolder of images per class, or another layout that is recognised.
        out: folder to write.
        layout: how the data lies on disk; auto recognises it.
        group: regular expression with one (bracket) that finds the photo, slide or patient in a file's path.
        extractor: network whose features the classifier checks use; none leaves these checks out.
        seed: of the division into folds.
        pictures: show the cells in audit.html; without them the page holds no image of the data.
    """
    from cytoforge.stages.audit import audit as examine

    found = examine(data, out, layout=layout, group=group, extractor=extractor, seed=seed, pictures=pictures)
    lines = [
        Text.assemble(_MARKS["bad" if finding.blocking else finding.tone], finding.headline)
        for finding in found.findings
    ]
    lines += [Text(f"STOP   {finding.headline} {finding.advice}", "bold red") for finding in found.blocking]
    lines.append(Text(str(out / "audit.html")))
    facts = {
        "audit": out / "audit.json",
        "report": out / "audit.html",
        "images": found.images,
        "groups": found.groups,
        "merged_groups": found.merged_groups,
        "blocking": [finding.headline for finding in found.blocking],
        "probe": found.probe,
        "findings": {
            finding.check: {"tone": finding.tone, "headline": finding.headline, "numbers": finding.numbers}
            for finding in found.findings
        },
    }
    return Outcome(facts, Text("\n").join(lines), failed=bool(found.blocking))
