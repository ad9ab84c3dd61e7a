"""All loss families of adversarial training on one data set, side by side (source 004).

Source 004 lists the losses (vanilla, f-GAN, LSGAN, hinge, WGAN, WGAN-GP), EBGAN and InfoGAN and compares
them in words. It gives no numbers, so the table of `REFERENCES` holds what each paper sets and claims,
not a score.

What differs from the papers, and why:

* One generator and one convolutional discriminator for all (EBGAN's is an autoencoder, InfoGAN's has a
  second head), so that a difference is the loss's. The papers' networks differ from each other in size
  and norm.
* All but `InfoGAN without labels` are told the class; the papers of 2014 to 2017 are mostly unconditional.
* The losses that `gan` is set to carry R1 with weight 1 where nothing else is said, so that differences
  are not those of a diverging discriminator; `plain` marks the one without a penalty.
* All have differentiable augmentation and draw with a moving average of the generator's weights, which none
  of these papers has: without the first, small sets of cells are learned by heart.
* All train with Adam, most at a rate of 2e-4 with decay rates 0 and 0.99, whatever their papers take.
  Wasserstein with clipping keeps its rate of 5e-5, but has this Adam where the paper has RMSProp; with a
  first decay rate of 0 the two differ by Adam's correction of the first hundreds of steps alone.
* f-GAN's generator uses the alternative of its section 3.2 (-E[g(v)]), not the saturating form of its
  equation 6.
* The same number of images, not of steps or minutes: Wasserstein families take five discriminator steps
  for each generator step, as published, and so fewer generator steps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytoforge.core.batch import to_float, to_uint8
from cytoforge.core.files import write_atomic
from cytoforge.core.png import encode_png
from cytoforge.core.run import Run
from cytoforge.evaluation.features import open_extractor
from cytoforge.experiments.contest import (
    PHANTOM,
    Budget,
    Cells,
    Contestant,
    Outcome,
    cells_for,
    compete,
    conclude,
    open_cells_of,
)
from cytoforge.experiments.scale import Scale
from cytoforge.losses.adversarial import FAMILIES
from cytoforge.losses.information import categorical_information, continuous_information
from cytoforge.methods.infogan import InfoGAN
from cytoforge.sampling.generator import open_generator
from cytoforge.sampling.pictures import labelled_rows


@dataclass(frozen=True)
class References:
    """What the papers set; none of them measures small sets of cells."""

    wgan_clip: float = 0.01
    wgan_critic_steps: int = 5
    wgan_learning_rate: float = 5e-5
    wgan_gp_penalty: float = 10.0
    wgan_gp_critic_steps: int = 5
    ebgan_repelling: float = 0.1
    infogan_information: float = 1.0
    infogan_continuous_information: float = 0.1


REFERENCES = References()

BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(resolution=32, images=2_000, batch=32, drawn=20),
    "full": Budget(resolution=64, images=60_000, batch=32, drawn=100),
}
"""Training of each contestant; `full` takes about ten minutes each on two cores."""

_NARROW = {"generator_channels": 16, "discriminator_channels": 16, "most_channels": 128}
_WIDE = {"generator_channels": 32, "discriminator_channels": 32, "most_channels": 256}
_BARE = {"r1": 0.0, "r2": 0.0}
_COLUMNS = ("kid", "precision", "recall", "coverage", "class", "diversity", "nearer_to_train", "seconds")


def contestants(scale: Scale) -> dict[str, Contestant]:
    """Every family by the name under which it is drawn."""
    size = {**(_NARROW if scale == "smoke" else _WIDE), "augment": "translation,cutout"}
    five = REFERENCES.wgan_critic_steps
    entries = {
        name: Contestant("gan", {**size, "loss": name, "r1": 1.0, "r2": 0.0})
        for name in FAMILIES
        if name != "wasserstein"
    }
    entries["plain non-saturating"] = Contestant("gan", {**size, **_BARE, "loss": "non-saturating"})
    entries["soft labels"] = Contestant(
        "gan", {**size, **_BARE, "loss": "non-saturating", "label_smoothing": 0.1, "label_flips": 0.05}
    )
    entries["relativistic R1 + R2"] = Contestant("gan", {**size, "loss": "relativistic"})
    entries["hinge, spectral norm"] = Contestant(
        "gan", {**size, **_BARE, "loss": "hinge", "spectral_norm": True}
    )
    entries["Wasserstein, clipping"] = Contestant("gan", {**size, "discriminator_steps": five}, preset="wgan")
    entries["Wasserstein, penalty"] = Contestant(
        "gan", {**size, "discriminator_steps": REFERENCES.wgan_gp_critic_steps}, preset="wgan-gp"
    )
    entries["EBGAN"] = Contestant("ebgan", size)
    entries["EBGAN without repelling"] = Contestant("ebgan", {**size, "repelling": 0.0})
    entries["InfoGAN"] = Contestant("infogan", size)
    entries["InfoGAN without labels"] = Contestant("infogan", {**size, "labelled": False})
    return entries


def run(data: Path | None, out: Path, scale: Scale, budget: Budget | None = None) -> dict[str, Any]:
    """Train all families, draw cells and losses side by side, measure KID and recall.

    Args:
        data: folder of labelled cells, or None for simulated ones.
        out: folder for result.json, table.md, cells.png, curves.png, infogan.png and the runs.
        scale: "smoke" takes minutes, "full" hours.
        budget: instead of the scale's.

    Returns:
        What result.json holds.
    """
    budget, extractor = budget or BUDGETS[scale], open_extractor()
    folder = cells_for(data, out, *PHANTOM[scale])
    cells = open_cells_of(folder, out, budget, extractor)
    outcomes: dict[str, Outcome] = {}
    for name, entry in contestants(scale).items():
        outcomes[name] = compete(entry, cells, out / "runs" / slug(name), budget, extractor)
    free = "InfoGAN without labels"
    for column in ("class", "diversity"):
        outcomes[free].numbers.pop(column, None)  # its images are of any class
    found = None
    if outcomes[free].images is not None:
        found = information(Run.open(out / "runs" / slug(free)), cells, out / "infogan.png")
    return conclude(
        "gan-families",
        scale,
        out,
        budget,
        cells,
        outcomes,
        _COLUMNS,
        extractor=extractor.name,
        references=asdict(REFERENCES),
        infogan=found,
    )


def slug(name: str) -> str:
    """A name as a folder.

    Example:
        >>> slug("Wasserstein, clipping")
        'wasserstein-clipping'
    """
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


@torch.no_grad()
def information(run: Run, cells: Cells, picture: Path, count: int = 256) -> dict[str, float]:
    """How much the codes of a trained InfoGAN say about its images, and about real cells' classes.

    Args:
        run: of an InfoGAN.
        cells: real cells.
        picture: where the traversal goes: a row for each category, and for each continuous code a row from
            -0.9 to 0.9 with everything else unchanged.
        count: generated images.

    Returns:
        In nats: "category" and "codes" (lower bounds of the information between code and image), their upper
        ends "most_category" (and none for the codes, whose information is unbounded), and
        "category_and_class": information between the category that is read from held-back cells and
        their true class, which is what was discovered without labels.
    """
    generator = open_generator(run, "newest")
    method = generator.method
    assert isinstance(method, InfoGAN)
    noise = method.noise(np.arange(count))
    labels = torch.arange(count) % len(cells.classes)
    read = method.recognise(method.sample(noise, labels), labels)
    categories, codes = method.codes(noise)
    held = to_float(cells.held)
    told = torch.from_numpy(cells.held_labels)
    guessed = torch.cat(
        [
            method.recognise(*part).category.argmax(1)
            for part in zip(torch.split(held, 64), torch.split(told, 64), strict=True)
        ]
    )
    _draw_traversal(method, picture)
    return {
        "category": float(categorical_information(read.category, categories)),
        "most_category": float(np.log(method.config.categories)),
        "codes": float(continuous_information(read.means, read.log_deviations, codes)),
        "category_and_class": mutual_information(guessed.numpy(), cells.held_labels),
    }


def mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Information between two labellings of the same things, in nats (biased upwards for few things).

    Example:
        >>> round(mutual_information(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])), 4)  # ln 2
        0.6931
    """
    joint = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(joint, (first, second), 1 / len(first))
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    known = joint > 0
    return float((joint[known] * np.log(joint[known] / independent[known])).sum())


def _draw_traversal(method: InfoGAN, path: Path, columns: int = 8) -> None:
    """Categories: eight noises in each; continuous codes: one noise, the code from -0.9 to 0.9."""
    noise, zeros = method.noise(np.arange(columns)), torch.zeros(columns, dtype=torch.long)
    rows = {
        f"category {value}": method.sample(method.with_code(noise, value), zeros)
        for value in range(method.config.categories)
    }
    one = noise[:1]
    for code in range(method.config.continuous):
        walk = [
            method.with_code(one, None, **{f"c{code}": value}) for value in np.linspace(-0.9, 0.9, columns)
        ]
        rows[f"code {code}: -0.9 to 0.9"] = method.sample(torch.cat(walk), zeros)
    sheet = labelled_rows({name: to_uint8(images) for name, images in rows.items()})
    write_atomic(path, encode_png(sheet, {"Synthetic": "true"}))
