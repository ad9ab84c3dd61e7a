from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.data.folds import grouped_folds
from cytoforge.evaluation.measurement_classifiers import (
    MeasurementRecipe,
    fit_measurements,
    measurement_recipe_of,
)
from cytoforge.evaluation.measurements import MEASUREMENTS

CLASSES = ("a", "b", "c")
QUICK = {
    "svm": MeasurementRecipe(kind="svm", scales=("standard",), C=(1.0, 10.0), gamma=(0.01,)),
    "mlp": MeasurementRecipe(kind="mlp", scales=("standard",), hidden=((16,),), alpha=(0.1,), epochs=60),
}


def _cells(per_class: int = 40, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """Three classes that differ in the first ten measurements of the nucleus, four cells to a photo."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    values = rng.normal(size=(len(labels), len(MEASUREMENTS)))
    values[:, :5] += 3 * (labels == 1)[:, None]
    values[:, 5:10] += 3 * (labels == 2)[:, None]
    values[::9, 5] = np.nan
    return values, labels, [f"{label}-{index // 4}" for index, label in enumerate(labels)]


@pytest.mark.parametrize("kind", ["svm", "mlp"])
def test_learns_what_can_be_learned(kind: str) -> None:
    values, labels, groups = _cells()
    fold = grouped_folds(labels, groups, 3)[0]
    own = [groups[index] for index in fold.train]
    fitted = fit_measurements(QUICK[kind], values[fold.train], labels[fold.train], own, CLASSES)
    probabilities = fitted.probabilities(values[fold.test])
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (probabilities.argmax(1) == labels[fold.test]).mean() > 0.9
    assert (fitted.logits(values[fold.test]).argmax(1) == probabilities.argmax(1)).all()
    again = fit_measurements(QUICK[kind], values[fold.train], labels[fold.train], own, CLASSES)
    np.testing.assert_array_equal(again.probabilities(values[fold.test]), probabilities)


def test_the_number_of_parameters_is_that_of_the_network() -> None:
    values, labels, groups = _cells(16)
    fitted = fit_measurements(QUICK["mlp"], values, labels, groups, CLASSES)
    assert fitted.parameters == 53 * 16 + 16 + 16 * 3 + 3
    machine = fit_measurements(QUICK["svm"], values, labels, groups, CLASSES)
    vectors = machine.pipeline.calibrated_classifiers_[0].estimator.named_steps["classifier"].support_
    assert machine.parameters == len(vectors) * (53 + 2) + 3


def test_regions_hide_the_other_measurements() -> None:
    values, labels, groups = _cells()
    recipe = QUICK["svm"].model_copy(update={"regions": "cytoplasm"})
    fitted = fit_measurements(recipe, values, labels, groups, CLASSES)
    assert fitted.inner_accuracy < 0.6  # the classes differ in the nucleus only
    changed = values.copy()
    changed[:, :26] = 0
    np.testing.assert_array_equal(fitted.probabilities(changed), fitted.probabilities(values))


def test_groups_stay_together_inside() -> None:
    """Labels are noise but constant in a photo of equal cells: only a leak could learn them."""
    rng = np.random.default_rng(3)
    photos = rng.normal(size=(40, len(MEASUREMENTS)))
    values = np.repeat(photos, 6, axis=0) + 1e-3 * rng.normal(size=(240, len(MEASUREMENTS)))
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 6)
    groups = [str(index // 6) for index in range(240)]
    recipe = MeasurementRecipe(kind="svm", scales=("standard",), C=(100.0,), gamma=(0.03,))
    found = fit_measurements(recipe, values, labels, groups, ("a", "b"))
    assert found.inner_accuracy < 0.75
    apart = fit_measurements(recipe, values, labels, [str(index) for index in range(240)], ("a", "b"))
    assert apart.inner_accuracy > 0.95


def test_the_search_takes_the_better_setting() -> None:
    values, labels, groups = _cells()
    recipe = MeasurementRecipe(kind="svm", scales=("standard",), C=(1e-4, 10.0), gamma=(0.01, 50.0))
    fitted = fit_measurements(recipe, values, labels, groups, CLASSES)
    assert fitted.chosen == {"C": 10.0, "gamma": 0.01, "scale": "standard"}


def test_a_class_without_cells_has_probability_0() -> None:
    values, labels, groups = _cells()
    kept = labels != 1
    own = [group for group, keep in zip(groups, kept, strict=True) if keep]
    fitted = fit_measurements(QUICK["svm"], values[kept], labels[kept], own, CLASSES)
    assert (fitted.probabilities(values)[:, 1] == 0).all()


def test_all_numbers_missing_is_no_error() -> None:
    values, labels, groups = _cells(16)
    values[:, 7] = np.nan
    recipe = QUICK["svm"].model_copy(update={"scales": ("normal",)})
    fitted = fit_measurements(recipe, values, labels, groups, CLASSES)
    assert np.isfinite(fitted.probabilities(np.full((2, 53), np.nan))).all()


def test_what_cannot_be_learned_is_said() -> None:
    values, labels, groups = _cells(8)
    with pytest.raises(DataError, match="do not fit"):
        fit_measurements(QUICK["svm"], values[:, :5], labels, groups, CLASSES)
    with pytest.raises(DataError, match=r"one has 1 group"):
        fit_measurements(QUICK["svm"], values, labels, [str(label) for label in labels], CLASSES)
    with pytest.raises(ConfigError, match='Did you mean "svm"'):
        measurement_recipe_of("svmm")
    with pytest.raises(ConfigError, match="regions"):
        measurement_recipe_of("svm", {"regions": "nucleolus"})
