"""`cytoforge classify`: train and judge classifiers of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from cytoforge.cli.console import Outcome
from cytoforge.cli.train import parse_settings
from cytoforge.core.executors import Executor


def train(
    data: Path,
    /,
    *,
    run: Path,
    recipe: str = "lite0",
    seed: int = 0,
    split: Path | None = None,
    layout: str = "auto",
    group: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    resume: Annotated[bool, Parameter(negative="")] = False,
) -> Outcome:
    """Train a classifier on the training part of a split.

    Args:
        data: folder of labelled cells.
        run: new folder for the run.
        recipe: linear, lite0, basic-cnn, resnet50, vgg16, vgg19, resnet152, densenet161, inception-v3 or
            timm:NAME.
        seed: seed of split, weights, order and augmentation.
        split: a split.json; made where missing.
        layout: how the folder is laid out; recognised where not given.
        group: regular expression with one (bracket) that finds the photo, slide or patient in a file's path.
        set_: settings of the recipe as key=value, such as steps=500 or weights=FILE.safetensors.
        resume: go on with the run in --run where there is one.
    """
    from cytoforge.stages import classify as stage

    done = stage.train(
        data,
        run,
        recipe=recipe,
        settings=parse_settings(set_),
        seed=seed,
        split=split,
        layout=layout,
        group=group,
        resume=resume,
    )
    looks = [record for record in done.read_log() if record["kind"] == "measure"]
    facts: dict[str, Any] = {"run": done.path, "recipe": recipe}
    if looks:
        facts |= {name: looks[-1][name] for name in ("seen", "seconds", "accuracy", "cross_entropy")}
        facts["accuracy_on"] = (
            f"up to {stage.WATCHED} validation cells of groups that training did not see, one division; "
            "classify report judges the recipe by folds"
        )
    return Outcome(facts)


def report(
    data: Path,
    /,
    *,
    out: Path,
    recipe: str = "lite0",
    folds: int = 5,
    seed: int = 0,
    layout: str = "auto",
    group: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    against: Path | None = None,
    executor: Executor = "serial",
    workers: int | None = None,
) -> Outcome:
    """The same classifier by random and by grouped folds: classify.json, predictions.csv and classify.html.

    The same command goes on where it was interrupted; finished folds are kept.

    Args:
        data: folder of labelled cells.
        out: folder for the results.
        recipe: linear, lite0, basic-cnn, resnet50, vgg16, vgg19, resnet152, densenet161, inception-v3,
            timm:NAME, or svm and mlp on published measurements.
        folds: into how many parts the cells are divided.
        seed: seed of folds, weights, order and augmentation.
        layout: how the folder is laid out; recognised where not given.
        group: regular expression with one (bracket) that finds the photo, slide or patient in a file's path.
        set_: settings of the recipe as key=value.
        against: folder of another finished report on the same cells and folds, such as one of --recipe
            linear: the difference in accuracy, cell by cell.
        executor: where folds are computed.
        workers: how many folds at once; as many as the executor offers where not given.
    """
    from cytoforge.report.classify import against_sentence, left_out, sentence
    from cytoforge.stages import classify as stage

    judged = stage.report(
        data,
        out,
        recipe=recipe,
        settings=parse_settings(set_),
        folds=folds,
        seed=seed,
        layout=layout,
        group=group,
        against=against,
        executor=executor,
        workers=workers,
    )
    facts = {
        "out": out,
        "random": judged.random.scores.accuracy,
        "grouped": judged.grouped.scores.accuracy,
        "leak_inflation": judged.leak,
        "against": judged.against,
        "faults": judged.faults,
        "ungrouped": judged.ungrouped,
    }
    lines = [sentence(judged)]
    if judged.against is not None:
        lines.append(against_sentence(judged.against))
    if judged.faults:
        lines.append(f"{left_out(judged.faults)}.")
    return Outcome(facts, "\n".join([*lines, str(out / "classify.html")]))


def calibrate(
    run: Path,
    /,
    *,
    data: Path | None = None,
    part: Literal["val", "test"] = "val",
    judged_on: Literal["val", "test"] = "test",
    coverages: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (0.8, 0.9, 0.95),
    score: Literal["lac", "aps"] = "lac",
    by_class: Annotated[bool, Parameter(negative="")] = False,
    novelty: Literal["neighbours", "mahalanobis"] = "neighbours",
    false_alarm: float = 0.05,
    engine: Literal["auto", "onnx", "torch"] = "auto",
    seed: int = 0,
) -> Outcome:
    """Learn from held-out cells how far answers can be trusted: calibration.json in the run.

    Args:
        run: folder of classify train.
        data: its data folder, where that has moved.
        part: part of the split to learn from.
        judged_on: another part that says whether it came out right.
        coverages: shares of cells whose true class the sets of possible classes shall hold.
        score: lac, the smallest sets; aps, sets that are larger for harder cells.
        by_class: keep the promise within each class.
        novelty: what measures the distance to training cells.
        false_alarm: share of cells of known kinds that may be called of an unknown kind.
        engine: onnx is faster, auto takes it where it is installed.
        seed: seed of comparisons with chance.
    """
    from cytoforge.evaluation.trust import CALIBRATION
    from cytoforge.stages import calibrate as stage

    found = stage.calibrate(
        run,
        data=data,
        part=part,
        judged_on=judged_on,
        coverages=coverages,
        score=score,
        by_class=by_class,
        novelty=novelty,
        false_alarm=false_alarm,
        engine=engine,
        seed=seed,
    )
    facts: dict[str, Any] = {
        "calibration": run / CALIBRATION,
        "temperature": found.temperature,
        "cells": found.cells,
        "groups": len(found.groups),
        "judged": found.judged,
    }
    return Outcome(facts, _calibration_text(found, run / CALIBRATION))


def predict(
    run: Path,
    source: Path,
    /,
    *,
    out: Path,
    photos: Annotated[bool, Parameter(negative="")] = False,
    coverage: float = 0.9,
    meanings: Path | None = None,
    engine: Literal["auto", "onnx", "torch"] = "auto",
    executor: Executor = "serial",
    workers: int | None = None,
) -> Outcome:
    """Name the cells in pictures: predictions.csv, predictions.json and annotated.png.

    Args:
        run: folder of classify train.
        source: a picture, or a folder of pictures.
        out: folder for the results.
        photos: pictures are whole photos, in which nuclei are found first; else each shows one cell.
        coverage: share of cells whose true class the sets of possible classes hold; one that was calibrated.
        meanings: YAML file with your own text on what classes mean; a teaching text comes along.
        engine: onnx is faster, auto takes it where it is installed.
        executor: where pictures are dealt to.
        workers: how many at once; as many as the executor offers where not given.
    """
    from cytoforge.cli.config_file import read_yaml
    from cytoforge.stages import predict as stage
    from cytoforge.stages.predictions import verdict

    found = stage.predict(
        run,
        source,
        out,
        photos=photos,
        coverage=coverage,
        meanings=None if meanings is None else read_yaml(meanings, "--meanings"),
        engine=engine,
        executor=executor,
        workers=workers,
    )
    counts: dict[str, int] = {}
    for cell in found.cells:
        word = verdict(cell, found.calibrated)
        counts[word] = counts.get(word, 0) + 1
    facts: dict[str, Any] = {
        "out": out,
        "cells": len(found.cells),
        "answers": counts,
        "calibrated": found.calibrated,
        "engine": found.engine,
        "faults": found.faults,
    }
    listed = ", ".join(f"{count} {word}" for word, count in counts.items())
    text = f"{len(found.cells)} cells: {listed or 'none found'}.\n{out / 'predictions.csv'}"
    if found.faults:
        text += f"\n{len(found.faults)} pictures could not be used; see predictions.json."
    if not photos and len(found.annotated) < len(found.cells):
        text += f"\nannotated.png shows the first {len(found.annotated)} cells."
    return Outcome(facts, text)


def explain(
    run: Path,
    source: Path,
    /,
    *,
    out: Path,
    data: Path | None = None,
    coverage: float = 0.9,
    most: int = 24,
    meanings: Path | None = None,
) -> Outcome:
    """Show where the classifier looked and which training cells are most alike: explanation.html.

    Args:
        run: folder of classify train.
        source: a picture, or a folder of pictures, of one cell each.
        out: folder for the results.
        data: the run's data folder, where that has moved.
        coverage: as for predict.
        most: how many pictures are explained.
        meanings: as for predict.
    """
    from cytoforge.cli.config_file import read_yaml
    from cytoforge.stages import explain as stage

    own = None if meanings is None else read_yaml(meanings, "--meanings")
    found = stage.explain(run, source, out, data=data, coverage=coverage, most=most, meanings=own)
    facts: dict[str, Any] = {
        "out": out,
        "cells": len(found.cells),
        "sanity": found.sanity,
        "faults": found.faults,
    }
    return Outcome(facts, f"{len(found.cells)} cells explained: {out / 'explanation.html'}")


def _right(share: Any) -> str:
    if share is None:
        return ""
    return f", {share.value:.1%} of these rightly ({share.low:.1%} to {share.high:.1%})"


def _calibration_text(found: Any, path: Path) -> str:
    lines = [
        f"temperature {found.temperature:.3f}, learned from {found.cells} cells of {len(found.groups)} groups"
    ]
    judged = found.judged
    if judged is not None:
        before, after = judged.before, judged.after
        lines += [
            f"on {judged.cells} other cells of {judged.groups} groups ({judged.part}):",
            f"  calibration error {before.error:.3f} -> {after.error:.3f} (chance gives "
            f"{after.chance_error:.3f}), Brier {before.brier:.3f} -> {after.brier:.3f}",
        ]
        for each in judged.coverage:
            lines += [
                f"  promised {each.stated:.0%}: {each.groups:.1%} of groups' cells covered (chance allows "
                f"{each.low:.1%} to {each.high:.1%}), {each.size:.2f} classes in a set",
                f"    {each.answered.value:.1%} answered{_right(each.accuracy_answered)}",
            ]
            lines += [
                f"    {name}: {own.groups:.1%} (chance allows {own.low:.1%} to {own.high:.1%})"
                for name, own in each.by_class.items()
            ]
        lines.append(
            f"  {judged.false_alarms:.1%} called of an unknown kind, {found.false_alarm:.0%} promised"
        )
    return "\n".join([*lines, str(path)])


VERBS = (train, calibrate, predict, explain, report)
"""What `cytoforge classify` can do, in the order of the help page."""
