"""A finished experiment becomes a page for docs/results: what it repeats and how, its table and its plots.

    python benchmarks/experiment.py PAGE OUT --picture accuracy.png [--picture ...] [--notes NOTES]
        --machine "two cores of ..."

OUT is the --out folder of `cytoforge experiment` for an experiment that writes table.md. What differs from
the source comes from the experiment's docstring, what the numbers mean is written by hand in the notes. Give
no picture that shows real cells.
"""

from __future__ import annotations

import argparse
import inspect
import shlex
import shutil
from pathlib import Path

from cytoforge.core.files import read_json, write_atomic
from cytoforge.experiments.catalogue import EXPERIMENTS


def page(out: Path, target: Path, pictures: list[str], machine: str, notes: str) -> str:
    """The page; its pictures are copied beside `target`."""
    facts = read_json(out / "experiment.json")
    title, _, story = inspect.cleandoc(
        inspect.getmodule(EXPERIMENTS[facts["experiment"]].run).__doc__ or ""
    ).partition("\n\n")
    data = Path(facts["data"]).name.upper() if facts["data"] else None
    shown = f" --data {data}" if data else ""
    settings = {
        key: value if isinstance(value, str) else ",".join(value)
        for key, value in facts.get("settings", {}).items()
    }
    changed = "".join(f" --set {shlex.quote(f'{key}={value}')}" for key, value in settings.items())
    lines = [
        f"# {title.rstrip('.')}",
        "",
        f"`cytoforge experiment {facts['experiment']}{shown} --scale {facts['scale']}{changed} --out OUT`",
        "",
        machine,
        "",
        *([notes, ""] if notes else []),
        "## Numbers",
        "",
        (out / "table.md").read_text(encoding="utf-8").strip(),
        "",
    ]
    for picture in pictures:
        name = f"{target.stem}-{Path(picture).name}"
        shutil.copyfile(out / picture, target.parent / name)
        lines += [f"![{Path(picture).stem}]({name})", ""]
    return "\n".join([*lines, "## What was repeated, and how", "", story, ""])


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--picture", action="append", default=[], help="file below OUT")
    parser.add_argument("--machine", default="", help="a sentence on where it was computed")
    parser.add_argument("--notes", type=Path, help="Markdown that goes before the numbers")
    given = parser.parse_args()
    notes = "" if given.notes is None else given.notes.read_text(encoding="utf-8").strip()
    write_atomic(given.page, page(given.out, given.page, given.picture, given.machine, notes))


if __name__ == "__main__":
    main()
