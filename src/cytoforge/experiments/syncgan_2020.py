"""Do SynCGAN's cells help classifiers? Tables 2 and 3 of source 002, repeated over splits, with intervals.

Source 002 (Dey et al., 2020) takes 75 benign and 75 malignant images, divides them 3:1:1, adds two
synthetic images for each real training image, and names the test accuracy of three networks in seven regimes.
With 30 test images one image is 3.33 points: its largest gain from its cells over original images alone is
two images, which has p = 0.5 at best; on top of ordinary augmentation it is four, p = 0.125. One of its
numbers, 84.67, no 30 images can give. Here every regime is repeated, and the study says how sure it is.

What differs from the source, and why:

* Its fine-needle images are not public. The protocol runs on any cells of two sides; Herlev's normal classes
  against its dysplastic ones and carcinoma, or SIPaKMeD's normal against its abnormal ones (Metaplastic,
  which source 001 calls benign, is left out). 75 cells of a side are drawn, as evenly over their classes as
  these go.
* No slide is on both sides of a split, which the source does not ask for. Folds of a fifth are tested in
  turn; 45 cells of a side train, as there. The source's validation part is not needed: nothing is chosen
  while classifiers train, all take the same number of steps, and the generator's last checkpoint draws.
* Masks are those of the data where there are any, else found without annotation as in the source; they have
  cytoplasm beside the nucleus.
* Generators have minutes, not the source's 200 and 1,600 epochs, and the settings for a CPU where there is no
  GPU: one conditional mask GAN with R1; a smaller painter that is told the class and gets a channel of
  noise, with group norm, without dropout, and with a weight of the squared difference of 10 instead of 100.
* The control "GAN" is adversarial training without masks, as there: non-saturating loss, soft and flipped
  labels, no penalty, no augmentation; one for both classes. Its networks are those of `gan`, where the source
  keeps the U-Net.
* Networks see 64 px (Inception-V3 needs 75) instead of an unknown size and are trained from random weights;
  the source does not say from which. `cytoforge study` with `--set resnet152.weights=FILE` takes local ones.
* A linear classifier on pretrained features stands beside them: what a small laboratory would use.
* Traditional augmentation: flips, rotation by any angle and Gaussian noise, as there, drawn anew each step.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binomtest

from cytoforge.core.device import native_precision
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.executors import Executor
from cytoforge.core.files import read_json, write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.core.randomness import derive
from cytoforge.data.cells import Cell, CellSet
from cytoforge.data.folder import open_cells, read_mask
from cytoforge.data.images import decode
from cytoforge.data.layouts import SUMMARY
from cytoforge.evaluation.utility import compare_paired
from cytoforge.experiments.contest import cells_for
from cytoforge.experiments.scale import Scale, begun_with
from cytoforge.report.study import table as study_table
from cytoforge.stages.mask import mask as find_masks
from cytoforge.stages.study import study
from cytoforge.stages.study_plan import Plan

REGIMES: Final = ("orig", "+prop", "+trad", "+trad+prop", "prop", "gan", "orig+gan")
SIDES: Final = ("abnormal", "normal")
NORMAL: Final = frozenset(
    {"normal_columnar", "normal_intermediate", "normal_superficiel", "superficial-intermediate", "parabasal"}
)
ABNORMAL: Final = frozenset(
    {"light_dysplastic", "moderate_dysplastic", "severe_dysplastic", "carcinoma_in_situ"}
    | {"koilocytotic", "dyskeratotic"}
)
TEST_IMAGES: Final = 30
"""In the source."""

SOURCE: Final[dict[str, dict[str, float]]] = {
    "resnet152": dict(zip(REGIMES, (73.33, 76.67, 70.00, 76.67, 73.33, 50.00, 63.33), strict=True)),
    "densenet161": dict(zip(REGIMES, (80.00, 86.67, 83.33, 84.67, 63.33, 50.00, 60.00), strict=True)),
    "inception-v3": dict(zip(REGIMES, (73.33, 80.00, 63.33, 76.67, 66.67, 56.67, 66.67), strict=True)),
}
"""Test accuracy in percent, tables 2 and 3."""


@dataclass(frozen=True)
class Budget:
    """How much is trained.

    Attributes:
        per_side: cells of each side.
        real: of them, how many train.
        plan: further settings of the study.
    """

    per_side: int
    real: int
    plan: Mapping[str, Any]


_SCRATCH = {"mode": "scratch", "weights": "none", "resolution": 64, "steps": 75, "batch": 16}
_VANILLA = {
    **{"loss": "non-saturating", "r1": 0.0, "r2": 0.0, "betas": (0.5, 0.999), "augment": ""},
    **{"label_smoothing": 0.1, "label_flips": 0.05},
}
_TINY = {
    "width": 8,
    "most_width": 16,
    "discriminator_width": 8,
    "mask_discriminator_width": 8,
    "mask_width": 8,
}

BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(
        24,
        10,
        {
            "classifiers": ("basic-cnn",),
            "repeats": 2,
            "folds": 2,
            "resolution": 32,
            "images": 32,
            "settings": {
                "syncgan": {**_TINY, "batch": 8},
                "gan": {**_VANILLA, "generator_channels": 8, "discriminator_channels": 8, "batch": 8},
                "basic-cnn": {"steps": 10, "batch": 8, "resolution": 16},
            },
        },
    ),
    "full": Budget(
        75,
        45,
        {
            "classifiers": (*SOURCE, "linear"),
            "repeats": 5,
            "folds": 5,
            "resolution": 64,
            "minutes": 5.0,
            "settings": {
                "gan": _VANILLA,
                "resnet152": _SCRATCH,
                "densenet161": _SCRATCH,
                "inception-v3": {**_SCRATCH, "resolution": 75},
            },
        },
    ),
}


def run(
    data: Path | None,
    out: Path,
    scale: Scale,
    *,
    executor: Executor = "serial",
    workers: int | None = None,
) -> dict[str, Any]:
    """Draw the cells, run the study, and lay its accuracies beside the source's.

    Args:
        data: folder of cells of two sides, or None for simulated ones.
        out: folder for result.json, table.md, table.png, cells/ and study/ (with its own report).
        scale: "smoke" or "full".
        executor: where generators and classifiers are trained.
        workers: how many at once.

    Returns:
        What result.json holds.

    Raises:
        DataError: the classes are neither two nor known, or too few cells are of one side.
    """
    budget = BUDGETS[scale]
    folder = two_sides(cells_for(data, out, 13 if scale == "smoke" else 100, 48), out, budget.per_side)
    machine = begun_with(out, {"precision": native_precision()})
    settings = {
        name: {**own, **machine} if name in SOURCE else own for name, own in budget.plan["settings"].items()
    }
    plan = Plan(
        generators=("syncgan",), control="gan", real=(budget.real,), ratios=(2.0,), regimes=REGIMES,
        score="accuracy", **{**budget.plan, "settings": settings},
    )  # fmt: skip
    found = study(folder, out / "study", plan, layout="paired", executor=executor, workers=workers)
    table = accuracies(found)
    result = {
        "experiment": "syncgan-2020",
        "scale": scale,
        "budget": asdict(budget),
        "source": {
            "table": SOURCE,
            "gains": {name: gain(row["+prop"], row["orig"]) for name, row in SOURCE.items()},
        },
        "cells": found["data"],
        "table": table,
        "answers": found["answers"],
        "generators": found["generators"],
    }
    write_atomic(out / "table.md", f"{page(table)}\n\n{study_table(found)}\n")
    draw_table(out / "table.png", table)
    write_json(out / "result.json", result)
    return result


def two_sides(data: Path, out: Path, per_side: int, seed: int = 0) -> Path:
    """A paired folder of so many normal and so many abnormal cells with masks, kept from call to call.

    Args:
        data: folder of cells; its classes are two, or among `NORMAL` and `ABNORMAL`.
        out: the folder is `out`/cells.
        per_side: cells of each side, spread over its classes.
        seed: of the draw.

    Raises:
        ConfigError: the folder holds another number of cells.
        DataError: a class is unknown, or too few cells are of one side.
    """
    cells = open_cells(data)
    chosen = draw_sides(cells, per_side, seed)
    plain, place = out / "cells-without-masks", out / "cells"
    if (place / SUMMARY).is_file() and "unfinished" not in read_json(place / SUMMARY):
        if len(open_cells(place, "paired")) != 2 * per_side:
            raise ConfigError(f"{place} holds other cells than are asked for; choose another --out.")
        return place
    masked = all(cell.mask is not None for _, cell in chosen)
    target = place if masked else plain
    stated = {}
    for number, (side, cell) in enumerate(chosen):
        name = f"{side}/{number:04d}"
        image = f"images/{name}{cell.path.suffix.lower()}"
        write_atomic(target / image, cell.path.read_bytes())
        if masked:
            levels = read_mask(cell)
            assert levels is not None
            write_atomic(target / "masks" / f"{name}.png", encode_png(levels, {"Mask": "given"}))
        stated[image] = {"group": cell.group, "split": None, "from": cell.name}
    write_json(target / SUMMARY, {"format": 1, "kind": "masks", "cells": stated})
    if not masked:
        shutil.rmtree(place, ignore_errors=True)  # left by a search that was interrupted
        find_masks(plain, place, layout="paired")
    return place


def draw_sides(cells: CellSet, per_side: int, seed: int) -> list[tuple[str, Cell]]:
    """`per_side` cells of each side in random order, class by class in turn while there are some.

    Pictures that cannot be opened are passed over.

    Raises:
        DataError: a class is unknown, or too few cells are of one side.
    """
    sides = sides_of(cells.classes)
    rng = np.random.default_rng(derive(seed, "two sides"))
    drawn = []
    for side in SIDES:
        piles = []
        for name in (name for name, own in sides.items() if own == side):
            own = [cell for cell in cells.cells if cell.label == name and cell.row is None]
            piles.append([own[index] for index in rng.permutation(len(own))])
        order = [(turn, pile) for pile, each in enumerate(piles) for turn in range(len(each))]
        usable = (cell for turn, pile in sorted(order) if _opens(cell := piles[pile][turn]))
        taken = list(islice(usable, per_side))
        if len(taken) < per_side:
            raise DataError(f"{cells.root} has {len(taken)} {side} cells, {per_side} are needed; add images.")
        drawn += [(side, cell) for cell in taken]
    return drawn


def _opens(cell: Cell) -> bool:
    try:
        decode(cell.path)
    except DataError:
        return False
    return True


def sides_of(classes: tuple[str, ...]) -> dict[str, str]:
    """Class -> "normal" or "abnormal"; of two unknown classes the first is taken for abnormal.

    Raises:
        DataError: a class is unknown, or all are of one side.

    Example:
        >>> sides_of(("Koilocytotic", "Metaplastic", "Parabasal"))
        {'Koilocytotic': 'abnormal', 'Parabasal': 'normal'}
    """
    known = {name.lower(): side for side, own in zip(SIDES, (ABNORMAL, NORMAL), strict=True) for name in own}
    found = {name: known[name.lower()] for name in classes if name.lower() in known}
    unknown = [name for name in classes if name not in found and name.lower() != "metaplastic"]
    if len(classes) == 2 and len(unknown) == 2:
        return dict(zip(classes, SIDES, strict=True))
    if unknown or set(found.values()) != set(SIDES):
        raise DataError(
            f"cannot tell normal from abnormal among the classes {', '.join(classes)}: give Herlev, SIPaKMeD "
            "or two classes."
        )
    return found


def accuracies(found: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Classifier -> regime -> percent: "mean", "low", "high" over repeats, "source" where it says.

    Args:
        found: content of study.json.
    """
    plan, count = found["plan"], found["data"]["cells"]
    test = round(count / plan["folds"])
    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in plan["classifiers"]}
    for name, own in rows.items():
        for regime in REGIMES:
            scores = [
                row["accuracy"]
                for row in found["scores"]
                if (row["classifier"], row["regime"]) == (name, regime)
            ]
            if len(scores) > 1:
                level = compare_paired(scores, count - test, test)
                own[regime] = {
                    "mean": 100 * level.difference,
                    "low": 100 * level.low,
                    "high": 100 * level.high,
                }
                if name in SOURCE:
                    own[regime]["source"] = SOURCE[name][regime]
    return rows


