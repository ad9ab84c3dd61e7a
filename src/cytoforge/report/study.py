"""A utility study as pictures, a table in Markdown and one page that needs nothing else."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoforge.core.files import write_atomic
from cytoforge.evaluation.regimes import REGIMES, judge_of
from cytoforge.report.pages import render
from cytoforge.report.plots import EOSIN, HEMATOXYLIN, PLOT_STYLE, SOFT, address, picture, png

_GOOD, _BAD = "#2f7a58", "#b23a48"
_VERDICT = {"helps": _GOOD, "hurts": _BAD, "no evidence": SOFT}
TONES = {"helps": "good", "hurts": "bad", "no evidence": "note"}
_COLOURS = (SOFT, HEMATOXYLIN, EOSIN, _GOOD, "#946a12", "#3f7ea6", "#7d7d2a", "#9a5fb0", _BAD, "#222222",
            "#2aa198", "#d08770", "#8c564b", "#a3be8c")  # fmt: skip

Row = Mapping[str, Any]


def build_study(out: Path, content: Mapping[str, Any], cells: NDArray[np.uint8] | None) -> None:
    """Write report.html, table.md and plots/*.png.

    Args:
        out: folder of the study.
        content: of study.json.
        cells: picture of synthetic cells, or None.

    Raises:
        DataError: the folder cannot be written.
    """
    drawn = plots(content)
    for name, image in drawn.items():
        write_atomic(out / "plots" / f"{file_name(name)}.png", image)
    write_atomic(out / "table.md", table(content))
    page = render(
        "study.html",
        study=content,
        plots={name: address(image, "image/png") for name, image in drawn.items()},
        cells=None if cells is None else picture(cells, synthetic=True),
        regimes={name: REGIMES[name].title for name in content["plan"]["regimes"]},
        headlines=[headline(answer) for answer in content["answers"]],
        scale=scale(content.get("more_real", ())),
        tones=TONES,
        amount=amount,
        points=points,
        visible=visible,
        probability=probability,
        all_of=all_of,
        ratings=ratings(content),
        rows_of=lambda question: [row for row in content["comparisons"] if row["question"] == question],
    )
    write_atomic(out / "report.html", page)


def plots(content: Mapping[str, Any]) -> dict[str, bytes]:
    """Name -> PNG file: "curves" and one for each question.

    Args:
        content: of study.json.
    """
    with mpl.rc_context(PLOT_STYLE):
        figures = {"curves": _curves(content)}
        for answer in content["answers"]:
            rows = [row for row in content["comparisons"] if row["question"] == answer["question"]]
            figures[answer["question"]] = _forest(rows, content["plan"]["score"], answer)
        return {name: png(figure) for name, figure in figures.items()}


def headline(answer: Row) -> tuple[str, str, str]:
    """Tone, verdict and reason of one question: all comparisons together, then one by one.

    Example:
        >>> pooled = {"difference": 0.021, "low": 0.004, "high": 0.038, "smallest": 0.018, "repeats": 5}
        >>> counts = {"comparisons": 3, "helps": 2, "hurts": 0, "no evidence": 1, "median_smallest": 0.03}
        >>> asked = {"words": "Do they?", "question": "a against b", "mean_difference": 0.021}
        >>> together = {"pooled": {**pooled, "p_holm": 0.031, "verdict": "helps"}}
        >>> tone, words, because = headline({**asked, **counts, **together})
        >>> tone, words
        ('good', 'Do they? Averaged over all 3 comparisons: helps. One by one: helps in 2 of 3.')
        >>> because[:70]
        'a against b: +2.1 points (+0.4 to +3.8) in 5 repeats, p 0.031, smalles'
        >>> headline({**asked, **counts})[1]
        'Do they? One by one: helps in 2 of 3.'
    """
    pooled = answer.get("pooled")
    found = [word for word in ("helps", "hurts") if answer[word]]
    called = {*found, *([pooled["verdict"]] if pooled else [])} - {"no evidence"}
    tone = "unsure" if len(called) > 1 else TONES[called.pop() if called else "no evidence"]
    alone = " and ".join(f"{word} in {answer[word]}" for word in found)
    alone = f"{alone} of {answer['comparisons']}" if found else "no evidence"
    together = f"Averaged over {all_of(answer['comparisons'])}: {pooled['verdict']}. " if pooled else ""
    average = (
        f"{points(pooled['difference'])} points ({points(pooled['low'])} to {points(pooled['high'])}) in "
        f"{pooled['repeats']} repeats, p {probability(pooled['p_holm'])}, smallest visible "
        f"{visible(pooled['smallest'])}"
        if pooled
        else f"mean difference {points(answer['mean_difference'])} points"
    )
    counts = ", ".join(f"{word} {answer[word]}" for word in TONES)
    because = (
        f"{answer['question']}: {average}. Of the single comparisons: {counts}; half of them could have "
        f"found {visible(answer['median_smallest'])} points or less."
    )
    return tone, f"{answer['words']} {together}One by one: {alone}.", because


def all_of(comparisons: int) -> str:
    """What a pooled comparison is averaged over.

    Example:
        >>> all_of(27), all_of(1)
        ('all 27 comparisons', 'the one comparison')
    """
    return f"all {comparisons} comparisons" if comparisons > 1 else "the one comparison"


def scale(rows: Sequence[Row]) -> list[str]:
    """What more real cells do by the same rule, a sentence for each regime and pair of fractions.

    Args:
        rows: "more_real" of study.json.

    Example:
        >>> pair = {"regime": "orig", "from": 20, "to": 100}
        >>> found = {"difference": 0.1, "verdict": "helps"}, {"difference": 0.2, "verdict": "no evidence"}
        >>> scale([{**pair, **each} for each in found])
        ['orig, 100 instead of 20 real cells of a class: +15.0 points on average, called helpful in 1 of 2.']
    """
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((row["regime"], row["from"], row["to"]), []).append(row)
    return [
        f"{regime}, {amount(many)} instead of {amount(few)} real cells of a class: "
        f"{points(sum(row['difference'] for row in own) / len(own))} points on average, called helpful in "
        f"{sum(row['verdict'] == 'helps' for row in own)} of {len(own)}."
        for (regime, few, many), own in found.items()
    ]


def ratings(content: Row) -> list[str]:
    """What GAN-train and GAN-test are in a study, or which regime they need that it does not have.

    Args:
        content: of study.json.

    Example:
        >>> rated = {"gan_train": {}, "gan_test": {"linear": 0.9}}
        >>> found = ratings({"plan": {"regimes": ["+trad", "+trad+prop"]}, "generators": [rated]})
        >>> found[0]
        'GAN-train was not asked for: it needs the regime prop.'
        >>> found[1][-69:]
        'that a classifier of real cells (+trad) names as asked (class alone).'
    """
    regimes = content["plan"]["regimes"]
    judge = judge_of(regimes)
    seen = "accuracy on real test cells of a classifier that saw synthetic cells only"
    named = f"share of synthetic cells that a classifier of real cells ({judge}) names as asked"
    kinds = (
        ("train", f"{seen} (variety and class together).", "" if "prop" in regimes else "prop"),
        ("test", f"{named} (class alone).", "" if judge else "orig"),
    )
    lines = []
    for kind, meaning, missing in kinds:
        if any(row[f"gan_{kind}"] for row in content["generators"]):
            lines.append(f"GAN-{kind}: {meaning}")
        elif missing:
            lines.append(f"GAN-{kind} was not asked for: it needs the regime {missing}.")
    return lines


def table(content: Mapping[str, Any]) -> str:
    """All comparisons as Markdown, one table for each question."""
    plan, data = content["plan"], content["data"]
    level = f"{100 * plan['level']:g} %"
    lines = [
        f"{data['name']}: {data['cells']} cells in {data['groups']} groups; {plan['repeats']} repeats "
        f"({plan['folds']}-fold by group), {plan['resolution']} px, {plan['score'].replace('_', ' ')}; "
        f"differences in points, {level} intervals.",
        "",
        "*Interval*: corrected t interval (Nadeau and Bengio), to which p belongs before Holm's method. "
        "*Bootstrap*: over repeats; it takes them as independent although their training cells overlap, and "
        "is too narrow.",
    ]
    lines += _pooled(content["answers"])
    if content.get("remarks"):
        lines += ["", "### Remarks", "", *(f"* {remark}" for remark in content["remarks"])]
    for answer in content["answers"]:
        lines += ["", f"### {answer['question']}", answer["words"], ""]
        lines += [
            "| classifier | real a class | generator | ratio | repeats | difference | interval | bootstrap | "
            "p (Holm) | smallest visible | verdict |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in content["comparisons"]:
            if row["question"] == answer["question"]:
                cells = [
                    row["classifier"],
                    amount(row["real_per_class"]),
                    row["generator"] or "",
                    "" if row["ratio"] is None else f"{row['ratio']:g}",
                    *_found(row),
                ]
                lines.append(f"| {' | '.join(cells)} |")
    if content.get("more_real"):
        lines += [
            "",
            "### For scale: more real cells",
            "",
            *(f"* {each}" for each in scale(content["more_real"])),
        ]
    lines += ["", "### Scores and cost", ""]
    lines += [
        "| classifier | real a class | regime | generator | ratio | mean ± deviation | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in content["regimes"]:
        cells = [
            row["classifier"],
            amount(row["real_per_class"]),
            row["regime"],
            row["generator"] or "",
            "" if row["ratio"] is None else f"{row['ratio']:g}",
            f"{row['mean']:.3f} ± {row['deviation']:.3f}",
            f"{row['minutes']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _pooled(answers: Sequence[Row]) -> list[str]:
    """Each question once: the mean of all its comparisons within each repeat."""
    rows = [(answer, answer["pooled"]) for answer in answers if answer.get("pooled")]
    lines = [
        "",
        "### Averaged over all comparisons of a question",
        "",
        "| question | comparisons | repeats | difference | interval | bootstrap | p (Holm) | smallest "
        "visible | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for answer, found in rows:
        cells = [answer["question"], str(answer["comparisons"]), *_found(found)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines if rows else []


def _found(row: Row) -> list[str]:
    """What a comparison found, from its repeats to its verdict, for a table in Markdown."""
    return [
        str(row["repeats"]),
        points(row["difference"]),
        f"{points(row['low'])} to {points(row['high'])}",
        f"{points(row['bootstrap_low'])} to {points(row['bootstrap_high'])}",
        probability(row["p_holm"]),
        visible(row["smallest"]),
        f"**{row['verdict']}**" if row["verdict"] != "no evidence" else "no evidence",
    ]


def amount(per_class: int | None) -> str:
    """Real cells of a class in words.

    Example:
        >>> amount(20), amount(None)
        ('20', 'all')
    """
    return "all" if per_class is None else str(per_class)


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign.

    Example:
        >>> points(0.0213), points(-0.1)
        ('+2.1', '-10.0')
    """
    return f"{100 * share:+.1f}"


def visible(effect: float) -> str:
    """The smallest visible effect in points; no difference of shares is larger than 100.

    Example:
        >>> visible(0.031), visible(1.7)
        ('3.1', '> 100')
    """
    return "> 100" if effect > 1 else f"{100 * effect:.1f}"


def probability(p: float) -> str:
    """A p-value.

    Example:
        >>> probability(0.0312), probability(0.00002)
        ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def file_name(question: str) -> str:
    """A name for a picture's file.

    Example:
        >>> file_name("+trad+prop against +trad")
        'plus-trad-plus-prop-against-plus-trad'
    """
    spelled = question.replace("+", " plus ").strip()
    return re.sub(r"[^a-z0-9]+", "-", spelled.lower()).strip("-")


def _curves(content: Mapping[str, Any]) -> Figure:
    """Score over real cells a class: one row for each generator, one column for each classifier."""
    plan, rows = content["plan"], content["regimes"]
    generators = list(dict.fromkeys(row["generator"] for row in rows if row["generator"])) or [None]
    figure = Figure(
        figsize=(3.1 * len(plan["classifiers"]) + 2.2, 2.6 * len(generators)), layout="constrained"
    )
    panels = figure.subplots(len(generators), len(plan["classifiers"]), squeeze=False, sharey=True)
    for line, generator in zip(panels, generators, strict=True):
        for panel, classifier in zip(line, plan["classifiers"], strict=True):
            own = [
                row
                for row in rows
                if row["classifier"] == classifier
                and row["generator"] in (None, generator)
                and row["ratio"] in (None, max(plan["ratios"]))
            ]
            _lines(panel, own, plan)
            panel.set_title(f"{classifier}, {generator}" if generator else classifier)
    panels[0][0].set_ylabel(plan["score"].replace("_", " "))
    panels[0][0].set_ylim(top=min(1.0, panels[0][0].get_ylim()[1]))
    for panel in panels[-1]:
        panel.set_xlabel("real cells of each class")
    known = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    shown = [regime for regime in plan["regimes"] if regime in known]
    figure.legend([known[regime] for regime in shown], shown, loc="outside right upper", fontsize=8)
    return figure


def _lines(panel: Axes, rows: Sequence[Row], plan: Row) -> None:
    places = {real: place for place, real in enumerate(plan["real"])}
    spread = np.linspace(-0.12, 0.12, max(2, len(plan["regimes"])))
    for number, regime in enumerate(plan["regimes"]):
        own = sorted(
            (row for row in rows if row["regime"] == regime), key=lambda row: places[row["real_per_class"]]
        )
        if own:
            panel.errorbar(
                [places[row["real_per_class"]] + spread[number] for row in own],
                [row["mean"] for row in own],
                [row["deviation"] for row in own],
                color=_COLOURS[number % len(_COLOURS)],
                linestyle="-" if REGIMES[regime].real else ":",
                linewidth=1.3,
                marker="o",
                markersize=3,
                elinewidth=0.7,
                label=regime,
            )
    panel.set_xticks(range(len(places)), [amount(real) for real in places])


def _forest(rows: Sequence[Row], score: str, answer: Row) -> Figure:
    """A line for all comparisons together, then one for each: difference, intervals, visible effect."""
    names = [
        " · ".join(
            part
            for part in (
                row["classifier"],
                f"{amount(row['real_per_class'])} a class",
                row["generator"] or "",
                "" if row["ratio"] is None else f"x{row['ratio']:g}",
            )
            if part
        )
        for row in rows
    ]
    if answer.get("pooled"):
        rows, names = [answer["pooled"], *rows], [f"averaged over {all_of(len(rows))}", *names]
    figure = Figure(figsize=(7.4, 1.15 + 0.26 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        colour = _VERDICT[row["verdict"]]
        low, high = (100 * row[end] for end in ("low", "high"))
        axes.plot((low, high), (place, place), color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(
            (100 * row["bootstrap_low"], 100 * row["bootstrap_high"]), (place, place), color=colour,
            linewidth=6, alpha=0.2, solid_capstyle="butt",
        )  # fmt: skip
        axes.plot(100 * row["difference"], place, "o", color=colour, markersize=4.5)
        for side in (-1, 1):
            axes.plot(side * 100 * row["smallest"], place, "|", color="#c9c8d2", markersize=8)
    axes.axvline(0, color="#22232a", linewidth=0.8)
    reach = max(abs(100 * row[end]) for row in rows for end in ("low", "high", "smallest"))
    axes.set_xlim(-min(1.05 * reach, 100), min(1.05 * reach, 100))
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        f"difference in {score.replace('_', ' ')}, points;\nticks: smallest effect found in 4 of 5"
    )
    axes.set_title(textwrap.fill(f"{answer['question']}: {answer['words']}", 60))
    return figure
