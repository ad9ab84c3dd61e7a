"""Every experiment by the word that names it on the command line.

To add one: write `experiments/<name>.py` with a docstring that explains every difference from its source, a
frozen dataclass of the source's numbers and a function `run(data, out, scale)`, then add a line here. Called
again after an interruption, `run` must go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import read_json, write_json
from cytoforge.core.run import require_empty
from cytoforge.core.settings import suggestion
from cytoforge.experiments import (
    gan_failures,
    gan_families,
    generators,
    paired_pathology,
    sipakmed_2024,
    sipakmed_generators,
    syncgan_2020,
    syncgan_triplets,
    text_to_image,
    warm_start,
)
from cytoforge.experiments.scale import Scale


@dataclass(frozen=True)
class Experiment:
    """One reproducible comparison.

    Attributes:
        summary: one line.
        run: (folder of cells or None for simulated ones, folder for the results, scale) -> content of
            result.json; writes result.json and pictures. The same call goes on with what is in the folder.
        spreads: `run` also takes `executor` and `workers`, see `core.jobs`.
        budgets: scale -> what `run` also takes as `budget`, for experiments of which it can be changed.
    """

    summary: str
    run: Callable[..., dict[str, Any]]
    spreads: bool = False
    budgets: Mapping[Scale, BaseModel] | None = None


EXPERIMENTS: dict[str, Experiment] = {
    "generators": Experiment(
        "Every class-conditional method with the same minutes, judged by two networks.",
        generators.run,
        budgets=generators.BUDGETS,
    ),
    "mask-generators": Experiment(
        "The same for methods that paint onto masks.", generators.run_painters, budgets=generators.BUDGETS
    ),
    "sipakmed-generators": Experiment(
        "Dense conditional GAN and variational autoencoder of source 001, and better ones.",
        sipakmed_generators.run,
        budgets=sipakmed_generators.BUDGETS,
    ),
    "sipakmed-2024": Experiment(
        "Basic CNN, VGG, ResNet-50, SVM and MLP of source 001: by random and by grouped folds.",
        sipakmed_2024.run,
        spreads=True,
        budgets=sipakmed_2024.BUDGETS,
    ),
    "gan-families": Experiment(
        "Every adversarial loss on the same cells, side by side.",
        gan_families.run,
        budgets=gan_families.BUDGETS,
    ),
    "gan-failures": Experiment(
        "How adversarial training fails, each failure beside its cure.",
        gan_failures.run,
        budgets=gan_failures.BUDGETS,
    ),
    "warm-start": Experiment(
        "Whether a start from weights trained on simulated cells saves time on real ones.",
        warm_start.run,
        budgets=warm_start.BUDGETS,
    ),
    "syncgan-triplets": Experiment(
        "Masks per class from noise, cells from masks (source 002): do image and mask agree?",
        syncgan_triplets.run,
        budgets=syncgan_triplets.BUDGETS,
    ),
    "syncgan-2020": Experiment(
        "Do such cells help classifiers? Tables 2 and 3 of source 002, repeated, with intervals.",
        syncgan_2020.run,
        spreads=True,
    ),
    "text-to-image": Experiment(
        "A pretrained text-to-image model as it comes, taught and steered, and the memory that takes.",
        text_to_image.run,
        budgets=text_to_image.BUDGETS,
    ),
    "paired-pathology": Experiment(
        "Cells painted onto masks under two discriminators (source 003): does one mask give many images?",
        paired_pathology.run,
        budgets=paired_pathology.BUDGETS,
    ),
}


def begin(
    name: str, data: Path | None, out: Path, scale: Scale, settings: Mapping[str, str] | None = None
) -> None:
    """Check the folder for the results: new, empty, or begun by the same call.

    Raises:
        ConfigError: it holds something else.
    """
    asked: dict[str, Any] = {
        "experiment": name,
        "scale": scale,
        "data": None if data is None else str(data.resolve()),
    }
    asked |= {"settings": dict(settings)} if settings else {}
    note = out / "experiment.json"
    if not (note.is_file() and read_json(note) == asked):
        require_empty(out, advice="Repeat the call that began it to go on, or choose another --out.")
        write_json(note, asked)


def experiment_of(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        ConfigError: there is none.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    raise ConfigError(
        f'there is no experiment "{name}".{suggestion(name, EXPERIMENTS)} '
        f"Experiments: {', '.join(EXPERIMENTS)}."
    )
