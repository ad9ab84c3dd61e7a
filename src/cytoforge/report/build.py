"""Runs and numbers become one page that needs nothing but a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from cytoforge.core.errors import CytoforgeError
from cytoforge.core.files import write_atomic
from cytoforge.core.run import Run
from cytoforge.report.page import (
    AuditSummary,
    ClassCorrectness,
    ClassNumbers,
    ConfusionCell,
    Copies,
    Page,
    PairView,
    Quantity,
    Sides,
    Training,
    Verdict,
)
from cytoforge.report.plots import curves, distances, picture, range_bar, tiles
from cytoforge.report.words import (
    MEASURES,
    classes_kept,
    comparison,
    copying,
    percent,
    realism,
    shown,
    variety,
)
from cytoforge.sampling.provenance import Header, read_manifest

_COLUMNS = 8
_MOST_PAIRS = 24
_MOST_GROWTH = 6
_CLASS_COLUMNS = ("kernel_distance", "precision", "recall", "coverage", "pairwise_distance")


@dataclass(frozen=True)
class Pair:
    """A synthetic cell and the training cell that resembles it most.

    Attributes:
        synthetic: (R, R, 3)
        nearest: (R, R, 3)
        label: class of the synthetic cell.
        seed: of the synthetic cell.
        file: of the synthetic cell, inside its set.
        ratio: distance as a share of the threshold.
        flagged: whether the distance is below the threshold.
    """

    synthetic: NDArray[np.uint8]
    nearest: NDArray[np.uint8]
    label: str
    seed: int
    file: str
    ratio: float
    flagged: bool


@dataclass(frozen=True)
class Evidence:
    """Pictures and distances behind the numbers.

    Attributes:
        real: class -> (n, R, R, 3) real cells that were not trained on.
        synthetic: class -> (n, R, R, 3).
        pairs: most suspicious first.
        copy_distances: (N,) of synthetic cells to the nearest training cell.
        holdout_distances: (M,) of unseen real cells to the nearest training cell.
        copy_threshold: below it a synthetic cell is flagged.
    """

    real: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    synthetic: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    pairs: Sequence[Pair] = ()
    copy_distances: NDArray[np.float64] | None = None
    holdout_distances: NDArray[np.float64] | None = None
    copy_threshold: float | None = None


def build_report(
    page: Path,
    metrics: Mapping[str, Any],
    evidence: Evidence,
    *,
    synthetic: Path,
    run: Path | None = None,
    audit: Path | None = None,
    real_images: bool = True,
) -> Path:
    """Write the report.

    Args:
        page: where to, for example evaluation/report.html.
        metrics: content of metrics.json.
        evidence: pictures and distances.
        synthetic: the set that was evaluated.
        run: folder of its training, for curves and settings.
        audit: folder with the audit.json of the real data.
        real_images: whether real cells may be shown.

    Returns:
        `page`.

    Raises:
        DataError: the set has no manifest, or `page` cannot be written.
    """
    header = read_manifest(synthetic).header
    content = _page(header, metrics, evidence, run, audit, real_images)
    environment = Environment(
        loader=PackageLoader("cytoforge.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    write_atomic(page, environment.get_template("report.html").render(page=content))
    return page


def _page(
    header: Header,
    metrics: Mapping[str, Any],
    evidence: Evidence,
    run: Path | None,
    audit: Path | None,
    real_images: bool,
) -> Page:
    overall = _overall(metrics)
    copies = _copies(metrics, evidence, real_images)
    correctness = _correctness(metrics)
    verdicts = [
        realism(overall),
        variety(overall),
        correctness.verdict if correctness else None,
        copies.verdict if copies else None,
    ]
    training = _training(run)
    return Page(
        title="Synthetic cells: how good are they?",
        subtitle=_subtitle(header, metrics),
        has_real_images=real_images and bool(evidence.real or evidence.pairs),
        verdicts=[*filter(None, verdicts), *_notes(metrics)],
        sides=_sides(header, evidence, real_images),
        quantities=[_quantity(name, number) for name, number in overall.items()],
        class_columns=[MEASURES[name].name for name in _class_columns(metrics)],
        class_rows=_class_rows(metrics),
        warnings=[str(warning) for warning in metrics.get("warnings", ())],
        copies=copies,
        correctness=correctness,
        training=training,
        audit=_audit(audit),
        commands=_commands(header, run),
        settings=_settings(run),
        facts=_facts(header, metrics),
    )


def _overall(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The measures that a report knows, in its order."""
    numbers = metrics.get("overall", {})
    return {name: numbers[name] for name in MEASURES if name in numbers}


