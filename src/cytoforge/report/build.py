"""Runs and numbers become one page that needs nothing but a browser."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoforge.core.errors import CytoforgeError
from cytoforge.core.files import read_json, write_atomic
from cytoforge.core.run import Run
from cytoforge.evaluation.metrics import ClassCopies, Measurement, Metrics, Number, Verdict
from cytoforge.evaluation.morphometry import describe
from cytoforge.evaluation.verdicts import percent
from cytoforge.report.page import (
    AuditSummary,
    ClassCorrectness,
    ClassNumbers,
    ConfusionCell,
    Copies,
    MeasuredClass,
    Morphometry,
    Page,
    PairView,
    Quantity,
    Sides,
    Training,
)
from cytoforge.report.pages import render
from cytoforge.report.plots import curves, distances, picture, range_bar, spans, tiles
from cytoforge.report.words import (
    CURVES,
    MEASURES,
    comparison,
    level,
    named,
    percent_span,
    shown,
    span,
    spelled,
)
from cytoforge.sampling.card import drawing_options
from cytoforge.sampling.provenance import Header, read_manifest

_COLUMNS = 8
_SHOWN = 2 * _COLUMNS
_FEWEST_PAIRS, _MOST_PAIRS = 12, 24
_MOST_GROWTH = 6
_MEASUREMENTS = 20
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
        copy_distances: (N,) copy scores of synthetic cells.
        holdout_distances: (M,) copy scores of unseen real cells.
        selected: `cytoforge select` chose the synthetic cells.
    """

    real: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    synthetic: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    pairs: Sequence[Pair] = ()
    copy_distances: NDArray[np.float64] | None = None
    holdout_distances: NDArray[np.float64] | None = None
    selected: bool = False


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
    content = _page(header, Metrics.model_validate(metrics), evidence, run, audit, real_images)
    write_atomic(page, render("report.html", page=content))
    return page


def _page(
    header: Header,
    metrics: Metrics,
    evidence: Evidence,
    run: Path | None,
    audit: Path | None,
    real_images: bool,
) -> Page:
    known = [name for name in MEASURES if name in metrics.overall]
    columns = _class_columns(metrics)
    return Page(
        title="Synthetic cells: how good are they?",
        subtitle=_subtitle(header, metrics),
        selected=evidence.selected,
        has_real_images=real_images and bool(evidence.real or evidence.pairs),
        verdicts=metrics.verdicts,
        sides=_sides(header, evidence, real_images),
        quantities=[_quantity(name, metrics.overall[name]) for name in known],
        class_columns=[*map(named, columns), *(["Recognised"] if metrics.class_correctness else [])],
        class_rows=[_class_row(metrics, label, columns) for label in metrics.classes],
        warnings=metrics.warnings,
        copies=_copies(metrics, evidence, real_images),
        correctness=_correctness(metrics),
        morphometry=_morphometry(metrics),
        training=_training(run),
        audit=_audit(audit),
        commands=_commands(header, run, evidence.selected),
        rules=list(metrics.rules.items()),
        settings=_settings(run),
        facts=_facts(header, metrics),
    )


def _subtitle(header: Header, metrics: Metrics) -> str:
    return (
        f"{metrics.counts.synthetic:,} synthetic cells of a {header.method} generator that was shown "
        f"{header.seen:,} training images, compared with {metrics.counts.holdout:,} real cells that it "
        "never saw."
    )


def _about(metrics: Metrics, topic: str) -> list[Verdict]:
    return [verdict for verdict in metrics.verdicts if verdict.topic == topic]


def _sides(header: Header, evidence: Evidence, real_images: bool) -> list[Sides]:
    rows = []
    for label in header.classes:
        real = _spread(evidence.real.get(label)) if real_images else None
        made = evidence.synthetic.get(label)
        made = None if made is None else made[:_SHOWN]
        if real is not None or made is not None:
            rows.append(Sides(label, _strip(real, synthetic=False), _strip(made, synthetic=True)))
    return rows


