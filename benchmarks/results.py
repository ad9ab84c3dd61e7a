"""A trained, generated and evaluated run becomes a page for docs/results.

    python benchmarks/results.py RUN SYNTHETIC EVALUATION docs/results/NAME.md --title T [--selection OUT]

Writes NAME.md with the numbers of metrics.json, NAME-cells.png (a row a class, all from the synthetic set)
and NAME-curve.png (kernel distance and losses against images seen). No real image goes into it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cytoforge.core.grid import grid
from cytoforge.core.run import Run
from cytoforge.evaluation.morphometry import TOLD
from cytoforge.sampling.provenance import read_manifest

WIDTH = 1024
"""Of the picture, in pixels."""
SHOWN = ("kernel_distance", "frechet_distance", "precision", "recall", "density", "coverage")


def cells(synthetic: Path, columns: int) -> Image.Image:
    """The first images of each class, a row a class."""
    rows = []
    manifest = read_manifest(synthetic)
    for label in manifest.header.classes:
        own = [entry for entry in manifest.images if entry.label == label][:columns]
        rows += [np.asarray(Image.open(synthetic / entry.file)) for entry in own]
    return Image.fromarray(grid(np.stack(rows), columns))


def curve(run: Run) -> Figure:
    """Kernel distance and losses against images seen."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    log = run.read_log()
    distances = [
        (record["seen"] / 1000, record.get("kid", record.get("kid_by_opponent")))
        for record in log
        if record["kind"] == "measure"
    ]
    seen, values = zip(*[pair for pair in distances if pair[1] is not None], strict=True)
    left.plot(seen, values, marker="o", markersize=3)
    left.set(
        xlabel="thousand images seen",
        ylabel="kernel distance to validation cells",
        ylim=(0, 1.1 * max(values)),
    )
    losses = [record for record in log if record["kind"] == "losses"]
    for name in sorted({name for record in losses for name in record["losses"]}):
        own = [record for record in losses if name in record["losses"]]
        right.plot(
            [r["seen"] / 1000 for r in own], [r["losses"][name] for r in own], label=name, linewidth=0.8
        )
    right.set(xlabel="thousand images seen", ylabel="loss")
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def table(metrics: dict[str, Any]) -> list[str]:
    """Numbers with their floors, overall and for each class."""
    lines = [
        "| | synthetic against unseen real cells | 95 % interval | real against real, equal numbers |",
        "|---|---|---|---|",
    ]
    for name in SHOWN:
        number = metrics["overall"][name]
        span = "" if number["low"] is None else f"{number['low']:.3f} to {number['high']:.3f}"
        lines.append(
            f"| {name.replace('_', ' ')} | {number['value']:.3f} | {span} | {number['floor']:.3f} "
            f"({number['floor_low']:.3f} to {number['floor_high']:.3f}) |"
        )
    head = (
        "kernel distance (floor)",
        "precision",
        "recall (floor)",
        "coverage (floor)",
        "class recognised (real)",
    )
    lines += ["", f"| class | {' | '.join(head)} |", "|---|---|---|---|---|---|"]
    recognised = metrics["class_correctness"]
    for label, found in metrics["classes"].items():
        own = found["numbers"]
        pairs = [
            f"{own[name]['value']:.3f} ({own[name]['floor']:.3f})"
            for name in ("kernel_distance", "recall", "coverage")
        ]
        share, real = recognised["classes"][label]["value"], recognised["holdout_classes"][label]["value"]
        lines.append(
            f"| {label} | {pairs[0]} | {own['precision']['value']:.2f} | {pairs[1]} | {pairs[2]} "
            f"| {share:.0%} ({real:.0%}) |"
        )
    return lines


def measurements(metrics: dict[str, Any]) -> list[str]:
    """How far measurements of synthetic cells are from those of real ones; nothing where none were made."""
    found = metrics["morphometry"]
    if found is None:
        return []
    classes = found["classes"]
    masks = (
        "masks as given" if found["source"] == "given" else "masks found without supervision on both sides"
    )
    lines = [
        "",
        "## Measurements of cells",
        "",
        "Wasserstein distance to unseen real cells in their standard deviations (the same of real cells of "
        f"other groups), {masks}; **bold** where it differs, by the rule of metrics.json.",
        "",
        f"| | {' | '.join(classes)} |",
        "|---|" + "---|" * len(classes),
    ]
    for name in TOLD:
        cells = [_distance(rows[name]) if name in rows else "" for rows in classes.values()]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    differing = [
        f"{sum(row['differs'] for row in rows.values())} of {len(rows)}" for rows in classes.values()
    ]
    lines.append(f"| *all that differ* | {' | '.join(differing)} |")
    for part in ("nucleus", "cytoplasm"):
        shares = [_having(found["parts"].get(label, {}).get(part)) for label in classes]
        lines.append(f"| cells with {part} (real) | {' | '.join(shares)} |")
    return lines


def _having(share: dict[str, Any] | None) -> str:
    if share is None:
        return ""
    shown = f"{share['fake']:.0%}"
    return f"**{shown}** ({share['real']:.0%})" if share["differs"] else f"{shown} ({share['real']:.0%})"


