"""Run of a CycleGAN and cells in, translated cells out, with a check of light and dark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.core.batch import to_uint8
from cytoforge.core.checkpoint import Checkpoint, load_checkpoint
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.progress import progress
from cytoforge.core.run import Run
from cytoforge.data.cache import CachedCells, open_cache
from cytoforge.data.folder import open_cells
from cytoforge.data.split import fingerprints
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.polarity import light_correlation, light_spread, nucleus_contrast, swapped_share
from cytoforge.methods.cyclegan import CycleGAN, paint
from cytoforge.sampling.generator import Generator, restored
from cytoforge.sampling.picture_provenance import Origin, PictureFolder
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.stages.paired_names import paired_names

BATCH = 16
SHOWN = 10
LARGEST_SHARE = 0.1
"""More swapped images than this, above what real cells have, and the check fails."""
LEAST_CONTRAST = 0.1
"""Less contrast than this share of that of real cells, and the check fails: hardly anything was painted."""
LEAST_KNOWN = 0.5
"""Where fewer images than this share tell light from dark, the check fails: it would judge the few others."""


@dataclass(frozen=True)
class Translated:
    """What `translate` did and found.

    Attributes:
        images: how many were written.
        measure: "contrast of nucleus" where masks are the source, else "correlation of light".
        median: median of the measure; negative where light and dark were exchanged, None where no image
            tells.
        swapped: share of images with a negative measure, of those that tell.
        swapped_real: the same share among real cells and their own masks; None between photographs.
        contrast: median contrast as a share of that of real cells: of the nucleus where masks are the source,
            else the spread of light over an image beside that of its source. None where real cells have none.
        failed: whether light and dark were exchanged more often than real cells explain, or the check cannot
            tell: hardly any contrast, or too few images that tell.
        reason: why it failed, None where it did not.
    """

    images: int
    measure: str
    median: float | None
    swapped: float | None
    swapped_real: float | None
    contrast: float | None
    failed: bool
    reason: str | None


def translate(
    run: Path,
    data: Path,
    out: Path,
    *,
    to: str | None = None,
    layout: str = "auto",
    checkpoint: str = "newest",
    device: str = "cpu",
) -> Translated:
    """Write `<class>/<file>.png` for each translated cell, translations.png, translate.json and a manifest.

    Where masks are the run's source, those of all cells are translated, and each keeps its class. Else the
    cells of the other side than `to` are translated, and `to` is their class.

    Args:
        run: folder of a training of cyclegan.
        data: folder of cells.
        out: folder for the files: new, empty, or of the same translator.
        to: class to translate into; the first that is not the run's source where not given. Not for masks.
        layout: how `data` is laid out.
        checkpoint: "best" or "newest".
        device: "cpu" or "cuda".

    Raises:
        CheckpointError: there is no usable checkpoint.
        ConfigError: the run is not a CycleGAN's, or has no such class; `out` holds something else.
        DataError: the cells cannot be read, have no masks where masks are the source, or none is left to be
            translated.
    """
    opened = Run.open(run)
    loaded = load_checkpoint(opened.checkpoints, checkpoint)
    generator = restored(opened, loaded, device)
    method = generator.method
    if not isinstance(method, CycleGAN):
        raise ConfigError(f"{method.name} does not translate images; train cyclegan.")
    target = _target(method, generator.classes, to)
    given = open_cells(data, layout)
    cells = open_cache(given, Preparation.model_validate(opened.config["preparation"]))
    if method.source is None:
        cells = cells.with_masks()
        written = given.select(cells.names).cells
    else:
        cells = _foreign(cells, method.source, generator.classes, target)
        kept = given.select(cells.names).cells
        written = tuple(replace(cell, label=generator.classes[target]) for cell in kept)
    folder = PictureFolder(out, _origin(opened, loaded, method, generator.classes[target], device))
    starts, made = _translated(generator, cells, target)
    contents = fingerprints(given.select(cells.names))
    for file, cell, name, image in zip(paired_names(written), written, cells.names, made, strict=True):
        folder.draw(f"{file}.png", image, {"Class": cell.label, "Source-SHA256": contents[name]})
    found = _checked(cells, starts, made, masks=method.source is None)
    picture = labelled_rows(_rows(cells, starts, made), "above the source, below its translation")
    folder.draw("translations.png", picture)
    folder.add_json("translate.json", vars(found))
    folder.seal()
    return found


def _origin(run: Run, loaded: Checkpoint, method: CycleGAN, target: str, device: str) -> Origin:
    drawn_from = "masks of real cells" if method.source is None else "real cells, one by one"
    marks = {
        "Generator": method.name,
        "Config-SHA256": run.config_hash,
        "Checkpoint-SHA256": loaded.sha256,
        "Drawn-From": drawn_from,
    }
    into = None if method.source is None else target
    return Origin(command="translate", marks=marks, facts={"into": into}, device=device)


def _target(method: CycleGAN, classes: tuple[str, ...], to: str | None) -> int:
    if to is not None and method.source is None:
        raise ConfigError("--to: masks become cells of their own class; leave it out.")
    if to is None:
        return next(label for label in range(len(classes)) if label != method.source)
    if to not in classes:
        raise ConfigError(f"--to: the run has no class {to!r}; it has {', '.join(classes)}.")
    return classes.index(to)


def _foreign(cells: CachedCells, source: int, classes: tuple[str, ...], target: int) -> CachedCells:
    """The cells on the other side than the target's; those on its own side are what they should become."""
    wanted = [name for label, name in enumerate(classes) if (label == source) != (target == source)]
    labels = [cells.shape.classes[label] for label in cells.labels]
    names = [name for name, label in zip(cells.names, labels, strict=True) if label in wanted]
    if not names:
        raise DataError(
            f"there is nothing to translate into {classes[target]!r}: expected cells of class "
            f"{' or '.join(map(repr, wanted))}, found {', '.join(map(repr, cells.shape.classes))}."
        )
    return cells.select(names)


