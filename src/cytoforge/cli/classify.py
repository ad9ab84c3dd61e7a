"""`cytoforge classify`: train and judge classifiers of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from cytoforge.cli.console import Outcome
from cytoforge.cli.train import parse_settings


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
        group: regular expression with one bracket that finds a cell's slide or photo in its path.
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
    executor: Literal["serial", "loky", "ray", "dask"] = "serial",
    workers: int | None = None,
) -> Outcome:
    """The same classifier by random and by grouped folds: classify.json, predictions.csv and classify.html.

    The same command goes on where it was interrupted; finished folds are kept.

    Args:
        data: folder of labelled cells.
        out: folder for the results.
        recipe: linear, lite0, basic-cnn, resnet50, vgg16, vgg19, resnet152, densenet161, inception-v3 or
            timm:NAME.
        folds: into how many parts the cells are divided.
        seed: seed of folds, weights, order and augmentation.
        layout: how the folder is laid out; recognised where not given.
        group: regular expression with one bracket that finds a cell's slide or photo in its path.
        set_: settings of the recipe as key=value.
        executor: where folds are computed.
        workers: how many folds at once; as many as the executor offers where not given.
    """
    from cytoforge.report.classify import sentence
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
        executor=executor,
        workers=workers,
    )
    facts = {
        "out": out,
        "random": judged.random.scores.accuracy,
        "grouped": judged.grouped.scores.accuracy,
        "leak_inflation": judged.leak,
    }
    return Outcome(facts, f"{sentence(judged)}\n{out / 'classify.html'}")


VERBS = (train, report)
"""What `cytoforge classify` can do, in the order of the help page."""