def gain(now: float, before: float, images: int = TEST_IMAGES) -> dict[str, float]:
    """A difference of two accuracies in test images, and the least p that McNemar's exact test could give it.

    Args:
        now: percent.
        before: percent.
        images: test images of both.

    Example:
        >>> gain(86.67, 80.0)
        {'images': 2, 'least_p': 0.5}
    """
    count = round((now - before) / 100 * images)
    return {"images": count, "least_p": float(binomtest(0, abs(count)).pvalue) if count else 1.0}


def page(table: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Accuracies as Markdown: ours with the interval of the mean, the source's below."""
    lines = [f"| test accuracy, % | {' | '.join(REGIMES)} |", "|---" * (len(REGIMES) + 1) + "|"]
    for name, own in table.items():
        cells = [_spelled(own[regime]) if regime in own else "" for regime in REGIMES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        if name in SOURCE:
            lines.append(f"| {name}, source | {' | '.join(f'{SOURCE[name][key]:.2f}' for key in REGIMES)} |")
    return "\n".join(lines)


def _spelled(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.1f} ({max(found['low'], 0):.1f} to {min(found['high'], 100):.1f})"


def draw_table(path: Path, table: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """One panel a classifier: our mean and its interval in each regime, the source's number as a cross."""
    figure = Figure(figsize=(3.4 * len(table), 3.6), layout="constrained")
    panels = figure.subplots(1, len(table), sharey=True, squeeze=False)[0]
    for panel, (name, own) in zip(panels, table.items(), strict=True):
        for place, regime in enumerate(REGIMES):
            if regime in own:
                low, mean, high = (own[regime][key] for key in ("low", "mean", "high"))
                panel.plot([place, place], [max(low, 0), min(high, 100)], color="#1f6f8b", linewidth=2)
                panel.plot(place, mean, "o", color="#1f6f8b", label="ours, interval of the mean")
            if name in SOURCE:
                panel.plot(place, SOURCE[name][regime], "x", color="#b03a2e", label="source, 30 images")
        panel.axhline(50, color="0.7", linewidth=0.8)
        panel.set_xticks(range(len(REGIMES)), REGIMES, rotation=60, fontsize=8)
        panel.set_title(name, fontsize=10, loc="left")
        panel.set_ylim(0, 100)
    panels[0].set_ylabel("test accuracy, %")
    handles, labels = panels[0].get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    panels[0].legend(known.values(), known.keys(), fontsize=7, frameon=False, loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
