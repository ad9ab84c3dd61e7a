"""How well unsupervised masks agree with true ones, beside plain thresholds.

    python benchmarks/masks.py DATA [--per-class 60] [--out docs/results/masks.md]

DATA holds herlev/ and nuclei/. The measurements of `morphology` are checked against Herlev's published table
where quantities agree; that part needs `pip install xlrd`. Writes a page of numbers; no picture is in it.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from cytoforge.core.files import write_atomic
from cytoforge.data.folder import open_cells, read_image, read_mask
from cytoforge.data.herlev import published_measurements
from cytoforge.data.phantom import CLASSES, simulate
from cytoforge.evaluation.statistics import bootstrap_mean
from cytoforge.masks.agreement import dice, iou
from cytoforge.masks.thresholds import BASELINES
from cytoforge.masks.unsupervised import unsupervised_mask
from cytoforge.morphology.features import measure_cell

FIRST_SEED = 10_000
"""Of the simulated cells here; weights were set on cells of other seeds."""

Segment = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Example:
    """A picture with its true mask."""

    kind: str
    group: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def phantom(per_class: int) -> Iterator[Example]:
    """Simulated cells of 96 px."""
    for label in CLASSES:
        for seed in range(FIRST_SEED, FIRST_SEED + per_class):
            cell = simulate(label, seed, 96)
            yield Example(label, f"{label}{seed}", cell.image, cell.mask)


def held_out(name: str) -> bool:
    """Whether a file was not looked at when the weights of the regions' score were set: two thirds."""
    return zlib.crc32(Path(name).stem.encode()) % 3 != 0


def herlev(root: Path) -> Iterator[Example]:
    """Herlev's cells that were held out."""
    for cell in open_cells(root / "herlev").cells:
        mask = read_mask(cell)
        if mask is not None and held_out(cell.name):
            yield Example(cell.label, cell.group, read_image(cell), mask)


def nuclei(root: Path) -> Iterator[Example]:
    """Fields with instance masks that were held out."""
    for path in sorted((root / "nuclei" / "images").rglob("*.png")):
        if held_out(path.name):
            kind = path.parent.name
            with Image.open(path) as image, Image.open(root / "nuclei" / "masks" / kind / path.name) as mask:
                true = np.where(np.asarray(mask) > 0, 2, 0).astype(np.uint8)
                yield Example(kind, path.stem, np.asarray(image.convert("RGB")), true)


def scores(found: NDArray[np.uint8], true: NDArray[np.uint8]) -> tuple[float, ...]:
    """The `QUANTITIES`, unknown pixels left out."""
    known = true != 3
    return (
        dice(found == 2, true == 2, known),
        iou(found == 2, true == 2, known),
        dice(found > 0, true > 0, known),
        dice(found == 1, true == 1, known),
        iou(found == 1, true == 1, known),
    )


QUANTITIES = ("Nucleus, Dice", "Nucleus, IoU", "Whole cell, Dice", "Cytoplasm, Dice", "Cytoplasm, IoU")


def table(examples: Sequence[Example], ways: Mapping[str, Segment], quantities: int) -> list[str]:
    """A table for each of the first quantities: a row a kind, a column a way."""
    values: dict[str, NDArray[np.float64]] = {}
    spent = []
    for way, segment in ways.items():
        start = time.process_time()
        found = [segment(example.image) for example in examples]
        spent.append(f"{way} {1000 * (time.process_time() - start) / len(examples):.0f} ms")
        pairs = zip(found, examples, strict=True)
        values[way] = np.array([scores(mask, example.mask) for mask, example in pairs])
    kinds = np.array([example.kind for example in examples])
    groups = np.array([example.group for example in examples])
    lines = []
    for column, quantity in enumerate(QUANTITIES[:quantities]):
        lines += [f"| {quantity} | {' | '.join(ways)} |", f"|---|{'---|' * len(ways)}"]
        for kind in (*sorted(set(kinds)), "all"):
            own = np.ones(len(kinds), bool) if kind == "all" else kinds == kind
            parts = {way: values[way][own, column] for way in ways}
            lines.append(f"| {kind} ({own.sum()}) | {' | '.join(marked(parts, list(groups[own])))} |")
        lines.append("")
    return [*lines, f"Processor time for one picture: {', '.join(spent)}.", ""]


def marked(parts: Mapping[str, NDArray[np.float64]], groups: Sequence[str]) -> list[str]:
    """Means with their 95 % intervals (bootstrap over groups), the highest in bold."""
    best = max(parts, key=lambda way: parts[way].mean())
    cells = []
    for way, part in parts.items():
        low, high = bootstrap_mean(part, groups)
        mean = f"**{part.mean():.3f}**" if way == best else f"{part.mean():.3f}"
        cells.append(f"{mean} ({low:.3f}-{high:.3f})")
    return cells


