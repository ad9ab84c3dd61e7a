"""What a classifier is trained on: the regimes that a utility study compares, and the questions it asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError
from cytoforge.core.randomness import derive
from cytoforge.core.settings import suggestion

TRADITIONAL: Final = "flip,rotate,tilt,noise"
"""Ordinary augmentation of source 002: flips, rotations by any angle, Gaussian noise."""


@dataclass(frozen=True)
class Regime:
    """What one classifier sees; all regimes that are not `short` take the same number of optimiser steps.

    Attributes:
        title: for readers.
        real: real cells are shown.
        synthetic: synthetic cells are shown.
        augmented: images are changed by ordinary augmentation.
        selected: of synthetic cells, those that the selection keeps.
        pretrain: the first half of the steps shows synthetic cells alone, the second real ones alone.
        control: the synthetic cells are those of the control generator.
        short: real cells are shown as often as where synthetic ones are mixed in, so there are only
            1 / (1 + ratio) of the steps.
    """

    title: str
    real: bool = True
    synthetic: bool = False
    augmented: bool = False
    selected: bool = False
    pretrain: bool = False
    control: bool = False
    short: bool = False


REGIMES: Final[dict[str, Regime]] = {
    "orig": Regime("real cells"),
    "+trad": Regime("real cells, ordinary augmentation", augmented=True),
    "+prop": Regime("real and synthetic cells", synthetic=True),
    "+trad+prop": Regime("real and synthetic cells, ordinary augmentation", synthetic=True, augmented=True),
    "+selected": Regime("real and selected synthetic cells", synthetic=True, selected=True),
    "+trad+selected": Regime(
        "real and selected synthetic cells, ordinary augmentation",
        synthetic=True,
        augmented=True,
        selected=True,
    ),
    "pretrain": Regime("synthetic cells first, then real ones", synthetic=True, pretrain=True),
    "+trad+pretrain": Regime(
        "synthetic cells first, then real ones, ordinary augmentation",
        synthetic=True,
        augmented=True,
        pretrain=True,
    ),
    "prop": Regime("synthetic cells only", real=False, synthetic=True),
    "selected": Regime("selected synthetic cells only", real=False, synthetic=True, selected=True),
    "gan": Regime("control's synthetic cells only", real=False, synthetic=True, control=True),
    "orig+gan": Regime("real cells and control's synthetic ones", synthetic=True, control=True),
    "orig-short": Regime("real cells, shown as often as beside synthetic ones", short=True),
    "+trad-short": Regime(
        "real cells, shown as often as beside synthetic ones, ordinary augmentation",
        augmented=True,
        short=True,
    ),
}
"""Word -> regime. Orig, +Trad, +Prop, +Trad+Prop, Prop, GAN and Orig+GAN are source 002's."""

DEFAULT_REGIMES: Final = tuple(
    name for name, regime in REGIMES.items() if not (regime.control or regime.short)
)


@dataclass(frozen=True)
class Question:
    """Two regimes that are compared; the comparisons of one question are one family for Holm's method.

    Attributes:
        regime: what may help.
        baseline: what it is compared with.
        words: the question for readers.
    """

    regime: str
    baseline: str
    words: str

    @property
    def name(self) -> str:
        """Such as "+prop against orig"."""
        return f"{self.regime} against {self.baseline}"


QUESTIONS: Final[tuple[Question, ...]] = (
    Question("+prop", "orig", "Do synthetic cells help where nothing else is done?"),
    Question("+trad+prop", "+trad", "Do synthetic cells help on top of ordinary augmentation?"),
    Question("+prop", "+trad", "Are synthetic cells better than ordinary augmentation?"),
    Question("+selected", "orig", "Do selected synthetic cells help where nothing else is done?"),
    Question("+trad+selected", "+trad", "Do selected synthetic cells help on top of ordinary augmentation?"),
    Question("+trad+selected", "+trad+prop", "Does selection help?"),
    Question("pretrain", "orig", "Does it help to train on synthetic cells first?"),
    Question("+trad+pretrain", "+trad", "Does synthetic pretraining help on top of ordinary augmentation?"),
    Question("prop", "orig", "Can synthetic cells stand in for the real ones?"),
    Question("selected", "prop", "Are selected synthetic cells better alone?"),
    Question("orig+gan", "orig", "Do the control generator's cells help?"),
    Question("gan", "prop", "Are the control generator's cells as good alone?"),
    Question("+trad", "orig", "Does ordinary augmentation help?"),
    Question("+prop", "orig-short", "Do synthetic cells add to real ones that are shown as often?"),
    Question(
        "+trad+prop", "+trad-short", "Do synthetic cells add to augmented real ones that are shown as often?"
    ),
    Question("orig", "orig-short", "Does it help to show real cells more often instead?"),
    Question("+trad", "+trad-short", "Does it help to show augmented real cells more often instead?"),
)
"""Fixed before any study; a study asks those whose two regimes it has."""


