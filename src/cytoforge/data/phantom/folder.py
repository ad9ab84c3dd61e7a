"""A folder of simulated cells with masks and the whole truth about them."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from cytoforge.core.errors import DataError
from cytoforge.core.files import read_json
from cytoforge.core.progress import progress
from cytoforge.core.randomness import derive
from cytoforge.data.phantom.anatomy import CLASSES, draw
from cytoforge.data.phantom.faults import FAULTS, Slot, plan
from cytoforge.data.phantom.optics import Photo, defocus, foreign_stain, overexpose
from cytoforge.data.phantom.simulate import PhantomCell, View, check_request, open_photo, render

KIND = "cytoforge phantom"
GROUP = r"^images/([^/]+/\d+)_\d+\.png$"
_ALONE = 150
_LOST = 0.65
"""Share of the values of an overexposed crop that are white."""

Written = tuple[bytes, bytes, dict[str, float]]


def write_phantom(
    out: Path,
    per_class: int = 200,
    size: int | None = 96,
    seed: int = 0,
    faults: Sequence[str] = (),
    jobs: int | None = None,
) -> dict[str, Any]:
    """Write images/<class>/<photo>_<cell>.png, masks/<class>/... and truth.json.

    The folder appears when it is complete. A phantom that is already there with the same settings is left as
    it is; one with other settings is replaced.

    Args:
        out: folder to write; missing, empty or an older phantom.
        per_class: cells in each of the five classes.
        size: pixels along a side; None for crops of native size, which differs by class as in SIPaKMeD.
        seed: the same seed gives the same folder.
        faults: keys of `FAULTS` to plant; "leak" adds metadata.csv with a published split.
        jobs: processes; as many as the machine has where None.

    Returns:
        What truth.json holds.

    Raises:
        ConfigError: size, number or faults cannot be had.
        DataError: `out` holds something else, or cannot be written.
    """
    check_request(CLASSES[0], size or 96)
    slots = plan(per_class, seed, faults)
    settings = {"per_class": per_class, "size": size, "seed": seed, "faults": list(dict.fromkeys(faults))}
    present = _present(out)
    if present is not None and present.get("settings") == settings and present["generator"] == _generator():
        return present
    partial = out.parent / f".{out.name}.phantom-partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        truth = _write(partial, slots, size, settings, jobs)
        _move(partial, out)
    except OSError as error:
        raise DataError(_unwritable(out, error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return truth


def _generator() -> str:
    return f"cytoforge {version('cytoforge')} phantom"


def _present(out: Path) -> dict[str, Any] | None:
    """The truth of the phantom that `out` holds, or None where `out` is missing or empty."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; a phantom needs a folder. Choose another name.")
    if not out.exists() or not any(out.iterdir()):
        return None
    truth = read_json(out / "truth.json") if (out / "truth.json").is_file() else None
    if not isinstance(truth, dict) or truth.get("kind") != KIND:
        raise DataError(
            f"{out} is not empty and holds no phantom, so nothing was written. Choose a new folder, "
            "or move away what is in it."
        )
    return truth