def _distance(row: dict[str, Any]) -> str:
    floor = "" if row["floor"] is None else f" ({row['floor']:.2f})"
    return f"**{row['wasserstein']:.2f}**{floor}" if row["differs"] else f"{row['wasserstein']:.2f}{floor}"


def selection(chosen: dict[str, Any]) -> list[str]:
    """What each rule of `cytoforge select` keeps, and what that does to the scores."""
    lines = [
        "",
        "## Selection",
        "",
        "```",
        f"cytoforge select SYNTHETIC --real DATA --out SELECTED --rules {' --rules '.join(chosen['rules'])}",
        "```",
        "",
        f"Rules see cells by {chosen['extractor']}, {chosen['judge']} judges what they keep against the same "
        "unseen cells. Only what differs from *random*, a random choice of as many cells of each class as "
        "all rules keep, is an effect.",
        "",
        "| rule | kept | kernel distance (floor) | precision | recall (floor) | coverage (floor) "
        "| class recognised |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, effect in chosen["effects"].items():
        pairs = [
            f"{effect[score]['value']:.3f} ({effect[score]['floor']:.3f})"
            for score in ("kernel_distance", "recall", "coverage")
        ]
        lines.append(
            f"| {name} | {effect['kept']} | {pairs[0]} | {effect['precision']['value']:.2f} "
            f"| {pairs[1]} | {pairs[2]} | {effect['class_correct']:.1%} |"
        )
    return lines if chosen["note"] is None else [*lines, "", chosen["note"]]


def page(
    title: str,
    name: str,
    run: Run,
    synthetic: Path,
    metrics: dict[str, Any],
    chosen: dict[str, Any] | None,
    columns: int,
) -> str:
    """The page as Markdown."""
    log = [record for record in run.read_log() if record["kind"] == "losses"]
    seen, seconds = log[-1]["seen"], log[-1]["seconds"]
    config, copies, sizes = run.config, metrics["copies"], metrics["counts"]
    loop, manifest = config["loop"], read_manifest(synthetic)
    commands = [
        f"cytoforge train {config['method']} DATA --run RUN --preset {config['preset']} "
        f"--resolution {config['preparation']['resolution']} --seed {config['seed']} "
        f"--minutes {seconds / 60:.0f}",
        "cytoforge generate RUN --out SYNTHETIC --per-class "
        f"{len(manifest.images) // len(config['classes'])} --checkpoint {manifest.header.checkpoint}",
        "cytoforge evaluate SYNTHETIC --real DATA --out EVALUATION "
        f"--extractor {metrics['extractor'].partition('@')[0]}"
        + ("" if metrics["morphometry"] is None else f" --masks {metrics['morphometry']['source']}"),
    ]
    return "\n".join(
        [
            f"# {title}",
            "",
            f"![Synthetic cells, a row a class: {', '.join(config['classes'])}]({name}-cells.png)",
            "",
            f"*Synthetic cells, not chosen: the first {columns} seeds of each class, a row a class: "
            f"{', '.join(config['classes'])}.*",
            "",
            "```",
            *commands,
            "```",
            "",
            f"{seen:,} images seen in {seconds / 60:.1f} minutes ({seen / seconds:.0f} images/s, steps of "
            f"{loop['batch']}, {loop['precision']}, {config['threads']} threads); {sizes['synthetic']} "
            f"synthetic images against {sizes['holdout']} cells of photos that training never saw; "
            f"{sizes['train']} training cells. Features: {metrics['extractor']}.",
            "",
            "## Verdicts",
            "",
            *(f"- **{line['headline']}.** {line['because']}" for line in metrics["verdicts"]),
            "",
            "## Numbers",
            "",
            *table(metrics),
            "",
            f"Copies: {copies['flagged']} of {copies['checked']} flagged at a false-alarm rate of "
            f"{copies['false_alarm_rate']:.0%} (an honest generator: {copies['honest_low']} to "
            f"{copies['honest_high']}; holdout and training exchanged: {copies['exchanged_flagged']}). "
            f"Nearer to training than to equally many holdout photos: {copies['share_nearer_to_train']:.3f} "
            f"({copies['nearer_low']:.3f} to {copies['nearer_high']:.3f}; 0.5 is right). Authenticity "
            f"{copies['authenticity']:.2f}, of unseen real cells {copies['honest_authenticity']:.2f}.",
            *measurements(metrics),
            *([] if chosen is None else selection(chosen)),
            "",
            f"![Curves]({name}-curve.png)",
            "",
            *(f"- {warning}" for warning in metrics["warnings"]),
            "",
        ]
    )


def main() -> None:
    """Read the three folders and write the page with its pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "synthetic", "evaluation", "page"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--selection", type=Path, help="the --out folder of cytoforge select")
    given = parser.parse_args()
    run = Run.open(given.run)
    metrics = json.loads((given.evaluation / "metrics.json").read_text())
    given.page.parent.mkdir(parents=True, exist_ok=True)
    name = given.page.stem
    columns = WIDTH // run.config["preparation"]["resolution"]
    cells(given.synthetic, columns).save(given.page.with_name(f"{name}-cells.png"))
    curve(run).savefig(given.page.with_name(f"{name}-curve.png"), dpi=110)
    chosen = None if given.selection is None else json.loads((given.selection / "selection.json").read_text())
    text = page(given.title, name, run, given.synthetic, metrics, chosen, columns)
    given.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
