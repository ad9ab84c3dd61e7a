"""What a study is going to do: its plan, and the jobs that the plan names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from cytoforge.core.batch import DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.jobs import Job
from cytoforge.core.record import Record
from cytoforge.data.augment import Policy, parse_policy
from cytoforge.data.cells import CellSet
from cytoforge.evaluation.features import fair_extractor
from cytoforge.evaluation.recipes import Recipe, recipe_of, weights_sha256
from cytoforge.evaluation.regimes import (
    DEFAULT_REGIMES,
    REGIMES,
    TRADITIONAL,
    Regime,
    judge_of,
    questions_of,
    regimes_of,
)
from cytoforge.evaluation.utility import LEVEL
from cytoforge.stages.study_jobs import Material, Place, obstacle_to_selection, outer_fold, real_rows
from cytoforge.stages.train import Plan as Training
from cytoforge.stages.train import new_method, shape_of, usual_preset
from cytoforge.stages.train import plan as plan_training
from cytoforge.tasks.classify import build_network

MINUTES = 5.0
"""Training of a generator where neither minutes nor images are given."""

SPARE = 2
"""Cells drawn for each one wanted where some regime selects among them."""

OF_THE_STUDY = frozenset({"augment", "mixup", "strength", "symmetry", "views"})
"""Settings of a classifier that regimes decide."""

Score = Literal["balanced_accuracy", "accuracy", "macro_f1"]


class Plan(Record):
    """A study, wholly named before it begins.

    Attributes:
        generators: methods whose cells are tried.
        control: method of the regimes "gan" and "orig+gan", or None.
        classifiers: recipes.
        real: real cells of each class; None stands for all of a repeat's training cells.
        ratios: synthetic cells for each real one.
        regimes: keys of `evaluation.regimes.REGIMES`.
        repeats: outer test folds: those of one division, then those of the next.
        folds: of each division.
        resolution: of real and synthetic cells, in pixels.
        minutes: of each generator's training, or None.
        images: the same in training images, or None.
        traditional: ordinary augmentation.
        score: what is compared.
        level: 1 - level is the rate of false alarms within a question.
        extractor: what selection sees; None for one that the generator was not trained against.
        share: of real cells that each rule of selection would lose.
        seed: of everything.
        settings: generator or classifier -> its settings.
    """

    generators: tuple[str, ...]
    control: str | None = None
    classifiers: tuple[str, ...] = ("linear",)
    real: tuple[int | None, ...] = (20, 50, 100)
    ratios: tuple[FiniteFloat, ...] = (2.0,)
    regimes: tuple[str, ...] = DEFAULT_REGIMES
    repeats: int = Field(5, ge=2)
    folds: int = Field(5, ge=2)
    resolution: int = Field(64, ge=16)
    minutes: float | None = Field(None, gt=0, allow_inf_nan=False)
    images: int | None = Field(None, ge=1)
    traditional: Policy = TRADITIONAL
    score: Score = "balanced_accuracy"
    level: float = Field(LEVEL, gt=0.5, lt=1)
    extractor: str | None = None
    share: float = Field(0.05, gt=0, lt=0.5)
    seed: int = 0
    settings: dict[str, dict[str, Any]] = Field({})


@dataclass(frozen=True)
class Trial:
    """One classifier of the study and the job that trains it."""

    classifier: str
    real: int | None
    regime: str
    generator: str | None
    ratio: float | None
    repeat: int
    job: Job

    @property
    def cell(self) -> tuple[Any, ...]:
        """All but the repeat."""
        return self.classifier, self.real, self.regime, self.generator, self.ratio

    @property
    def facts(self) -> dict[str, Any]:
        """Its place in the grid as study.json names it."""
        names = ("classifier", "real_per_class", "regime", "generator", "ratio")
        return {**dict(zip(names, self.cell, strict=True)), "repeat": self.repeat}


def check_plan(plan: Plan) -> None:
    """Refuse what cannot be studied, before anything is trained.

    Raises:
        ConfigError: names unknown, settings that do not fit, or nothing to compare.
    """
    regimes_of(plan.regimes, plan.control is not None)
    if not questions_of(plan.regimes):
        raise ConfigError("these regimes leave nothing to compare; add orig or +trad as a baseline.")
    for name in plan.classifiers:
        recipe = classifier_recipe(plan, name)
        build_network(recipe, DataShape(recipe.resolution, ("one", "other")))
    for name in methods(plan):
        if "resolution" in plan.settings.get(name, {}):
            raise ConfigError(f"{name}.resolution: all generators of a study draw at its --resolution.")
        chosen = training_of(plan, name)
        if chosen.method.translates() or name == "text-to-image":
            raise ConfigError(
                f"{name} cannot draw cells from training cells alone; choose another generator."
            )
        if (reason := chosen.method.needs_start(chosen.settings)) is not None:
            raise ConfigError(f"{name}: {reason}, and generators of a study begin from new weights.")
        new_method(chosen, ("one", "other"))
    unknown = sorted(plan.settings.keys() - {*methods(plan), *plan.classifiers})
    if unknown:
        raise ConfigError(
            f"settings of {unknown[0]!r}: it is no generator or classifier of this study. Write "
            "--set NAME.key=value."
        )
    lists = {"generators": plan.generators, "classifiers": plan.classifiers, "real": plan.real}
    for what, values in {**lists, "ratios": plan.ratios}.items():
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"--{what}: give one or more, each once.")
    if any(count is not None and count < 2 for count in plan.real) or any(
        ratio <= 0 for ratio in plan.ratios
    ):
        raise ConfigError("--real needs 2 or more cells of a class, --ratios numbers above 0.")
    fewest = min((count for count in plan.real if count is not None), default=None)
    if fewest is not None and round(min(plan.ratios) * fewest) < 1:
        raise ConfigError(
            f"--ratios {min(plan.ratios):g} of {fewest} real cells is no cell; give a larger one."
        )


def check_masks(plan: Plan, cells: CellSet) -> None:
    """Refuse a generator that needs masks where the cells have none, before anything is trained.

    Raises:
        ConfigError: there is such a generator.
    """
    for name in methods(plan) if draws(plan) else ():
        shape_of(training_of(plan, name), cells)


def draws(plan: Plan) -> bool:
    """Whether any regime has synthetic cells."""
    return any(regime.synthetic for regime in regimes_of(plan.regimes, plan.control is not None).values())


def training_of(plan: Plan, generator: str) -> Training:
    """Method and settings of a generator."""
    return plan_training(generator, None, {"resolution": plan.resolution, **plan.settings.get(generator, {})})


def classifier_recipe(plan: Plan, name: str) -> Recipe:
    """A classifier's recipe with the study's settings, without averaging over views.

    The number format is not measured: it would differ between machines, and within a pair of regimes.

    Raises:
        ConfigError: there is no such recipe, or settings do not fit.
    """
    settings = plan.settings.get(name, {})
    if taken := sorted(OF_THE_STUDY & settings.keys()):
        raise ConfigError(
            f"{name}.{taken[0]} is the study's to choose (regimes, --traditional); leave it out."
        )
    return recipe_of(name, {**settings, "views": 1}).unmeasured()


def regime_recipe(recipe: Recipe, regime: Regime, traditional: str) -> Recipe:
    """The recipe under a regime: ordinary augmentation, or none at all; steps stay the same.

    Args:
        recipe: of the classifier.
        regime: of the trial.
        traditional: policy of `data.augment`.
    """
    names = parse_policy(traditional) if regime.augmented else ()
    turned = [name for name in names if name in ("flip", "rotate")]
    others = [name for name in names if name not in turned]
    changes = {"symmetry": ",".join(turned), "augment": ",".join(others), "strength": 1.0, "mixup": 0.0}
    return recipe.model_copy(update={**changes, **({} if names else {"copies": 1})})


def cost(plan: Plan) -> dict[str, float | None]:
    """How much a plan asks for: trainings of generators and of classifiers, and minutes of the generators."""
    regimes = regimes_of(plan.regimes, plan.control is not None).values()
    synthetic = any(regime.synthetic for regime in regimes)
    generators = plan.repeats * len(plan.real) * len(methods(plan)) * synthetic
    each = [len(_sources(plan, regime)) for regime in regimes]
    classifiers = plan.repeats * len(plan.real) * len(plan.classifiers) * sum(each)
    minutes = None if plan.images and not plan.minutes else generators * (plan.minutes or MINUTES)
    return {"generators": generators, "classifiers": classifiers, "generator_minutes": minutes}


def methods(plan: Plan) -> tuple[str, ...]:
    """The generators and the control, each once."""
    return tuple(dict.fromkeys([*plan.generators, *([plan.control] if plan.control else [])]))


def _common(plan: Plan, material: Material, repeat: int, real: int | None) -> dict[str, Any]:
    """Parameters that decide which cells a job may see."""
    return {
        "data": material.division.sha256,
        "resolution": plan.resolution,
        "folds": plan.folds,
        "seed": plan.seed,
        "repeat": repeat,
        "real": real,
    }


def training_cells(
    plan: Plan, material: Material, place: Place, repeat: int, real: int | None
) -> NDArray[np.int64]:
    """Rows of the real cells that a repeat has at a fraction."""
    fold = outer_fold(place, plan.resolution, plan.folds, plan.seed, repeat)
    return real_rows(material, fold, _common(plan, material, repeat, real))


def generator_jobs(
    plan: Plan, material: Material, precision: str, presets: Mapping[str, str]
) -> dict[tuple[Any, ...], Job]:
    """(repeat, real, method) -> training, in one number format and preset, on whatever machine they are done.

    A preset that is the usual one without a GPU is not named in a job, as in studies of earlier versions.
    """
    if not draws(plan):
        return {}
    minutes = MINUTES if plan.minutes is None and plan.images is None else plan.minutes
    return {
        (repeat, real, name): Job(
            {
                "kind": "generator",
                **_common(plan, material, repeat, real),
                "generator": name,
                "minutes": minutes,
                "images": plan.images,
                "settings": {"precision": precision, **plan.settings.get(name, {})},
                **({} if presets[name] == usual_preset(name, gpu=False) else {"preset": presets[name]}),
            }
        )
        for repeat in range(plan.repeats)
        for real in plan.real
        for name in methods(plan)
    }


def set_jobs(
    plan: Plan,
    material: Material,
    place: Place,
    generators: Mapping[tuple[Any, ...], Job],
    choosers: Mapping[str, str],
) -> dict[tuple[Any, ...], Job]:
    """(repeat, real, method) -> drawing as many cells as any regime can use; see `choosers_of`."""
    select = bool(choosers)
    jobs = {}
    for (repeat, real, name), job in generators.items():
        most = int(np.bincount(material.labels[training_cells(plan, material, place, repeat, real)]).max())
        jobs[repeat, real, name] = Job(
            {
                "kind": "set",
                **_common(plan, material, repeat, real),
                "trained": job.key,
                "per_class": ceil(max(plan.ratios) * most * (SPARE if select else 1)),
                "select": select,
                "extractor": choosers.get(name),
                "share": plan.share,
            }
        )
    return jobs


def choosers_of(plan: Plan) -> dict[str, str]:
    """Method -> name of the network that selection sees its cells by; none where no regime selects."""
    if not any(REGIMES[name].selected for name in plan.regimes):
        return {}
    return {name: _chooser(plan, name) for name in methods(plan)}


def _chooser(plan: Plan, generator: str) -> str:
    if plan.extractor is not None:
        return plan.extractor
    chosen = training_of(plan, generator)
    return fair_extractor(chosen.method.opponent(chosen.settings)).name


def selection_obstacles(plan: Plan, material: Material, place: Place) -> dict[tuple[Any, ...], str]:
    """(repeat, real) -> why selection is not possible there; those where it is are left out."""
    if not any(REGIMES[name].selected for name in plan.regimes):
        return {}
    found = {}
    for repeat, real in product(range(plan.repeats), plan.real):
        why = obstacle_to_selection(material, training_cells(plan, material, place, repeat, real))
        if why is not None:
            found[repeat, real] = why
    return found


def trials_of(
    plan: Plan,
    material: Material,
    sets: Mapping[tuple[Any, ...], Job],
    obstacles: Mapping[tuple[Any, ...], str],
) -> list[Trial]:
    """Every classifier of the study, but for those of generators without cells and of impossible selections.

    Args:
        plan: of the study.
        material: its cells.
        sets: of `set_jobs`, those that hold cells.
        obstacles: of `selection_obstacles`.
    """
    regimes = regimes_of(plan.regimes, plan.control is not None)
    recipes = {name: classifier_recipe(plan, name) for name in plan.classifiers}
    weights = {name: weights_sha256(recipe) for name, recipe in recipes.items()}
    trials = []
    for repeat, real, classifier in product(range(plan.repeats), plan.real, plan.classifiers):
        common = _common(plan, material, repeat, real)
        judges = sorted(
            sets[repeat, real, name].key for name in methods(plan) if (repeat, real, name) in sets
        )
        for word, regime in regimes.items():
            if regime.selected and (repeat, real) in obstacles:
                continue
            recipe = regime_recipe(recipes[classifier], regime, plan.traditional)
            shown = {key: value for key, value in asdict(regime).items() if key != "short"}
            for name, ratio in _sources(plan, regime):
                own = {
                    "kind": "classifier",
                    **common,
                    "set": None,
                    "ratio": None,
                    "regime": {**shown, "title": "", "control": False},
                    "recipe": (_shortened(recipe, ratio) if regime.short else recipe).model_dump(mode="json"),
                    **weights[classifier],
                    "judged": judges if word == judge_of(plan.regimes) else [],
                }
                if name is None:
                    trials.append(Trial(classifier, real, word, None, ratio, repeat, Job(own)))
                elif (repeat, real, name) in sets:
                    job = Job({**own, "set": sets[repeat, real, name].key, "ratio": ratio})
                    trials.append(Trial(classifier, real, word, name, ratio, repeat, job))
    return trials


def _sources(plan: Plan, regime: Regime) -> list[tuple[str | None, float | None]]:
    """(generator, ratio) of each training in a regime, None for what it does not depend on."""
    if regime.short:
        return [(None, ratio) for ratio in plan.ratios]
    if not regime.synthetic:
        return [(None, None)]
    return list(product((plan.control,) if regime.control else plan.generators, plan.ratios))


def _shortened(recipe: Recipe, ratio: float | None) -> Recipe:
    """As many steps as show real cells where there are `ratio` synthetic ones for each."""
    assert ratio is not None
    return recipe.model_copy(update={"steps": max(1, round(recipe.steps / (1 + ratio)))})
