r"""Finished comparisons of all generative systems become docs/results/generators.md with pictures.

    python benchmarks/generators.py docs/results/generators.md CELLS [--masks MASKS] [--machine "two cores"] \
        [--notes NOTES]

CELLS and MASKS are the --out folders of `cytoforge experiment generators` and `mask-generators`. NOTES holds
`generators.md` and `mask-generators.md`, what was seen, which end the two parts. Only synthetic cells go into
the page.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from cytoforge.core.files import read_json, write_atomic
from cytoforge.experiments.generators import page

INTRODUCTION = """# All generative systems, the same minutes

Every system of this package that needs no pretrained model (so not `text-to-image`) trains for the same
minutes of wall clock on the same machine ({machine}), from the same seeds, with its settings for short
trainings on a CPU (`source` where a method follows a source to the letter), and is measured on cells of
photos that no training saw. None was tuned on those. Losers are shown too.

*KID* is by EfficientNet-Lite0, against which `auto`, `cvae` and `cvae-source` train, so it flatters them;
*KID 2* and the columns from it to *class* are by MobileNetV2; *copies* are searched at 64 px by the one that
the method does not train against, and in coarse pictures of 8 x 8 pixels. *class*: share of cells in
which a classifier that learned from real cells finds the class asked for. *copies*: share flagged at the
false-alarm rate in the first row. *images/s* and *GiB* are speed and peak memory of the training. The first
row is real cells against real cells, the best that can be had. Numbers are means over seeds, each a training
and a division of the cells of its own; brackets hold the least and the greatest distance.

A few minutes are little: methods that are slow, diffusion above all, would be better after hours. What is
compared here is what a laboratory without a GPU gets while it waits.
"""


def section(title: str, folder: Path, picture: str, command: str) -> list[str]:
    """Table and picture of one comparison."""
    found: dict[str, Any] = read_json(folder / "result.json")
    budget = found["budget"]
    return [
        f"## {title}",
        "",
        f"`{command}`",
        "",
        f"{budget['minutes']:g} minutes each at {budget['resolution']} px, {budget['drawn']} cells of each "
        f"class drawn, seeds {' and '.join(map(str, budget['seeds']))}.",
        "",
        page(found["numbers"], found["stopped"], found["floors"]),
        "",
        f"![Synthetic cells, a row a method]({picture})",
        "",
    ]


def main() -> None:
    """Write the page beside its pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("page", "cells"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--masks", type=Path, help="the other comparison, where it has been made")
    parser.add_argument("--machine", default="two cores, no GPU", help="what it ran on, for the page")
    parser.add_argument("--notes", type=Path, help="folder with what was seen, in Markdown")
    given = parser.parse_args()
    lines = [INTRODUCTION.format(machine=given.machine)]
    for title, folder, verb, data in (
        ("From noise and class", given.cells, "generators", "SIPAKMED"),
        ("From masks", given.masks, "mask-generators", "HERLEV"),
    ):
        if folder is None:
            continue
        picture = f"{given.page.stem}-{verb}.png"
        shutil.copyfile(folder / "cells.png", given.page.with_name(picture))
        command = f"cytoforge experiment {verb} --data {data} --scale full --out OUT"
        lines += section(title, folder, picture, command)
        notes = None if given.notes is None else given.notes / f"{verb}.md"
        if notes is not None and notes.is_file():
            lines += [notes.read_text(encoding="utf-8")]
    write_atomic(given.page, "\n".join(lines))


if __name__ == "__main__":
    main()