def _spread(images: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """Some of the images, evenly from first to last: neighbours often come from one photo."""
    if images is None or len(images) <= _SHOWN:
        return images
    chosen: NDArray[np.uint8] = images[np.linspace(0, len(images) - 1, _SHOWN).round().astype(int)]
    return chosen


def _strip(images: NDArray[np.uint8] | None, synthetic: bool) -> str | None:
    if images is None or not len(images):
        return None
    return tiles(images, _COLUMNS, synthetic)


def _quantity(name: str, number: Number) -> Quantity:
    measure = MEASURES[name]
    tone, words = comparison(name, number)
    interval = None if number.low is None or number.high is None else (number.low, number.high)
    floor = None
    if number.floor is not None:
        floor = (
            number.floor if number.floor_low is None else number.floor_low,
            number.floor if number.floor_high is None else number.floor_high,
        )
    return Quantity(
        name=measure.name,
        value=level(name, number.value),
        interval=span(name, number.low, number.high),
        floor="" if number.floor is None else level(name, number.floor),
        floor_interval=span(name, number.floor_low, number.floor_high),
        bar=range_bar(number.value, interval, floor, measure.top),
        meaning=measure.meaning,
        tone=tone,
        comparison=words,
    )


def _class_columns(metrics: Metrics) -> list[str]:
    return [name for name in _CLASS_COLUMNS if any(name in row.numbers for row in metrics.classes.values())]


def _class_row(metrics: Metrics, label: str, columns: Sequence[str]) -> ClassNumbers:
    row = metrics.classes[label]
    cells = []
    for name in columns:
        number = row.numbers.get(name)
        floor = None if number is None else number.floor
        value = level(name, None if number is None else number.value)
        cells.append((value, "" if floor is None else level(name, floor)))
    if metrics.class_correctness is not None:
        own, real = (
            shares.get(label)
            for shares in (metrics.class_correctness.classes, metrics.class_correctness.holdout_classes)
        )
        cells.append((percent(own.value if own else None), percent(real.value) if real else ""))
    return ClassNumbers(label, f"{row.n_fake} / {row.n_real}", cells)


def _copies(metrics: Metrics, evidence: Evidence, real_images: bool) -> Copies | None:
    copies = metrics.copies
    if copies is None:
        return None
    facts = [
        ("suspected", f"{copies.flagged} of {copies.checked} ({percent_span(copies.low, copies.high)})"),
        ("by chance", f"{copies.honest_low} to {copies.honest_high} (p = {shown(copies.p_value)})"),
        ("suspected with unseen cells in the place of training cells", str(copies.exchanged_flagged)),
        *([] if copies.cells is None else [("training cells behind the suspected ones", str(copies.cells))]),
        *_most_suspected(copies.classes),
        ("false alarms of one image", percent(copies.false_alarm_rate)),
        ("threshold of the copy score", shown(copies.threshold)),
        (
            "nearer to training than to unseen cells",
            f"{percent(copies.share_nearer_to_train)} "
            f"({percent_span(copies.nearer_low, copies.nearer_high)}); 50 % is honest",
        ),
        (
            "authenticity",
            f"{percent(copies.authenticity)}; unseen real cells have {percent(copies.honest_authenticity)}",
        ),
        ("compared with", f"{copies.train:,} training cells and {copies.holdout:,} unseen ones"),
    ]
    histogram = ""
    if evidence.copy_distances is not None and evidence.holdout_distances is not None:
        histogram = distances(evidence.copy_distances, evidence.holdout_distances, copies.threshold)
    shown_pairs = min(_MOST_PAIRS, max(_FEWEST_PAIRS, sum(pair.flagged for pair in evidence.pairs)))
    pairs = [_pair(pair, real_images) for pair in evidence.pairs[:shown_pairs]]
    return Copies(_about(metrics, "copies"), facts, histogram, pairs)


def _most_suspected(classes: Mapping[str, ClassCopies]) -> list[tuple[str, str]]:
    """The fact about the class with most suspected images, where there are any and several classes."""
    label, most = max(classes.items(), key=lambda entry: entry[1].flagged, default=("", None))
    if most is None or not most.flagged or len(classes) < 2:
        return []
    exchanged = "" if most.exchanged is None else f", with unseen cells in their place {most.exchanged}"
    return [("most in one class", f"{label}: {most.flagged} of {most.checked}{exchanged}")]


def _pair(pair: Pair, real_images: bool) -> PairView:
    return PairView(
        picture(pair.synthetic, synthetic=True),
        picture(pair.nearest, synthetic=False) if real_images else None,
        pair.label,
        pair.seed,
        f"{pair.ratio:.2f}" if math.isfinite(pair.ratio) else "far beyond 1",
        pair.flagged,
    )


def _correctness(metrics: Metrics) -> ClassCorrectness | None:
    found = metrics.class_correctness
    if found is None:
        return None
    table = zip(found.labels, found.confusion, strict=True)
    rows = [(label, _shades(counts)) for label, counts in table]
    facts = [
        (
            "synthetic cells recognised",
            f"{percent(found.accuracy)} ({percent_span(found.low, found.high)})",
        ),
        ("unseen real cells recognised, in the same mix of classes", percent(found.holdout_accuracy)),
    ]
    if found.holdout_low is not None:
        facts[1] = (facts[1][0], f"{facts[1][1]} ({percent_span(found.holdout_low, found.holdout_high)})")
    return ClassCorrectness(_about(metrics, "classes"), facts, found.labels, rows)


def _shades(counts: Sequence[int]) -> list[ConfusionCell]:
    total = max(1, sum(counts))
    return [ConfusionCell(percent(count / total), count / total) for count in counts]


def _morphometry(metrics: Metrics) -> Morphometry | None:
    found = metrics.morphometry
    if found is None:
        return None
    classes = []
    for label in dict.fromkeys([*found.parts, *found.classes]):
        measured = found.classes.get(label, {})
        order = sorted(measured, key=lambda name: -measured[name].wasserstein)
        shown_rows = order[:_MEASUREMENTS]
        chart = spans(
            [spelled(name) for name in shown_rows],
            [measured[name].wasserstein for name in shown_rows],
            [measured[name].floor_high for name in shown_rows],
        )
        rows = [_measured(name, measured[name]) for name in order]
        parts = [
            (
                part,
                f"{percent(share.real)} of {share.n_real}",
                f"{percent(share.fake)} of {share.n_fake}",
                share.differs,
            )
            for part, share in found.parts.get(label, {}).items()
        ]
        summary = describe({label: measured})
        classes.append(MeasuredClass(label, summary, parts, chart if measured else None, rows))
    return Morphometry(found.source, classes)


def _measured(name: str, row: Measurement) -> tuple[str, str, str, str, str, str, bool]:
    real, fake = (
        f"{shown(middle)} ({shown(low)}-{shown(high)})" for low, middle, high in (row.real, row.fake)
    )
    floor = "–" if row.floor is None else shown(row.floor)
    test = f"{row.ks:.2f}, p = {shown(row.p_value)}"
    return spelled(name), real, fake, shown(row.wasserstein), floor, test, row.differs


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
    losses = [{"seen": record["seen"], **record["losses"]} for record in log if record["kind"] == "losses"]
    names = list(dict.fromkeys(name for record in losses for name in record if name != "seen"))
    found = []
    for key, lines in (
        (
            "kid",
            {
                "KID": _series(measures, "kid"),
                "KID by the network trained against": _series(measures, "kid_by_opponent"),
            },
        ),
        ("diversity", {"variety": _series(measures, "diversity") or _series(measures, "spread")}),
        ("losses", {name: _series(losses, name) for name in names}),
    ):
        drawn = {name: line for name, line in lines.items() if line is not None}
        if drawn:
            title, axis, legend = CURVES[key]
            found.append((title, curves(drawn, axis), legend))
    return found


def _series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]] | None:
    points = [(record["seen"], record[name]) for record in records if record.get(name) is not None]
    if len(points) < 2:
        return None
    return [float(seen) for seen, _ in points], [float(value) for _, value in points]


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
    """What audit.json says in its `verdicts` and `facts`; None where there is no audit.

    Raises:
        DataError: the folder holds none.
    """
    if folder is None:
        return None
    content = read_json(folder / "audit.json")
    verdicts = [Verdict.model_validate({"topic": "data", **found}) for found in content.get("verdicts", ())]
    facts = [(str(name), str(value)) for name, value in content.get("facts", {}).items()]
    return AuditSummary(verdicts, facts) if verdicts or facts else None


