"""What goes with a synthetic set: pictures that show it at a glance, and its card."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.core.png import decode_png, encode_png
from cytoforge.core.run import Run
from cytoforge.sampling.card import card
from cytoforge.sampling.conditions import Conditions
from cytoforge.sampling.generator import Generator
from cytoforge.sampling.pictures import labelled_rows, painted_masks, slerp
from cytoforge.sampling.provenance import CARD, CONTACT, INTERPOLATION, Manifest, set_marks

_CONTACT_COLUMNS = 10
_STEPS = 4


def companions(
    generator: Generator, run: Run, out: Path, manifest: Manifest, source: Conditions | None
) -> dict[str, bytes]:
    """Contact sheet, interpolation and card of a set by file name.

    Args:
        generator: that the set was drawn with.
        run: that it was trained in.
        out: folder of the set, whose images are all there.
        manifest: of the set.
        source: what images are drawn from, or None.
    """
    header = manifest.header
    pictures = {
        CONTACT: labelled_rows(first_images(out, manifest)),
        INTERPOLATION: labelled_rows(interpolation(generator, header.truncation, source)),
    }
    contents = {name: encode_png(image, set_marks(header)) for name, image in pictures.items()}
    return {**contents, CARD: card(manifest, run).encode()}


def interpolation(
    generator: Generator, truncation: float = 1.0, source: Conditions | None = None
) -> dict[str, NDArray[np.uint8]]:
    """How images change between three seeds, the same noise in each class.

    Args:
        generator: a trained method.
        truncation: as for `Generator.images`.
        source: what images are drawn from; the first of each class stays the same.

    Returns:
        class -> (9, R, R, 3); images 0, 4 and 8 are those of seeds 0, 1 and 2.
    """
    keys = generator.method.noise(np.arange(3)) * truncation
    shares = torch.linspace(0, 1, _STEPS + 1)
    ways = [slerp(start, end, shares)[:-1] for start, end in pairwise(keys)]
    noise = torch.cat([*ways, keys[-1:]])
    return {
        name: generator.from_noise(
            noise, np.full(len(noise), label), condition=_first(source, name, len(noise))
        )
        for label, name in enumerate(generator.classes)
        if source is None or source.readers[name]
    }


def _first(source: Conditions | None, label: str, count: int) -> Tensor | None:
    return None if source is None else source.of(label, 0).expand(count, -1, -1, -1)


def first_images(out: Path, manifest: Manifest) -> dict[str, NDArray[np.uint8]]:
    """Rows of the contact sheet: the lowest seeds of each class that has some, masks below them.

    Args:
        out: folder of the set, whose images are all there.
        manifest: of the set.

    Returns:
        Words -> (n, R, R, 3), n at most ten.
    """
    rows = {}
    for name in manifest.header.classes:
        entries = sorted(
            (entry for entry in manifest.images if entry.label == name), key=lambda entry: entry.seed
        )
        if entries:
            shown = entries[:_CONTACT_COLUMNS]
            rows[name] = np.stack([decode_png((out / entry.file).read_bytes())[0] for entry in shown])
            masks = [(out / entry.mask).read_bytes() for entry in shown if entry.mask is not None]
            if masks:
                rows[f"masks: {name}"] = painted_masks(
                    np.stack([decode_png(content, "L")[0] for content in masks])
                )
    return rows