def _subtitle(header: Header, metrics: Mapping[str, Any]) -> str:
    counts = metrics.get("counts", {})
    parts = [f"Generator: {header.method}, {header.seen:,} training images seen"]
    if "synthetic" in counts:
        parts.append(f"{counts['synthetic']} synthetic cells")
    if "holdout" in counts:
        parts.append(f"compared with {counts['holdout']} real cells that it never saw")
    return "; ".join(parts) + "."


def _notes(metrics: Mapping[str, Any]) -> list[Verdict]:
    warnings = list(metrics.get("warnings", ()))
    if not warnings:
        return []
    return [
        Verdict("note", "Few images: read the numbers with care", " ".join(str(line) for line in warnings))
    ]


def _sides(header: Header, evidence: Evidence, real_images: bool) -> list[Sides]:
    rows = []
    for label in header.classes:
        real, made = evidence.real.get(label), evidence.synthetic.get(label)
        shows_real = real_images and real is not None and len(real)
        if made is None and not shows_real:
            continue
        rows.append(
            Sides(
                label,
                tiles(real[: 2 * _COLUMNS], _COLUMNS, synthetic=False)
                if shows_real and real is not None
                else None,
                tiles(made[: 2 * _COLUMNS], _COLUMNS, synthetic=True)
                if made is not None and len(made)
                else None,
            )
        )
    return rows


def _quantity(name: str, number: Mapping[str, Any]) -> Quantity:
    measure = MEASURES[name]
    tone, words = comparison(name, number)
    interval, floor = _ends(number, "low", "high"), _ends(number, "floor_low", "floor_high")
    if floor is None and number.get("floor") is not None:
        floor = (float(number["floor"]), float(number["floor"]))
    floor_text = "" if number.get("floor") is None else shown(float(number["floor"]))
    return Quantity(
        name=measure.name,
        value=shown(float(number["value"])),
        interval="" if interval is None else f"{shown(interval[0])} to {shown(interval[1])}",
        floor=floor_text,
        bar=range_bar(float(number["value"]), interval, floor, measure.top),
        meaning=measure.meaning,
        tone=tone,
        comparison=words,
    )


def _ends(number: Mapping[str, Any], low: str, high: str) -> tuple[float, float] | None:
    if number.get(low) is None or number.get(high) is None:
        return None
    return float(number[low]), float(number[high])


def _class_columns(metrics: Mapping[str, Any]) -> list[str]:
    classes = metrics.get("classes", {}).values()
    return [name for name in _CLASS_COLUMNS if any(name in row.get("numbers", {}) for row in classes)]


def _class_rows(metrics: Mapping[str, Any]) -> list[ClassNumbers]:
    columns = _class_columns(metrics)
    rows = []
    for label, row in metrics.get("classes", {}).items():
        numbers = [row.get("numbers", {}).get(name, {}) for name in columns]
        cells = [
            (shown(number.get("value")), "" if number.get("floor") is None else shown(number["floor"]))
            for number in numbers
        ]
        rows.append(ClassNumbers(label, str(row.get("count", "")), cells))
    return rows


def _copies(metrics: Mapping[str, Any], evidence: Evidence, real_images: bool) -> Copies | None:
    copies = metrics.get("copies")
    if not copies:
        return None
    facts = [
        ("suspected", f"{copies['flagged']} of {copies['checked']}"),
        ("false alarms allowed", f"{percent(copies['false_alarm_rate'])} of honest cells"),
        ("threshold", shown(copies.get("threshold"))),
        ("suspected by chance", " to ".join(str(count) for count in copies["honest_range"])),
    ]
    if copies.get("share_nearer_to_train") is not None:
        facts.append(
            ("nearer to training cells than to unseen cells", f"{percent(copies['share_nearer_to_train'])}")
        )
    histogram = ""
    if evidence.copy_distances is not None and evidence.holdout_distances is not None:
        threshold = float(
            evidence.copy_threshold if evidence.copy_threshold is not None else copies["threshold"]
        )
        histogram = distances(evidence.copy_distances, evidence.holdout_distances, threshold)
    pairs = [
        PairView(
            picture(pair.synthetic, synthetic=True),
            picture(pair.nearest, synthetic=False) if real_images else None,
            pair.label,
            pair.seed,
            f"{pair.ratio:.2f}",
            pair.flagged,
        )
        for pair in evidence.pairs[:_MOST_PAIRS]
    ]
    return Copies(copying(copies), facts, histogram, pairs)


def _correctness(metrics: Mapping[str, Any]) -> ClassCorrectness | None:
    found = metrics.get("class_correctness")
    if not found:
        return None
    labels = [str(label) for label in found.get("labels", ())]
    rows = []
    for label, counts in zip(labels, found.get("confusion", ()), strict=False):
        total = sum(counts) or 1
        rows.append((label, [ConfusionCell(percent(count / total), count / total) for count in counts]))
    facts = [
        ("synthetic cells recognised as asked for", percent(found["accuracy"])),
        ("unseen real cells recognised", percent(found.get("holdout_accuracy"))),
    ]
    return ClassCorrectness(classes_kept(found), facts, labels, rows)


