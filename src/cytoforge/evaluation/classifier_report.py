"""What `classify report` finds of a classifier; the content of classify.json."""

from __future__ import annotations

from typing import Any, Literal

from cytoforge.core.record import Record
from cytoforge.evaluation.classification import Estimate, Scores
from cytoforge.evaluation.published import Published


class Curve(Record):
    """One training.

    Attributes:
        seen: training images seen, at each line of losses.
        loss: cross-entropy on training images.
        looked: training images seen, at each look at unseen cells.
        accuracy: share of some unseen cells named rightly.
        unseen_loss: cross-entropy on them, without label smoothing and augmentation.
    """

    seen: tuple[int, ...]
    loss: tuple[float, ...]
    looked: tuple[int, ...]
    accuracy: tuple[float, ...]
    unseen_loss: tuple[float, ...]


class FoldSearch(Record):
    """Settings that one fold's training cells chose.

    Attributes:
        chosen: setting -> value.
        inner_accuracy: mean accuracy over the inner folds with them; optimistic, since it chose them.
    """

    chosen: dict[str, Any]
    inner_accuracy: float


class Measuring(Record):
    """How cells became measurements; medians of training cells stand in for what is missing.

    Attributes:
        from_given_masks: share of the measured cells whose masks the data set itself gives.
        unmeasured: cells without a single measurement.
        incomplete: cells with some measurements and not all.
    """

    from_given_masks: float
    unmeasured: int
    incomplete: int


class Protocol(Record):
    """Results of one way of dividing.

    Attributes:
        name: "random" or "grouped".
        scores: of all cells, each tested once.
        coarse: the same predictions in the data set's coarser division, such as normal and abnormal.
        accuracies: of each fold.
        sibling: share of the tested cells of whose photo cells were in training.
        seconds: of training, for each fold.
        curves: of each fold; none for classifiers that are not trained step by step.
        searches: of each fold; none for classifiers whose settings are given.
    """

    name: str
    scores: Scores
    coarse: Scores | None
    accuracies: tuple[float, ...]
    sibling: float
    seconds: tuple[float, ...]
    curves: tuple[Curve, ...]
    searches: tuple[FoldSearch, ...] = ()


class Against(Record):
    """Another classifier on the same cells in the same grouped folds.

    Attributes:
        recipe: its name.
        settings: of its recipe.
        accuracy: its accuracy.
        gain: accuracy of the judged classifier less that, cell by cell.
    """

    recipe: str
    settings: dict[str, Any]
    accuracy: Estimate
    gain: Estimate


class ClassifierReport(Record):
    """The content of classify.json.

    Attributes:
        format: of this file.
        data: name of the folder.
        layout: of the folder.
        cells: that could be used.
        groups: after those that show the same cell were made one.
        recipe: its name.
        settings: of the recipe.
        parameters: numbers that the network has.
        folds: into how many parts the cells were divided.
        seed: of everything.
        random: results with cells divided at random.
        grouped: results with groups kept together.
        leak: accuracy of the former less that of the latter ("leak inflation").
        published: figures of others on this data set.
        against: the classifier it was compared with, if any.
        measuring: of classifiers on measurements, else None.
        faults: path below the folder and reason of each file that is in no figure.
        ungrouped: whether no photo is known, so that both divisions are of single cells.
    """

    format: Literal[1] = 1
    kind: Literal["classify"] = "classify"
    data: str
    layout: str
    cells: int
    groups: int
    recipe: str
    settings: dict[str, Any]
    parameters: int
    folds: int
    seed: int
    random: Protocol
    grouped: Protocol
    leak: Estimate
    published: tuple[Published, ...]
    against: Against | None = None
    measuring: Measuring | None = None
    faults: tuple[tuple[str, str], ...] = ()
    ungrouped: bool = False