PAIRS = {
    "K/C": ("nc_ratio", "nucleus / whole cell, area"),
    "Kerne_A": ("nucleus_area", "nucleus, area"),
    "Cyto_A": ("cytoplasm_area", "cytoplasm, area"),
    "KerneElong": ("nucleus_elongation", "nucleus, short over long axis"),
    "CytoElong": ("cytoplasm_elongation", "cytoplasm, short over long axis"),
    "KerneLong": ("nucleus_major_axis_length", "nucleus, long axis"),
    "KerneShort": ("nucleus_minor_axis_length", "nucleus, short axis"),
    "Kerne_Ycol": ("nucleus_grey", "nucleus, brightness"),
    "Cyto_Ycol": ("cytoplasm_grey", "cytoplasm, brightness"),
}


def measured(cell_image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> dict[str, float]:
    """Our measurements, with the two that the table has and we compose: elongation and brightness."""
    found = measure_cell(cell_image, mask)
    for region in ("nucleus", "cytoplasm"):
        if f"{region}_area" in found:
            found[f"{region}_elongation"] = (
                found[f"{region}_minor_axis_length"] / found[f"{region}_major_axis_length"]
            )
            found[f"{region}_grey"] = (
                0.299 * found[f"{region}_red_mean"]
                + 0.587 * found[f"{region}_green_mean"]
                + 0.114 * found[f"{region}_blue_mean"]
            )
    return found


def against_table(root: Path) -> list[str]:
    """Rank correlation with the published table, and the typical ratio where no scale is involved."""
    known = published_measurements(root / "herlev")
    pairs: dict[str, list[tuple[float, float]]] = {column: [] for column in PAIRS}
    for cell in open_cells(root / "herlev").cells:
        mask, row = read_mask(cell), known.get(cell.path.stem)
        if mask is None or row is None:
            continue
        ours = measured(read_image(cell), mask)
        # pictures were scaled: areas and lengths are brought to the table's scale by the area of the cell
        whole = ours.get("nucleus_area", 0) + ours.get("cytoplasm_area", 0)
        zoom = np.sqrt((row["Kerne_A"] + row["Cyto_A"]) / whole) if whole else np.nan
        for column, (name, _) in PAIRS.items():
            if name in ours:
                power = 2 if name.endswith("area") else 1 if "axis" in name else 0
                pairs[column].append((ours[name] * zoom**power, row[column]))
    lines = [
        "| published column | ours | cells | rank correlation | median of ours / published (middle half) |",
        "|---|---|---|---|---|",
    ]
    for column, (_, meaning) in PAIRS.items():
        mine, theirs = np.array(pairs[column]).T
        ratio = np.quantile(mine / theirs, [0.5, 0.25, 0.75])
        rank = stats.spearmanr(mine, theirs).statistic
        spread = f"{ratio[0]:.3f} ({ratio[1]:.3f} to {ratio[2]:.3f})"
        lines.append(f"| {column} | {meaning} | {len(mine)} | {rank:.3f} | {spread} |")
    return [*lines, ""]


INTRODUCTION = """# Masks without annotation

Made by `python benchmarks/masks.py DATA --per-class {count}`. Unsupervised masks by the five steps of SynCGAN
against the true masks, beside plain thresholds and an ellipse that knows nothing but the framing of the crop
(see [Masks](../masks.md)). Means over images; in brackets the 95 % interval (bootstrap; whole slides of
Herlev are drawn). The weights of the score that picks the nucleus were set on other simulated cells and on
files of Herlev and of the nuclei set that are left out here (a third of each). Pixels that
Herlev marks as unknown do not count. Otsu: three levels, the darkest is nucleus.
"""
LIMITS = """## Where it fails

* The mean hides complete misses, where a dark neighbour, a fold or a speck was taken for the nucleus. Look at
  `gallery.png` before you train on such masks. The worst classes lie well below the mean: metaplastic cells
  of the simulation (0.72 against 0.82), Herlev's superficial cells with tiny nuclei (0.71 against 0.88).
* Cytoplasm: pale cells, mucus and neighbours share their colours, so much of the outline comes from the
  framing of the crop. The column of the ellipse says how much.
* **Fields of many cells: a plain threshold is better.** The score was made for one nucleus in a crop. In
  clumps (`cytology_grey`) none of the three is of use: overlapping cytoplasm is as dark as a nucleus, and a
  grey picture has no colour to tell them apart.
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--per-class", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("docs/results/masks.md"))
    options = parser.parse_args()
    crops: dict[str, Segment] = {"unsupervised": unsupervised_mask, **BASELINES}
    fields: dict[str, Segment] = {
        "unsupervised": lambda image: unsupervised_mask(image, single=False),
        **{name: BASELINES[name] for name in ("otsu", "adaptive")},
    }
    lines = [INTRODUCTION.format(count=options.per_class)]
    lines += [
        "## Simulated cells, 96 px",
        "",
        *table(list(phantom(options.per_class)), crops, len(QUANTITIES)),
    ]
    lines += ["## Herlev", "", *table(list(herlev(options.data)), crops, len(QUANTITIES))]
    lines += ["## Nuclei in fields", "", *table(list(nuclei(options.data)), fields, 2)]
    lines += [LIMITS, "## The measurements against Herlev's published table", ""]
    lines += [
        "True masks, all cells. The pictures were scaled by an earlier hand, so lengths and areas are first",
        "brought to the table's scale by the area of the whole cell.",
        "",
        *against_table(options.data),
    ]
    write_atomic(options.out, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
