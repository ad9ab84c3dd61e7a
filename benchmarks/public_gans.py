"""Public generators on the same cells, cores and minutes as a run of cytoforge become a page with pictures.

    python benchmarks/public_gans.py DATA RUN OUT --minutes 30 --threads 2 --set auto=SYNTHETIC \
        [--set wgan-gp=OTHER] [--page docs/results/public-gans.md] [--notes benchmarks/notes/public-gans.md]

RUN gives the split and the preparation: training cells go to each package as PNG files of the run's
resolution, the run's test cells judge. Each package gets an environment of its own (OUT/environments), which
sees this one's torch, so that all compute with the same build; a package that does not install or refuses a
CPU is recorded with its message. What is finished is kept: the same call goes on. To use only some cores,
start it under `taskset`.

The packages are unconditional: they draw 1,000 cells, or as many as --draw-minutes allow. Sets of cytoforge
are read as they are. Settings are in `public_gans_entry.py`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import read_json, write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.core.progress import progress
from cytoforge.core.run import Run
from cytoforge.data.cache import CachedCells, cache_directory, open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, check_split
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.comparison import FeatureSet, compare
from cytoforge.evaluation.features import Extractor, extract, open_extractor
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.sampling.provenance import read_manifest
from cytoforge.stages.compared import joined, part_images, read_set

PACKAGES = {
    "lightweight-gan": ("lightweight-gan==1.2.1",),
    "denoising-diffusion-pytorch": ("denoising-diffusion-pytorch==2.3.4",),
    "torch-mimicry": ("torch-mimicry==0.1.16", "tensorboard>=2.17"),
}
"""What pip is asked for; torch-mimicry needs tensorboard without saying so."""

JUDGES = ("efficientnet-lite0", "mobilenet-v2")
SHOWN = ("precision", "recall", "coverage")
DRAWN = 1000
PICTURED = 12
ENTRY = Path(__file__).with_name("public_gans_entry.py")

INTRODUCTION = """# Public generators, the same minutes

`{command}`

{minutes:g} minutes of training each on the same {train:,} cells of {side} px, the same {threads} thread(s)
and the same build of torch; measured on {test} cells of photos that no training saw. The packages run with
their own defaults (but 25 sampling steps for `denoising-diffusion-pytorch`, whose README takes 250) and know
no classes; they draw {drawn:,} cells, or as many as fit into {draw_minutes:g} minutes (column *drawn*).
cytoforge's sets have classes and are thinned to the test cells' mix where that loses less than half.

*KID* is by EfficientNet-Lite0, against which `auto` trains, so it flatters `auto`; *KID 2* and the shares are
by MobileNetV2. *floor*: the same score of real cells against real cells in the same numbers.
"""


@dataclass(frozen=True)
class Judge:
    """A network and what it sees in the real cells: those of the test part, and all."""

    network: Extractor
    test: FeatureSet
    real: FeatureSet


def environment(folder: Path, requirements: Sequence[str]) -> Path:
    """The Python of an environment that has a package, made if missing; this one's come behind its own.

    Raises:
        ConfigError: the package does not install; with pip's last lines.
    """
    python = folder / "bin" / "python"
    if (folder / "ready").is_file():
        return python
    venv.create(folder, with_pip=True, clear=True)
    own = sysconfig.get_path("purelib")
    behind = f"import site; site.addsitedir({own!r})\n"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    write_atomic(folder / "lib" / version / "site-packages" / "cytoforge_environment.pth", behind)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *requirements],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigError("pip: " + " ".join(done.stderr.strip().splitlines()[-3:]))
    write_atomic(folder / "ready", "\n".join(requirements))
    return python


def entry(name: str, cells: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Train and draw one package, unless it is done: its cost, or {"message": why not}."""
    place = given.out / name
    for known in (place / "cost.json", place / "refused.json"):
        if known.is_file():
            return dict(read_json(known))
    place.mkdir(parents=True, exist_ok=True)
    try:
        python = environment(given.out / "environments" / name, PACKAGES[name])
    except ConfigError as error:
        write_json(place / "refused.json", {"message": str(error)})
        return {"message": str(error)}
    command = [
        python, ENTRY, name, cells, place, "--minutes", given.minutes, "--draw-minutes", given.draw_minutes,
        "--count", given.count, "--threads", given.threads,
    ]  # fmt: skip
    settings = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "MPLBACKEND": "agg"}
    with (place / "log.txt").open("wb") as log:
        subprocess.run(
            [str(word) for word in command], stdout=log, stderr=subprocess.STDOUT, env=settings, check=False
        )
    for known in (place / "cost.json", place / "refused.json"):
        if known.is_file():
            return dict(read_json(known))
    raise SystemExit(f"{name} ended without a result; see {place / 'log.txt'}")


