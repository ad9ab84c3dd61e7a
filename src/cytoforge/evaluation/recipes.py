"""How classifiers are trained: settings of each kind by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import sha256_file
from cytoforge.core.settings import checked, suggestion
from cytoforge.data.augment import Policy
from cytoforge.data.transform import Preparation
from cytoforge.tasks.classify import BASIC_CNN, ClassifierConfig


class Recipe(ClassifierConfig):
    """Everything that decides a classifier but the data and the seed."""

    resolution: int = Field(128, ge=8, le=1024, description="side of the network's input, in pixels")
    fit: Literal["pad", "crop", "stretch"] = Field("crop", description="how a picture becomes square")
    batch: int = Field(32, ge=1, description="images in one step")
    symmetry: Policy = Field("flip,rotate", description="flips and turns while training")
    balanced: bool = Field(True, description="show each class equally often")
    average_half_life: int = Field(1000, ge=1, description="images; half-life of the averaged weights")
    copies: int = Field(
        8, ge=1, description="linear: changed copies of each image whose features are learned"
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto",
        description="number format of training; auto measures which one this machine gains from in a single "
        "training, and is 32-true where several are compared",
    )
    views: Literal[1, 8] = Field(1, description="8 averages the logits of all flips and quarter turns")

    @property
    def images(self) -> int:
        """Training images seen, repetitions counted."""
        return self.steps * self.batch

    @property
    def preparation(self) -> Preparation:
        """How pictures become the network's input."""
        return Preparation(resolution=self.resolution, fit=self.fit)

    def unmeasured(self) -> Recipe:
        """The recipe with a number format that no clock decides, for trainings that are compared."""
        return self.model_copy(update={"precision": "32-true"}) if self.precision == "auto" else self


RECIPES: dict[str, Recipe] = {
    "linear": Recipe(
        mode="linear", head="standardised", augment="stain,color,noise", strength=0.5, steps=1500, batch=64,
        learning_rate=3e-3, weight_decay=0.1, average_half_life=5000,
    ),
    "lite0": Recipe(
        steps=800, learning_rate=1e-3, weight_decay=0.02, label_smoothing=0.1, precision="32-true", views=8
    ),
    "basic-cnn": Recipe(
        architecture="basic-cnn", mode="scratch", resolution=64, steps=4000, batch=64, dropout=0.25,
        weight_decay=1e-4,
    ),
    "resnet50": Recipe(
        architecture="resnet50", mode="staged", head="flatten", dropout=0.5, resolution=64, steps=2000,
        learning_rate=3e-4, body_rate=0.3,
    ),
    "vgg16": Recipe(
        architecture="vgg16", mode="staged", head="flatten", resolution=64, steps=2000, learning_rate=3e-4,
        body_rate=0.1,
    ),
    "vgg19": Recipe(
        architecture="vgg19", mode="staged", head="flatten", resolution=64, steps=2000, learning_rate=3e-4,
        body_rate=0.1,
    ),
    "resnet152": Recipe(architecture="resnet152", steps=1000, learning_rate=3e-4),
    "densenet161": Recipe(architecture="densenet161", steps=1000, learning_rate=3e-4),
    "inception-v3": Recipe(architecture="inception_v3", steps=1000, learning_rate=3e-4),
}  # fmt: skip
"""Recipes by name. Those of source 001 keep its heads, those of source 002 the architectures' own."""

_IDLE: dict[tuple[str, str], frozenset[str]] = {
    ("mode", "linear"): frozenset(
        {"mixup", "dropout", "frozen_norm", "frozen_stages", "body_rate", "hold", "precision"}
    ),
    ("mode", "staged"): frozenset({"copies"}),
    ("mode", "full"): frozenset({"copies", "hold"}),
    ("mode", "scratch"): frozenset({"copies", "hold", "weights", "frozen_stages"}),
    ("architecture", BASIC_CNN): frozenset({"weights", "head", "frozen_norm", "frozen_stages"}),
}
"""Settings that do nothing where another one has a value."""
_HARMLESS = {"weights": "none", "precision": "32-true"}
"""What such a setting may say beside its default: the truth."""


def recipe_of(name: str, settings: dict[str, Any] | None = None) -> Recipe:
    """The recipe of a name, or of any architecture of timm, with some settings exchanged.

    Args:
        name: a key of `RECIPES`, or "timm:NAME".
        settings: field -> value or text.

    Raises:
        ConfigError: there is no such recipe, or settings do not fit, or do nothing.
    """
    if name.startswith("timm:"):
        base = RECIPES["lite0"].model_copy(update={"architecture": name.removeprefix("timm:")})
    elif name in RECIPES:
        base = RECIPES[name]
    else:
        raise ConfigError(
            f'there is no recipe "{name}".{suggestion(name, RECIPES)} Recipes: {", ".join(RECIPES)}, or '
            "timm:NAME for any architecture of timm."
        )
    recipe = checked(Recipe, {**base.model_dump(), **(settings or {})}, f"recipe {name}")
    untrained = recipe.weights == "none" or recipe.architecture == BASIC_CNN or recipe.head == "flatten"
    if recipe.mode == "linear" and untrained:
        raise ConfigError(
            f"recipe {name}: mode=linear learns from the features of a trained network, which weights=none, "
            f"{BASIC_CNN} and head=flatten do not have; choose mode=scratch or mode=full."
        )
    _refuse_idle(name, recipe, settings or {})
    return recipe


def weights_sha256(recipe: Recipe) -> dict[str, str]:
    """What tells apart files of starting weights under one name, for the parameters of a job; else nothing.

    Raises:
        ConfigError: the file cannot be read.
    """
    named = effective(recipe.model_dump()).get("weights", "none")
    if named in ("imagenet", "none"):
        return {}
    try:
        return {"weights_sha256": sha256_file(Path(named))}
    except OSError as error:
        raise ConfigError(f"the weights in {named} cannot be read: {error.strerror}.") from error


def effective(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A classifier's settings without those that do nothing beside the others.

    Args:
        settings: field -> value, of a `Recipe` or a `ClassifierConfig`.

    Example:
        >>> effective({"architecture": "basic-cnn", "mode": "scratch", "weights": "imagenet"})
        {'architecture': 'basic-cnn', 'mode': 'scratch'}
    """
    own = (idle for (field, value), idle in _IDLE.items() if settings.get(field) == value)
    idle = frozenset[str]().union(*own)
    return {name: value for name, value in settings.items() if name not in idle}


def _refuse_idle(name: str, recipe: Recipe, given: Iterable[str]) -> None:
    """Settings that were given and would be ignored."""
    for (field, value), idle in _IDLE.items():
        wrong = [
            f"{setting}={getattr(recipe, setting)}"
            for setting in sorted(idle.intersection(given))
            if getattr(recipe, field) == value
            and getattr(recipe, setting) not in (Recipe.model_fields[setting].default, _HARMLESS.get(setting))
        ]
        if wrong:
            raise ConfigError(
                f"recipe {name}: {', '.join(wrong)} does nothing with {field}={value}; leave it out, or "
                f"choose another {field}."
            )
