"""The two generators of source 001 on SIPaKMeD, beside a better variant of each.

Source 001 trains a dense conditional GAN and a conditional variational autoencoder on 64 px cells and
reports, in words, that the autoencoder "performs better than the GAN model, but the generated image is
still blurry", and one number, "90 loss", without saying of what. `NUMBERS` holds what it fixes.

What differs from the source, and why:

* Parameters are not given there. Ours are 2,615,927 and 6,879,233 for generator and discriminator,
  3,684,480 and 13,085,315 for encoder and decoder (five classes, 64 px); `result.json` counts them.
* "90 loss" cannot be compared: it depends on what is summed and weighed. Our losses are logged one by one,
  and `pixel` is the sum over an image of squared differences of light from 0 to 1, a common Keras choice
  under which 90 would be a root mean squared error of 22 grey levels. That error on held-back cells is
  reported.
* Where the text is silent (initial weights, slopes, dropout in the discriminator, learning rates, batch,
  weights of the losses, strides in the decoder) the networks' docstrings say what was chosen.
* The discriminator gives logits, and the loss applies the sigmoid: the same function, without overflow.
* The perceptual network is EfficientNet-Lite0, whose weights need no download; the source's VGG-16 is
  `perceptual_network=vgg16`. As the autoencoders are trained against EfficientNet-Lite0, the numbers come
  from MobileNetV2, and without it nothing is trained.
* Training and measured cells come from different photos; the source divides by cell, if at all.
* Source 001 has 4,049 cells (its table's 813 superficial-intermediate cells should be 831); `cells` says how
  many were there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cytoforge.core.batch import DataShape
from cytoforge.evaluation.features import SECOND_EXTRACTOR, open_extractor
from cytoforge.experiments.contest import (
    PHANTOM,
    Budget,
    Contestant,
    cells_for,
    compete,
    conclude,
    open_cells_of,
)
from cytoforge.experiments.scale import Scale
from cytoforge.methods.catalogue import method_type
from cytoforge.stages.reconstruct import reconstruct


@dataclass(frozen=True)
class SourceNumbers:
    """What source 001 fixes."""

    cells: int = 4049
    photos: int = 966
    classes: int = 5
    resolution: int = 64
    gan_noise: int = 100
    gan_label_embedding: int = 100
    gan_generator_start: tuple[int, int, int] = (8, 8, 256)
    gan_generator_filters: tuple[int, ...] = (256, 128, 64)
    gan_discriminator_units: tuple[int, ...] = (512, 512, 512)
    cvae_latent: int = 64
    cvae_encoder_filters: tuple[int, ...] = (64, 128, 256, 512)
    cvae_dropout: float = 0.3
    cvae_dense: int = 256
    cvae_decoder_start: tuple[int, int, int] = (16, 16, 512)
    cvae_decoder_filters: tuple[int, ...] = (512, 256, 128, 64)
    loss: float = 90.0
    """Of "CGAN, CVAE", not said of what."""


NUMBERS = SourceNumbers()

BUDGETS: dict[Scale, Budget] = {
    "smoke": Budget(resolution=32, images=480, batch=32, drawn=10),
    "full": Budget(resolution=64, images=80_000, batch=32, drawn=100),
}
"""Training of each contestant; 80,000 images are about 25 epochs of SIPaKMeD."""

SOURCES_OWN = {"average_half_life": 1, "symmetry": "", "balanced": False}
"""No moving average, no augmentation, no balance of classes: the source mentions none."""

_COLUMNS = (
    "kid",
    "precision",
    "recall",
    "coverage",
    "class",
    "diversity",
    "nearer_to_train",
    "rmse",
    "seconds",
)


def contestants(scale: Scale) -> dict[str, Contestant]:
    """The source's systems and ours by the name under which they are drawn."""
    narrow = scale == "smoke"
    source = {**SOURCES_OWN, **({"channels": 16} if narrow else {})}
    gan = {"generator_channels": 16, "discriminator_channels": 16, "most_channels": 64} if narrow else {}
    autoencoder = {"channels": 16, "most_channels": 64} if narrow else {}
    return {
        "cgan-dense": Contestant("cgan-dense", source),
        "cgan": Contestant("cgan", gan),
        "cvae-source": Contestant("cvae-source", source),
        "cvae": Contestant("cvae", autoencoder),
    }


def run(data: Path | None, out: Path, scale: Scale, budget: Budget | None = None) -> dict[str, Any]:
    """Train all four, draw cells, losses, reconstructions and interpolations, measure.

    Args:
        data: folder of SIPaKMeD or other labelled cells, or None for simulated ones.
        out: folder for result.json, table.md, cells.png, curves.png and a folder for each system.
        scale: "smoke" takes minutes, "full" hours.
        budget: instead of the scale's.

    Returns:
        What result.json holds.

    Raises:
        ConfigError: MobileNetV2 is not installed.
    """
    budget, extractor = budget or BUDGETS[scale], open_extractor(SECOND_EXTRACTOR)
    folder = cells_for(data, out, *PHANTOM[scale])
    cells = open_cells_of(folder, out, budget, extractor)
    outcomes = {}
    for name, entry in contestants(scale).items():
        outcomes[name] = compete(entry, cells, out / name / "run", budget, extractor)
        if name.startswith("cvae") and outcomes[name].images is not None:
            found = reconstruct(out / name / "run", out / name, checkpoint="newest")
            outcomes[name].numbers["rmse"] = found.error
    return conclude(
        "sipakmed-generators",
        scale,
        out,
        budget,
        cells,
        outcomes,
        _COLUMNS,
        each=3,
        judge=extractor.name,
        source=asdict(NUMBERS),
        parameters=parameters(),
    )


def parameters() -> dict[str, dict[str, int]]:
    """Method -> network -> trainable parameters at the source's size."""
    shape = DataShape(NUMBERS.resolution, tuple("abcde"))
    counts = {}
    for name in contestants("full"):
        kind = method_type(name)
        networks = kind(kind.config_type(), shape).networks
        counts[name] = {
            key: sum(value.numel() for value in net.parameters()) for key, net in networks.items()
        }
    return counts
