"""How many planted copies of training cells the copy search finds, by each network and by the coarse picture.

    python benchmarks/copies.py DATA [--out docs/results/copies.md]

DATA is a folder of labelled cells such as SIPaKMeD. Training cells, changed as a generator or a file format
could change them, are mixed with unseen cells, and the mixture is searched as `cytoforge evaluate` searches
a synthetic set. Writes a page of numbers; no picture is in it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytoforge.core.files import write_atomic
from cytoforge.data.cache import open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.comparison import FeatureSet
from cytoforge.evaluation.copies import SIDE, search
from cytoforge.evaluation.features import Extractor, open_extractor
from cytoforge.evaluation.memorisation import CopyTest, copy_test
from cytoforge.stages.compared import Images, looks_at, part_images
from cytoforge.stages.split import split_once

NETWORKS = ("efficientnet-lite0", "mobilenet-v2")
WAYS = (
    *(f"{network} and coarse picture" for network in NETWORKS),
    *(f"{network} alone" for network in NETWORKS),
    "coarse picture alone",
)
RESOLUTION, PLANTED, UNSEEN = 64, 60, 300

Pixels = NDArray[np.uint8]


def levels(values: NDArray[np.floating]) -> Pixels:
    """Grey levels, rounded and cut off."""
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def noisy(cell: Pixels) -> Pixels:
    """Normal noise of 12 levels, always the same."""
    return levels(cell + np.random.default_rng(0).normal(0, 12, cell.shape))


def compressed(cell: Pixels) -> Pixels:
    """JPEG of quality 30."""
    file = BytesIO()
    Image.fromarray(cell).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


def blurred(cell: Pixels, deviation: float) -> Pixels:
    """Gaussian blur."""
    return levels(ndimage.gaussian_filter(cell.astype(float), (deviation, deviation, 0)))


def enlarged(cell: Pixels) -> Pixels:
    """The middle, a tenth larger."""
    larger = ndimage.zoom(cell.astype(float), (1.1, 1.1, 1), order=1)
    start = (len(larger) - len(cell)) // 2
    part = slice(start, start + len(cell))
    return levels(larger[part, part])


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda cell: cell,
    "turned and mirrored": lambda cell: np.ascontiguousarray(np.rot90(cell)[:, ::-1]),
    "noise of 12 levels": noisy,
    "JPEG, quality 30": compressed,
    "blurred by 1 px": lambda cell: blurred(cell, 1),
    "blurred by 2 px": lambda cell: blurred(cell, 2),
    "another stain": lambda cell: levels(cell * np.array([1.1, 0.92, 1.05]) + 8),
    "moved by 3 px": lambda cell: ndimage.shift(cell, (3, -3, 0), order=0, mode="nearest"),
    "enlarged by a tenth": enlarged,
}
MIXED = "a quarter of another training cell mixed in"


def planted(train: Pixels, rows: NDArray[np.int64], change: str) -> Pixels:
    """Changed copies (N, R, R, 3) of training cells."""
    if change == MIXED:
        others = np.roll(rows, 1)
        return levels(0.75 * train[rows] + 0.25 * train[others])
    return np.stack([CHANGES[change](train[row]) for row in rows])


def searched(data: Path, work: Path, network: Extractor) -> dict[tuple[str, str], CopyTest]:
    """Change and way -> what was found among the planted copies, which come first, and unseen cells."""
    cells = open_cells(data)
    division = split_once(cells, work / "split.json", 0)
    cached = open_cache(cells, Preparation(resolution=RESOLUTION))
    train, unseen, holdout = (
        part_images(cached, division, part, network) for part in ("train", "val", "test")
    )
    rng = np.random.default_rng(0)
    rows = rng.choice(len(train), PLANTED, replace=False)
    honest = rng.choice(len(unseen), min(UNSEEN, len(unseen)), replace=False)
    labels = np.concatenate([train.features.labels[rows], unseen.features.labels[honest]])
    found = {}
    for change in (*CHANGES, MIXED):
        pixels = np.concatenate([planted(train.pixels, rows, change), unseen.pixels[honest]])
        names = tuple(map(str, range(len(pixels))))
        features = FeatureSet(np.zeros((len(pixels), 1)), labels, names, network.name, RESOLUTION)
        own, coarse = looks_at(train, holdout, Images(pixels, names, features), network)
        ways = {
            f"{network.network} and coarse picture": (own, coarse),
            f"{network.network} alone": (own,),
            "coarse picture alone": (coarse,),
        }
        for way, looks in ways.items():
            scores = search(looks, train.features, holdout.features, features).scores
            found[change, way] = copy_test(scores)
    return found


INTRODUCTION = """# What the search for copies finds

Made by `python benchmarks/copies.py DATA`: {planted} training cells of SIPaKMeD at {resolution} px, changed,
among {unseen} cells that are neither of the training nor of the holdout part, searched as
`cytoforge evaluate` does (networks see {side} px). Share of the planted copies that is flagged at a
false-alarm rate of 1 %; an asterisk where both p-values of the set say "copies".

"""
CONCLUSION = """
The rule is the smaller score of a network and the coarse picture (the first two columns). **Either network
will do**, since the coarse picture of 8 x 8 pixels does most of the work: without it a network misses copies
with noise, blur or a JPEG's blocks. What all miss are some of the cells that moved by a few pixels, and of
those with a quarter of another cell in them. So a set in which nothing was found is not thereby anonymous.
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/copies.md"))
    options = parser.parse_args()
    found: dict[tuple[str, str], CopyTest] = {}
    with tempfile.TemporaryDirectory() as work:
        for network in NETWORKS:
            found |= searched(options.data, Path(work), open_extractor(f"{network}@{SIDE}"))
    lines = [f"| change | {' | '.join(WAYS)} |", "|---" * (len(WAYS) + 1) + "|"]
    for change in (*CHANGES, MIXED):
        tests = [found[change, way] for way in WAYS]
        shares = [
            f"{test.flagged[:PLANTED].mean():.0%}{'*' if test.alarms().found() else ''}" for test in tests
        ]
        lines.append(f"| {change} | {' | '.join(shares)} |")
    alarms = [found["none", way].flagged[PLANTED:] for way in WAYS]
    lines.append(f"| *unseen cells* | {' | '.join(f'{own.sum()} of {len(own)}' for own in alarms)} |")
    numbers = {"planted": PLANTED, "unseen": len(alarms[0]), "resolution": RESOLUTION, "side": SIDE}
    write_atomic(options.out, INTRODUCTION.format(**numbers) + "\n".join(lines) + "\n" + CONCLUSION)


if __name__ == "__main__":
    main()