def training_cells(cached: CachedCells, split: Split, folder: Path) -> Path:
    """The training cells as PNG files, numbered."""
    if not (folder / "ready").is_file():
        wanted = set(split.names("train"))
        rows = np.array([index for index, name in enumerate(cached.names) if name in wanted], np.int64)
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(cached.read(rows)):
            (folder / f"{number:05d}.png").write_bytes(encode_png(image, {}))
        write_atomic(folder / "ready", str(len(rows)))
    return folder


def judges(cached: CachedCells, split: Split) -> list[Judge]:
    """Both networks with what they see in the real cells."""
    found = []
    for name in JUDGES:
        network = open_extractor(name)
        parts = [part_images(cached, split, part, network).features for part in ("train", "val", "test")]
        found.append(Judge(network, parts[2], joined(parts)))
    return found


def measured(images: NDArray[np.uint8], labels: NDArray[np.int64] | None, judge: Judge) -> dict[str, Any]:
    """Scores with floors and intervals; without labels all cells count as one class."""
    values = extract(images, judge.network, cache_directory())
    groups = tuple(f"drawn {index}" for index in range(len(images)))
    test, real = judge.test, judge.real
    if labels is None:
        labels = np.zeros(len(images), np.int64)
        test, real = _one_class(test), _one_class(real)
    fake = FeatureSet(values, labels, groups, judge.network.name, test.resolution)
    classes = [str(number) for number in range(int(real.labels.max()) + 1)]
    return compare(test, fake, real, classes)[0].model_dump()["numbers"]


def _one_class(features: FeatureSet) -> FeatureSet:
    return FeatureSet(
        features.values,
        np.zeros_like(features.labels),
        features.groups,
        features.extractor,
        features.resolution,
    )


def scores(images: NDArray[np.uint8], labels: NDArray[np.int64] | None, both: list[Judge]) -> dict[str, Any]:
    """The columns of one row and the floors below them."""
    first, second = (measured(images, labels, judge) for judge in both)
    row = {"KID": first["kernel_distance"], "KID 2": second["kernel_distance"]}
    return {**row, **{name: second[name] for name in SHOWN}}


def page(rows: dict[str, dict[str, Any]], refused: dict[str, str], introduction: str, picture: str) -> str:
    """The results as Markdown, best by the second judge first."""
    columns = ("KID", "KID 2", *SHOWN)
    lines = [
        introduction,
        f"| | {' | '.join(columns)} | floor of KID 2 | drawn | images/s |",
        "|---" * 9 + "|",
    ]
    for name, found in sorted(rows.items(), key=lambda each: each[1]["scores"]["KID 2"]["value"]):
        number = found["scores"]
        low, high = number["KID 2"]["low"], number["KID 2"]["high"]
        values = [f"{number[column]['value']:.3f}" for column in columns]
        values[1] += f" ({low:.3f} to {high:.3f})"
        speed = "" if found["images/s"] is None else f"{found['images/s']:.1f}"
        floor = number["KID 2"]["floor"]
        lines.append(f"| {name} | {' | '.join(values)} | {floor:.3f} | {found['drawn']} | {speed} |")
    notes = [f"- `{name}`: {message}" for name, message in refused.items()]
    said = ["", "What the packages said on this machine:", "", *notes] if notes else []
    shown = ["", f"![The first cells of each, nothing chosen]({picture})", ""]
    return "\n".join([*lines, *said, *shown])