def _training(path: Path | None) -> Training | None:
    run = _opened(path)
    if run is None:
        return None
    log = run.read_log()
    if not log:
        return None
    last = log[-1]
    facts = [("training images seen", f"{last['seen']:,}")]
    if "seconds" in last:
        facts.append(("training time", f"{last['seconds'] / 60:.0f} minutes"))
    events = [str(record["message"]) for record in log if record["kind"] == "event" and "message" in record]
    return Training(_curves(log), _growth(run), facts, events)


def _curves(log: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    measures = [record for record in log if record["kind"] == "measure"]
    losses = [record for record in log if record["kind"] == "losses"]
    found = []
    if kid := _series(measures, "kid"):
        found.append(
            (
                "Distance to real cells",
                curves({"KID": kid}, "KID"),
                "Kernel distance to real cells that are not trained on; low is good. It should fall and then "
                "flatten. If it rises again, the training has gone on too long or has become unstable; the "
                "checkpoint with the lowest value was kept.",
            )
        )
    if spread := _series(measures, "diversity") or _series(measures, "spread"):
        found.append(
            (
                "Variety within a class",
                curves({"variety": spread}, "share of real variety"),
                "How much images of one class differ, as a share of what real cells do; about 1 is right. A "
                "fall towards 0 means that the generator makes the same cell again and again.",
            )
        )
    if losses:
        names = list(dict.fromkeys(name for record in losses for name in record["losses"]))
        series = {name: _series([{"seen": r["seen"], **r["losses"]} for r in losses], name) for name in names}
        found.append(
            (
                "Losses",
                curves({name: line for name, line in series.items() if line}, "loss"),
                "What the networks work against. In a Wasserstein GAN the critic's “wasserstein” is minus "
                "its estimate of the distance: it drops at first and then climbs slowly towards 0. The "
                "“generator” loss has no meaning by itself. Sudden jumps and steadily growing values are "
                "signs of trouble.",
            )
        )
    return found


def _series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]] | None:
    points = [(record["seen"], record[name]) for record in records if record.get(name) is not None]
    return ([float(seen) for seen, _ in points], [float(value) for _, value in points]) if points else None


def _growth(run: Run) -> list[tuple[str, str]]:
    """Sample grids from the whole training, evenly chosen, first and last included."""
    files = sorted(run.samples.glob("*.png")) if run.samples.is_dir() else []
    if not files:
        return []
    chosen = sorted({round(place) for place in np.linspace(0, len(files) - 1, min(_MOST_GROWTH, len(files)))})
    found = []
    for index in chosen:
        with Image.open(files[index]) as image:
            found.append(
                (f"{int(files[index].stem):,} images seen", picture(np.asarray(image.convert("RGB")), True))
            )
    return found


def _audit(folder: Path | None) -> AuditSummary | None:
    if folder is None or not (folder / "audit.json").is_file():
        return None
    return None


def _commands(header: Header, path: Path | None) -> list[str]:
    run = _opened(path)
    seed = run.config.get("seed", 0) if run else 0
    side = header.preparation["resolution"]
    return [
        f"cytoforge train {header.method} DATA --run RUN --resolution {side} --seed {seed}",
        f"cytoforge generate RUN --out SET --per-class N --checkpoint {header.checkpoint}"
        + ("" if header.truncation == 1 else f" --truncation {header.truncation!r}"),
        "cytoforge verify SET",
        "cytoforge evaluate SET --real DATA --out EVALUATION",
    ]


def _settings(path: Path | None) -> list[tuple[str, str]]:
    run = _opened(path)
    if run is None:
        return []
    shown_parts = {key: value for key, value in run.config.items() if key not in ("data", "classes")}
    return [(name, value) for name, value in _flat(shown_parts)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)))
    return rows


def _facts(header: Header, metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("features of", str(metrics.get("extractor", "not recorded"))),
        ("resolution", f"{header.preparation['resolution']} px"),
        ("checkpoint", f"{header.checkpoint}, {header.checkpoint_sha256[:16]}"),
        ("settings", f"SHA-256 {header.config_sha256[:16]}"),
        ("data split", f"SHA-256 {header.split_sha256[:16]}" if header.split_sha256 else "not recorded"),
        ("versions", ", ".join(f"{package} {number}" for package, number in header.versions.items())),
        ("threads", str(header.threads)),
    ]


def _opened(path: Path | None) -> Run | None:
    if path is None:
        return None
    try:
        return Run.open(path)
    except CytoforgeError:
        return None