def _write(
    folder: Path, slots: Sequence[Slot], size: int | None, settings: dict[str, Any], jobs: int | None
) -> dict[str, Any]:
    for kind in ("images", "masks"):
        for label in CLASSES:
            (folder / kind / label).mkdir(parents=True)
    cells = []
    with progress("simulating cells", len(slots)) as advance:
        for slot, (image, mask, measurements) in zip(slots, _drawn(slots, size, jobs), strict=True):
            (folder / "images" / slot.name).write_bytes(image)
            (folder / "masks" / slot.name).write_bytes(mask)
            cells.append(_row(slot, measurements))
            advance(1)
    truth = {
        "format": 1,
        "kind": KIND,
        "generator": _generator(),
        "synthetic": True,
        "settings": settings,
        "classes": list(CLASSES),
        "layout": "paired",
        "group": GROUP,
        "mask_values": {"0": "background", "1": "cytoplasm", "2": "nucleus"},
        "faults": _planted(slots, settings["faults"]),
        "cells": cells,
    }
    if "leak" in settings["faults"]:
        (folder / "metadata.csv").write_text(_metadata(slots), encoding="utf-8")
    (folder / "truth.json").write_text(json.dumps(truth, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return truth


def _drawn(slots: Sequence[Slot], size: int | None, jobs: int | None) -> Iterator[Written]:
    """The files of each slot, in order; several processes where that pays."""
    workers = 1 if len(slots) < _ALONE else jobs or os.cpu_count() or 1
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator", batch_size=8)
    drawn: Iterator[Written] = parallel(joblib.delayed(_files)(slot, size) for slot in slots)
    return drawn


def _files(slot: Slot, size: int | None) -> Written:
    cell = _photographed(slot, size)
    image, mask = _png(cell.image), _png(cell.mask)
    if slot.fault == "truncated":
        image = image[: int(len(image) * draw(_rng(slot), (0.3, 0.7)))]
    return image, mask, cell.measurements


def _photographed(slot: Slot, size: int | None) -> PhantomCell:
    rng = _rng(slot)
    if slot.source is not None and slot.fault != "recurring":
        return _copied(_photographed(slot.source, size), slot.fault, rng)
    photo = _spoiled(open_photo(slot.label, slot.slide_seed, slot.photo_seed), slot.fault, rng)
    if slot.fault == "overexposed":
        return _washed_out(slot, photo, draw(rng, (1.7, 2.4)), size)
    if slot.source is None:
        return render(slot.label, slot.cell_seed, photo, slot.photo_seed, size)
    across, down = rng.uniform(0.02, 0.08, 2) * rng.choice([-1, 1], 2)
    view = View(
        shift=(float(across), float(down)),
        turn=float(rng.normal(0, 0.04)),
        zoom=draw(rng, (0.93, 1.12)),
        defocus=draw(rng, (0.0, 0.3)),
    )
    return render(slot.label, slot.source.cell_seed, photo, slot.photo_seed, size, view)


def _spoiled(photo: Photo, fault: str | None, rng: np.random.Generator) -> Photo:
    if fault == "blurred":
        return defocus(photo, draw(rng, (0.045, 0.07)))
    if fault == "wrong_stain":
        return foreign_stain(photo, rng)
    return photo


def _washed_out(slot: Slot, photo: Photo, white: float, size: int | None) -> PhantomCell:
    """The empty slide is `white` times as bright as white, or more until `_LOST` of the crop is white."""
    while True:
        cell = render(slot.label, slot.cell_seed, overexpose(photo, white), slot.photo_seed, size)
        if (cell.image >= 254).mean() >= _LOST:
            return cell
        white *= 1.1


def _copied(cell: PhantomCell, fault: str | None, rng: np.random.Generator) -> PhantomCell:
    image, mask = cell.image, cell.mask
    if fault == "flipped":
        turns, mirror = divmod(int(rng.integers(1, 8)), 2)
        image, mask = (np.rot90(part[:, ::-1] if mirror else part, turns) for part in (image, mask))
    if fault == "recoloured":
        image = _recoloured(image, rng)
    return PhantomCell(
        np.ascontiguousarray(image), np.ascontiguousarray(mask), cell.label, cell.photo, cell.measurements
    )


def _recoloured(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Other white balance, saturation and tone curve, as another export of the same file gives."""
    levels = (image.astype(np.float64) / 255) ** np.exp(rng.choice([-1, 1]) * draw(rng, (0.1, 0.3)))
    levels = levels * np.exp(rng.normal(0, 0.1, 3))
    grey = levels.mean(2, keepdims=True)
    levels = grey + (levels - grey) * draw(rng, (0.6, 1.4))
    recoloured: NDArray[np.uint8] = np.clip(levels * 255 + 0.5, 0, 255).astype(np.uint8)
    return recoloured


def _rng(slot: Slot) -> np.random.Generator:
    return np.random.default_rng(derive(slot.cell_seed, "slot", slot.fault or ""))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    marks = PngImagePlugin.PngInfo()
    marks.add_text("Synthetic", "true")
    marks.add_text("Generator", _generator())
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=marks)
    return buffer.getvalue()


def _row(slot: Slot, measurements: dict[str, float]) -> dict[str, Any]:
    seen = slot.source if slot.source is not None else slot
    return {
        "file": f"images/{slot.name}",
        "mask": f"masks/{slot.name}",
        "class": slot.folder,
        "true_class": slot.label,
        "photo": slot.group,
        "slide": f"{slot.folder}/{slot.slide}",
        "cell": f"{seen.cell_seed:016x}",
        "split": slot.part,
        "fault": slot.fault,
        **measurements,
    }


def _planted(slots: Sequence[Slot], faults: Sequence[str]) -> dict[str, Any]:
    """For each fault what it is and where: for copies first the original, then the copy."""
    planted: dict[str, Any] = {}
    for fault in faults:
        ours = [slot for slot in slots if slot.fault == fault]
        planted[fault] = {"meaning": FAULTS[fault], "found_in": _places(ours)}
    return planted


def _places(slots: Sequence[Slot]) -> list[dict[str, Any]]:
    if slots and slots[0].fault == "leak":
        groups = sorted({slot.group for slot in slots})
        return [
            {"photo": group, "files": _paths(slot for slot in slots if slot.group == group)}
            for group in groups
        ]
    return [
        {"files": _paths((slot,) if slot.source is None else (slot.source, slot)), "true_class": slot.label}
        for slot in slots
    ]


def _paths(slots: Any) -> list[str]:
    return [f"images/{slot.name}" for slot in slots]


def _metadata(slots: Sequence[Slot]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("file_name", "label", "group", "split", "mask"))
    for slot in slots:
        rows.writerow((f"images/{slot.name}", slot.folder, slot.group, slot.part, f"masks/{slot.name}"))
    return text.getvalue()


def _move(partial: Path, out: Path) -> None:
    """Put the finished folder in place; of an older phantom only its own files go."""
    if not out.exists():
        partial.rename(out)
        return
    for name in ("images", "masks"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "metadata.csv").unlink(missing_ok=True)
    for name in ("images", "masks", "metadata.csv", "truth.json"):
        if (partial / name).exists():
            (partial / name).replace(out / name)


def _unwritable(out: Path, error: OSError) -> str:
    cause = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
    return (
        f"the phantom cannot be written to {out}: {cause}. "
        "Free some space or choose a folder that you may write."
    )
