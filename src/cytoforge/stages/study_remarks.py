"""What a reader has to know before quoting a study: what failed, what was not possible, what fell short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

FEW_GROUPS = 50
"""Up to so many groups the test was seen to err above its level where they are divided more than once."""


def remarks(content: Row) -> list[str]:
    """A sentence for each thing in which a study is not what its plan and its rule say.

    Args:
        content: of study.json.
    """
    return [
        *_divided_again(content["plan"], content["data"]["groups"]),
        *_without_cells(content["generators"]),
        *_stopped(content["generators"]),
        *_chosen_by_opponent(content["generators"]),
        *_failures(content["failed"]),
        *_selections(content),
        *_not_averaged(content.get("answers", ())),
        *_few_real(content.get("few_real", ())),
        *_emptied(content["generators"]),
        *_shortfalls(content["regimes"]),
        *_unrecorded(content.get("ledger", {}).get("by_split", 0)),
    ]


def _divided_again(plan: Row, groups: int) -> list[str]:
    """More repeats than folds: all divisions share the few groups, which the correction does not know."""
    if plan["repeats"] <= plan["folds"] or groups > FEW_GROUPS:
        return []
    return [
        f"{plan['repeats']} repeats divide the same {groups} groups more than once, and the test may err "
        "more often than its level says: without any effect two divisions of 20 photos gave a verdict in "
        "up to 7.2 % of simulated studies, of 50 photos in up to 5.7 %, where 5 % are allowed."
    ]


def _without_cells(generators: Sequence[Row]) -> list[str]:
    return [
        f"{_amount(row['real_per_class'])}, {row['generator']}: no cells in {len(row['failed'])} of all "
        f"repeats: {row['failed'][0]}"
        for row in generators
        if row["failed"]
    ]


def _stopped(generators: Sequence[Row]) -> list[str]:
    """Trainings that an alarm ended; what they gave until then is compared."""
    return [
        f"{_amount(row['real_per_class'])}, {row['generator']}: {len(row['stopped'])} of all trainings "
        f"stopped early, and what they had learned is compared all the same: {row['stopped'][0]}"
        for row in generators
        if row["stopped"]
    ]


def _chosen_by_opponent(generators: Sequence[Row]) -> list[str]:
    """Selection by the network that the generator was trained against."""
    found = {
        row["generator"]: row["chosen_by_opponent"] for row in generators if row.get("chosen_by_opponent")
    }
    return [
        f"{name}: its cells were selected by {network}, the network that it was trained against, which "
        "hardly sees their faults."
        for name, network in found.items()
    ]


def _failures(failed: Sequence[Row]) -> list[str]:
    cells: dict[str, list[Row]] = {}
    for row in failed:
        cells.setdefault(_words(row, row["classifier"]), []).append(row)
    return [
        f"{cell}: the classifier failed in {_numbers([row['repeat'] for row in rows])} and is in no "
        f"comparison there: {rows[0]['why']}"
        for cell, rows in cells.items()
    ]


def _selections(content: Row) -> list[str]:
    return [
        f"{_amount(row['real_per_class'])}, {_numbers(row['repeats'])} of {content['plan']['repeats']}: "
        f"selection: {row['what']}."
        for row in content["selection"]
    ]


def _not_averaged(answers: Sequence[Row]) -> list[str]:
    """Questions without a pooled comparison; the first versions had none at all."""
    return [
        f"{answer['question']}: no two repeats have all {answer['comparisons']} comparisons, so they are not "
        "averaged."
        for answer in answers
        if "pooled" in answer and answer["pooled"] is None
    ]


def _few_real(rows: Sequence[Row]) -> list[str]:
    return [
        f"{_amount(row['real_per_class'])}: there are fewer of {', '.join(row['classes'])} in some repeat, "
        f"down to {row['fewest']}; all of them are used."
        for row in rows
    ]


def _emptied(generators: Sequence[Row]) -> list[str]:
    return [
        f"{_amount(row['real_per_class'])}, {row['generator']}: selection would keep nothing of "
        f"{', '.join(row['emptied'])} in some repeat; these classes stay whole there."
        for row in generators
        if row["emptied"]
    ]


def _shortfalls(regimes: Sequence[Row]) -> list[str]:
    short = {_words(row): row["short"] for row in regimes if row["short"]}
    return [
        f"{cell}: {100 * share:.1f} % fewer synthetic cells than the ratio asks for; selection kept too few."
        for cell, share in short.items()
    ]


def _unrecorded(generators: int) -> list[str]:
    """Runs without shown.json."""
    if not generators:
        return []
    return [
        f"{generators} generator{'s were' if generators > 1 else ' was'} trained by an earlier version that "
        "did not write down what it read: there the ledger goes by split.json."
    ]


def _words(row: Row, *first: str) -> str:
    """A cell of the grid.

    Example:
        >>> row = {"real_per_class": 20, "regime": "+selected", "generator": "auto", "ratio": 2.0}
        >>> _words(row, "linear")
        'linear, 20 real cells a class, +selected, auto, ratio 2'
    """
    made = [] if row["generator"] is None else [row["generator"], f"ratio {row['ratio']:g}"]
    return ", ".join([*first, _amount(row["real_per_class"]), row["regime"], *made])


def _amount(real: int | None) -> str:
    return "all real cells" if real is None else f"{real} real cells a class"


def _numbers(repeats: Sequence[int]) -> str:
    """Repeats as scores.csv numbers them.

    Example:
        >>> _numbers([0]), _numbers([0, 2])
        ('repeat 0', 'repeats 0, 2')
    """
    return f"repeat{'s' if len(repeats) > 1 else ''} {', '.join(map(str, repeats))}"