def _translated(
    generator: Generator, cells: CachedCells, target: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What was translated, as pictures, and the translations, both (N, R, R, 3)."""
    method, starts, made = generator.method, [], []
    with torch.inference_mode(), progress("cells", len(cells)) as advance:
        for part in np.array_split(np.arange(len(cells)), -(-len(cells) // BATCH)):
            batch = cells.batch(part, part)
            condition = method.condition(batch)
            assert condition is not None
            starts.append(to_uint8(paint(condition) if condition.shape[1] == 2 else condition))
            labels = torch.full((len(part),), target, device=generator.device)
            noise = method.noise(part).to(generator.device)
            made.append(to_uint8(method.sample(noise, labels, condition.to(generator.device))))
            advance(len(part))
    return np.concatenate(starts), np.concatenate(made)


def _checked(
    cells: CachedCells, starts: NDArray[np.uint8], made: NDArray[np.uint8], masks: bool
) -> Translated:
    if masks:
        levels = np.asarray(cells.masks)
        signs, real = (nucleus_contrast(images, levels) for images in (made, cells.images))
        swapped_real = _known(swapped_share(real))
        contrast = _ratio(signs, real)
    else:
        signs, swapped_real = light_correlation(starts, made), None
        contrast = _ratio(light_spread(made), light_spread(starts))
    known = signs[~np.isnan(signs)]
    swapped = _known(swapped_share(signs))
    reason = None
    if contrast is not None and contrast < LEAST_CONTRAST:
        reason = f"the contrast collapsed to {contrast:.1%} of that of real cells"
    elif swapped is None or len(known) < LEAST_KNOWN * len(signs):
        reason = f"only {len(known)} of {len(signs)} images tell light from dark"
    elif swapped > LARGEST_SHARE + (swapped_real or 0.0):
        reason = "light and dark were exchanged in too many images"
    return Translated(
        images=len(made),
        measure="contrast of nucleus" if masks else "correlation of light",
        median=float(np.median(known)) if len(known) else None,
        swapped=swapped,
        swapped_real=swapped_real,
        contrast=contrast,
        failed=reason is not None,
        reason=reason,
    )


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number


def _ratio(made: NDArray[np.float64], real: NDArray[np.float64]) -> float | None:
    """Median size of the known numbers as a share of that of real cells; None without any to compare."""
    sides = [np.abs(values[~np.isnan(values)]) for values in (made, real)]
    if not all(map(len, sides)) or not np.median(sides[1]):
        return None
    return float(np.median(sides[0]) / np.median(sides[1]))


def _rows(
    cells: CachedCells, starts: NDArray[np.uint8], made: NDArray[np.uint8]
) -> dict[str, NDArray[np.uint8]]:
    rows = {}
    for label, name in enumerate(cells.shape.classes):
        own = np.flatnonzero(cells.labels == label)[:SHOWN]
        if len(own):
            rows[name], rows[f"{name} →"] = starts[own], made[own]
    return rows