def regimes_of(names: Iterable[str], control: bool) -> dict[str, Regime]:
    """The regimes with these names, in the order of `REGIMES`.

    Args:
        names: keys of `REGIMES`.
        control: whether the study has a control generator.

    Raises:
        ConfigError: an unknown name, or a regime of a control that there is not.
    """
    wanted = set(names)
    for name in sorted(wanted):
        if name not in REGIMES:
            raise ConfigError(
                f"there is no regime {name!r}.{suggestion(name, REGIMES)} Regimes: {', '.join(REGIMES)}."
            )
        if REGIMES[name].control and not control:
            raise ConfigError(f"regime {name!r} needs a control generator; name one with --control.")
    return {name: regime for name, regime in REGIMES.items() if name in wanted}


def questions_of(names: Iterable[str]) -> tuple[Question, ...]:
    """The questions that can be asked with these regimes."""
    known = set(names)
    return tuple(question for question in QUESTIONS if {question.regime, question.baseline} <= known)


def judge_of(names: Iterable[str]) -> str | None:
    """The regime whose classifiers of real cells judge synthetic ones; None where there is none.

    Example:
        >>> judge_of(["+trad", "orig"]), judge_of(["+trad", "+trad+prop"]), judge_of(["prop", "selected"])
        ('orig', '+trad', None)
    """
    known = set(names)
    return next((name for name in ("orig", "+trad") if name in known), None)


def draw_cells(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    per_class: int | None,
    seed: int,
) -> NDArray[np.int64]:
    """Some training cells of each class, photo by photo in random order, as a small laboratory would have.

    Draws of one seed are nested: the cells of 20 a class are among those of 50 a class.

    Args:
        rows: (T,) row numbers to draw from.
        labels: (N,) class of every row.
        groups: (N,) photo or patient of every row.
        per_class: cells of each class; a class with fewer gives all. None takes all rows.
        seed: of the order.

    Returns:
        Sorted row numbers.
    """
    if per_class is None:
        return np.sort(rows)
    rng = np.random.default_rng(derive(seed, "real cells"))
    names, code = np.unique(np.asarray(groups)[rows], return_inverse=True)
    order = np.lexsort((rng.permutation(len(rows)), rng.permutation(len(names))[code]))
    shuffled = rows[order]
    kept = [shuffled[labels[shuffled] == label][:per_class] for label in np.unique(labels[rows])]
    return np.sort(np.concatenate(kept))


def draw_synthetic(
    labels: NDArray[np.int64],
    real: NDArray[np.int64],
    ratio: float,
    classes: int,
    kept: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """The first synthetic cells of each class, `ratio` for each real one.

    Args:
        labels: (M,) of the synthetic cells.
        real: (N,) labels of the real cells that they come on top of, or stand in for.
        ratio: synthetic cells for each real one.
        classes: their number.
        kept: (M,) whether selection keeps each; None for no selection.

    Returns:
        Sorted row numbers; fewer of a class where there are no more.

    Example:
        >>> draw_synthetic(np.array([0, 0, 0, 1, 1]), np.array([0, 1]), 2.0, 2).tolist()
        [0, 1, 3, 4]
    """
    wanted = np.round(ratio * np.bincount(real, minlength=classes)).astype(int)
    usable = np.ones(len(labels), bool) if kept is None else kept
    rows = [np.flatnonzero((labels == label) & usable)[: wanted[label]] for label in range(classes)]
    return np.sort(np.concatenate(rows))
