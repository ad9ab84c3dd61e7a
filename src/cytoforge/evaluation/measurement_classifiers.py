"""Classifiers on published measurements: a support vector machine and a multi-layer perceptron (source 001).

What is missing, the scale and the settings are decided by training cells alone, the settings by grouped folds
inside them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.svm import SVC

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.randomness import derive
from cytoforge.core.record import Record
from cytoforge.core.settings import checked, suggestion
from cytoforge.data.folds import grouped_folds
from cytoforge.evaluation.measurements import MEASUREMENTS, Masks

_RANKS, _BATCH = 200, 32
_LEAST = 1e-6


class MeasurementRecipe(Record):
    """How a classifier on measurements is made."""

    kind: Literal["svm", "mlp"] = Field(description="svm with a radial basis function, or mlp")
    regions: Literal["both", "nucleus", "cytoplasm"] = Field(
        "both", description="whose 26 measurements are used; both adds the ratio of areas"
    )
    masks: Masks = Field("auto", description="auto takes the masks of the data set and finds the others")
    scales: tuple[Literal["standard", "normal"], ...] = Field(
        ("standard", "normal"),
        min_length=1,
        description="tried: standard, mean 0 and deviation 1; normal, ranks as quantiles of a normal curve",
    )
    C: tuple[float, ...] = Field((1.0, 10.0, 100.0), min_length=1, description="svm: penalties tried")
    gamma: tuple[float, ...] = Field(
        (0.003, 0.01, 0.03), min_length=1, description="svm: inverse squared widths tried"
    )
    hidden: tuple[tuple[int, ...], ...] = Field(
        ((64,), (128, 64)), min_length=1, description="mlp: widths of the hidden layers tried"
    )
    alpha: tuple[float, ...] = Field((0.1, 1.0, 10.0), min_length=1, description="mlp: weight decays tried")
    epochs: int = Field(60, ge=1, description="mlp: times each cell is seen")
    inner_folds: int = Field(3, ge=2, description="grouped folds of the training cells that compare settings")


MEASUREMENT_RECIPES: dict[str, MeasurementRecipe] = {
    "svm": MeasurementRecipe(kind="svm"),
    "mlp": MeasurementRecipe(kind="mlp"),
}
"""Recipes by name."""


def measurement_recipe_of(name: str, settings: Mapping[str, Any] | None = None) -> MeasurementRecipe:
    """The recipe of a name with some settings exchanged.

    Raises:
        ConfigError: there is no such recipe, or settings do not fit.
    """
    if name not in MEASUREMENT_RECIPES:
        raise ConfigError(
            f'there is no recipe "{name}" on measurements.{suggestion(name, MEASUREMENT_RECIPES)} '
            f"Recipes: {', '.join(MEASUREMENT_RECIPES)}."
        )
    values = {**MEASUREMENT_RECIPES[name].model_dump(), **(settings or {})}
    return checked(MeasurementRecipe, values, f"recipe {name}")


@dataclass(frozen=True)
class MeasurementClassifier:
    """A trained classifier of measured cells.

    Attributes:
        recipe: how it was trained.
        classes: names, in the order of its outputs.
        chosen: settings that won inside the training cells.
        inner_accuracy: mean accuracy over the inner folds with them; optimistic, since it chose them.
        pipeline: fitted, from measurements to probabilities of the classes that had training cells.
    """

    recipe: MeasurementRecipe
    classes: tuple[str, ...]
    chosen: dict[str, Any]
    inner_accuracy: float
    pipeline: Any

    def probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Class probabilities (N, K) of measurements (N, 53); a class without training cells has 0."""
        found = np.zeros((len(values), len(self.classes)), np.float32)
        found[:, self.pipeline.classes_] = self.pipeline.predict_proba(used_columns(self.recipe, values))
        return found

    def logits(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Logarithms (N, K) of the probabilities, none below that of one in a million."""
        logits: NDArray[np.float32] = np.log(np.maximum(self.probabilities(values), np.float32(_LEAST)))
        return logits

    @property
    def parameters(self) -> int:
        """How many numbers were learned: weights, or support vectors and their coefficients."""
        fitted = self.pipeline
        if isinstance(fitted, CalibratedClassifierCV):
            fitted = fitted.calibrated_classifiers_[0].estimator
        last = fitted.named_steps["classifier"]
        if isinstance(last, SVC):
            return int(last.support_vectors_.size + last.dual_coef_.size + last.intercept_.size)
        return sum(int(part.size) for part in (*last.coefs_, *last.intercepts_))


def fit_measurements(
    recipe: MeasurementRecipe,
    values: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    classes: Sequence[str],
    seed: int = 0,
) -> MeasurementClassifier:
    """Search settings and train, all within the cells given.

    Args:
        recipe: what to train and which settings to try.
        values: (N, 53) measurements, columns as in `MEASUREMENTS`; NaN where a cell has none.
        labels: (N,) index of each cell's class.
        groups: (N,) photo or slide of each; no group is on both sides of an inner fold.
        classes: names; a class may be without cells.
        seed: of inner folds and initial weights.

    Raises:
        DataError: the arguments do not fit each other, or a class has too few groups for two inner folds.

    Reference:
        Cortes and Vapnik, Support-vector networks, 1995. Probabilities of the machine: Platt, Probabilistic
        outputs for support vector machines, 1999, from decisions in the inner folds.
    """
    if values.shape != (len(labels), len(MEASUREMENTS)) or len(groups) != len(labels):
        raise DataError(
            f"measurements {values.shape}, {len(labels)} labels and {len(groups)} groups do not fit: "
            f"there are {len(MEASUREMENTS)} measurements of a cell."
        )
    known, count = used_columns(recipe, values), _inner_folds(recipe, labels, groups)
    folds = grouped_folds(labels, groups, count, derive(seed, "inner"))
    inner = [(fold.train, fold.test) for fold in folds]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        untrained = _pipeline(recipe, len(labels), seed)
        search = GridSearchCV(untrained, _grid(recipe, len(labels)), cv=inner, refit=False)
        search.fit(known, labels)
        best: Any = untrained.set_params(**search.best_params_)
        if recipe.kind == "svm":
            best = CalibratedClassifierCV(best, method="sigmoid", cv=inner, ensemble=False)
        best.fit(known, labels)
    chosen = {place.rpartition("__")[2]: _plain(value) for place, value in search.best_params_.items()}
    return MeasurementClassifier(recipe, tuple(classes), chosen, float(search.best_score_), best)


def used_columns(recipe: MeasurementRecipe, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measurements (N, M) of the recipe's regions out of (N, 53), finite or NaN."""
    wanted = [recipe.regions == "both" or name.startswith(recipe.regions) for name in MEASUREMENTS]
    kept = values[:, wanted]
    found: NDArray[np.float64] = np.where(np.isfinite(kept), kept, np.nan)
    return found


def _inner_folds(recipe: MeasurementRecipe, labels: NDArray[np.int64], groups: Sequence[str]) -> int:
    names, present = np.asarray(groups), np.unique(labels)
    fewest = min((len(np.unique(names[labels == label])) for label in present), default=0)
    if len(present) < 2 or fewest < 2:
        raise DataError(
            f"settings are chosen within training cells of two classes or more, each of two groups or more; "
            f"here are {len(present)} classes, and one has {fewest} group(s). Add cells."
        )
    return min(recipe.inner_folds, fewest)


def _pipeline(recipe: MeasurementRecipe, count: int, seed: int) -> Pipeline:
    """Medians for what is missing, scale, classifier."""
    random = derive(seed, "measurements") % 2**32
    classifier: Any = SVC(kernel="rbf", class_weight="balanced")
    if recipe.kind == "mlp":
        classifier = MLPClassifier(
            batch_size=min(_BATCH, max(1, count // 4)),
            learning_rate_init=2e-3,
            max_iter=recipe.epochs,
            random_state=random,
        )
    missing = SimpleImputer(strategy="median", keep_empty_features=True)
    return Pipeline([("missing", missing), ("scale", StandardScaler()), ("classifier", classifier)])


def _grid(recipe: MeasurementRecipe, count: int) -> dict[str, list[Any]]:
    """What scikit-learn tries; a quarter of the cells are in every inner training part."""
    ranks = min(_RANKS, max(2, count // 4))
    scales = {
        "standard": StandardScaler(),
        "normal": QuantileTransformer(n_quantiles=ranks, output_distribution="normal", random_state=0),
    }
    tried: dict[str, Sequence[Any]] = {"C": recipe.C, "gamma": recipe.gamma}
    if recipe.kind == "mlp":
        tried = {"hidden_layer_sizes": recipe.hidden, "alpha": recipe.alpha}
    return {
        "scale": [scales[name] for name in recipe.scales],
        **{f"classifier__{name}": list(values) for name, values in tried.items()},
    }


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, StandardScaler):
        return "standard"
    if isinstance(value, QuantileTransformer):
        return "normal"
    return list(value) if isinstance(value, tuple) else value