def _commands(header: Header, path: Path | None, selected: bool) -> list[str]:
    run = _opened(path)
    words = [header.method, "DATA", "--run RUN", f"--resolution {header.preparation['resolution']}"]
    words += [f"--images {header.seen}", "--split SPLIT"]
    if run is not None:
        known = {name: run.config.get(name) for name in ("seed", "preset")}
        words += [f"--{name} {value}" for name, value in known.items() if value is not None]
    chosen = ["cytoforge select SET --real DATA --out SELECTED"] if selected else []
    return [
        f"cytoforge train {' '.join(words)}",
        f"cytoforge generate RUN --out SET --per-class N {drawing_options(header)}",
        "cytoforge verify SET",
        *chosen,
        "cytoforge evaluate SET --real DATA --out EVALUATION",
    ]


def _settings(path: Path | None) -> list[tuple[str, str]]:
    run = _opened(path)
    if run is None:
        return []
    shown_parts = {key: value for key, value in run.config.items() if key not in ("data", "classes")}
    if "base" in shown_parts:
        shown_parts["base"] = PurePath(shown_parts["base"]).name
    return _flat(shown_parts)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)))
    return rows


def _facts(header: Header, metrics: Metrics) -> list[tuple[str, str]]:
    return [
        ("features of", metrics.extractor),
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