def own_set(folder: Path, cached: CachedCells) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and labels of a set of cytoforge, in turn through the classes."""
    manifest = read_manifest(folder)
    pixels = read_set(folder, manifest, cached)
    labels = manifest.labels
    order = np.argsort([np.sum(labels[:place] == label) for place, label in enumerate(labels)], kind="stable")
    return pixels[order], labels[order]


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("data", "run", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, each")
    parser.add_argument("--draw-minutes", type=float, default=20.0, help="of drawing at most, each")
    parser.add_argument("--count", type=int, default=DRAWN, help="cells drawn by each package at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--entries", nargs="*", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=FOLDER", help="a set of cytoforge"
    )
    parser.add_argument("--page", type=Path, help="Markdown page; OUT/public-gans.md where not given")
    parser.add_argument("--notes", type=Path, help="Markdown that ends the page: what was seen")
    return parser.parse_args()


def main() -> None:
    """Train all, measure all, write the page."""
    given = arguments()
    run = Run.open(given.run)
    split = Split.load(run.split_path)
    cells = open_cells(given.data, run.config["data"]["layout"])
    check_split(split, cells)
    cached = open_cache(cells, Preparation.model_validate(run.config["preparation"]))
    folder = training_cells(cached, split, given.out / "cells")
    costs: dict[str, dict[str, Any]] = {}
    with progress("public generators", len(given.entries)) as advance:
        for name in given.entries:
            costs[name] = entry(name, folder, given)
            advance(1)
    both = judges(cached, split)
    rows: dict[str, dict[str, Any]] = {}
    pictures: dict[str, NDArray[np.uint8]] = {}
    refused = {name: cost["message"] for name, cost in costs.items() if "message" in cost}
    for name, cost in costs.items():
        if "message" in cost:
            continue
        images = np.load(given.out / name / "images.npy", allow_pickle=False)
        if cost["refusal"]:
            refused[name] = f"{cost['refusal']} (run here all the same, with what it asks for stood in)"
        rows[name] = {
            "scores": scores(images, None, both),
            "drawn": len(images),
            "images/s": cost["images/s"],
        }
        pictures[name] = images[:PICTURED]
    for pair in given.set:
        name, _, place = pair.partition("=")
        images, labels = own_set(Path(place), cached)
        rows[f"cytoforge {name}"] = {
            "scores": scores(images, labels, both), "drawn": len(images), "images/s": _speed(Path(place)),
        }  # fmt: skip
        pictures[f"cytoforge {name}"] = images[:PICTURED]
    write_json(given.out / "result.json", {"minutes": given.minutes, "rows": rows, "costs": costs})
    target = given.page or given.out / "public-gans.md"
    picture = target.with_suffix(".png")
    if pictures:
        sheet = labelled_rows(pictures, "synthetic; the first of each, nothing chosen")
        write_atomic(picture, encode_png(sheet, {"Synthetic": "true"}))
    introduction = INTRODUCTION.format(
        command="python benchmarks/public_gans.py DATA RUN OUT --minutes ... --set auto=SYNTHETIC",
        minutes=given.minutes, train=len(split.names("train")), side=cached.shape.resolution,
        threads=given.threads, test=len(split.names("test")), drawn=given.count,
        draw_minutes=given.draw_minutes,
    )  # fmt: skip
    notes = "" if given.notes is None else "\n" + given.notes.read_text(encoding="utf-8")
    write_atomic(target, page(rows, refused, introduction, picture.name) + notes)


def _speed(folder: Path) -> float | None:
    """Training images a second of the run that a set names, where it is still there."""
    place = (folder / read_manifest(folder).header.run).resolve()
    if not (place / "config.json").is_file():
        return None
    last = Run.open(place).last("losses")
    assert last is not None
    return float(last["seen"] / last["seconds"])


if __name__ == "__main__":
    main()
