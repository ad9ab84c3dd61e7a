"""One `.npz` archive in the layout of MedMNIST.

`train_images` (N, R, R, 3) and `train_labels` (N, 1) hold the set; `val_` and `test_` are there and empty: a
synthetic image belongs into no test set. Besides, `class_names`, `seeds`, `synthetic` and `origin` (JSON).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import write_atomic
from cytoforge.core.png import encode_png
from cytoforge.core.progress import progress
from cytoforge.exports.cards import data_card
from cytoforge.exports.synthetic_set import SyntheticSet, copy_origin, first_of_each
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.sampling.provenance import set_marks

FLAG = "cytoforge"
_MOST_CLASSES = 256


def archive_name(resolution: int) -> str:
    """As the package `medmnist` looks for it: the size is left out where it is MNIST's.

    Example:
        >>> archive_name(64), archive_name(28)
        ('cytoforge_64.npz', 'cytoforge.npz')
    """
    return f"{FLAG}.npz" if resolution == 28 else f"{FLAG}_{resolution}.npz"


def write_medmnist(opened: SyntheticSet, out: Path) -> list[Path]:
    """Write the archive, a picture of what it holds and the card.

    Raises:
        ConfigError: there are more classes than a label of MedMNIST can number.
    """
    classes = opened.header.classes
    if len(classes) > _MOST_CLASSES:
        raise ConfigError(f"MedMNIST numbers at most {_MOST_CLASSES} classes, the set has {len(classes)}.")
    images = _pixels(opened)
    index = {name: label for label, name in enumerate(classes)}
    labels = np.array([[index[entry.label]] for entry in opened.images], np.uint8)
    arrays: dict[str, Any] = {
        "train_images": images,
        "train_labels": labels,
        **{f"{part}_images": images[:0] for part in ("val", "test")},
        **{f"{part}_labels": labels[:0] for part in ("val", "test")},
        "seeds": np.array([entry.seed for entry in opened.images], np.int64),
        "class_names": np.array(classes),
        "synthetic": np.array(True),
        "origin": np.array(json.dumps(opened.facts())),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, allow_pickle=False)
    path = out / archive_name(opened.resolution)
    write_atomic(path, buffer.getvalue())
    write_atomic(out / "contents.png", encode_png(_picture(path), set_marks(opened.header)))
    write_atomic(out / "README.md", data_card(opened))
    copy_origin(opened, out)
    return [path, out / "README.md"]


def _pixels(opened: SyntheticSet) -> NDArray[np.uint8]:
    side = opened.resolution
    images = np.empty((len(opened.images), side, side, 3), np.uint8)
    with progress("images", len(images)) as advance:
        for row, entry in enumerate(opened.images):
            images[row] = opened.pixels(entry)
            advance(1)
    return images


def _picture(path: Path) -> NDArray[np.uint8]:
    """The first images of each class, as they are read from the archive."""
    with np.load(path, allow_pickle=False) as archive:
        names, labels, images = archive["class_names"], archive["train_labels"][:, 0], archive["train_images"]
    shown = {str(name): list(images[labels == label]) for label, name in enumerate(names)}
    return labelled_rows(first_of_each(shown))
