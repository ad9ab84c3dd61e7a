"""Which file shows which cell, and the faults that are planted among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cytoforge.core.errors import ConfigError
from cytoforge.core.randomness import derive
from cytoforge.data.phantom.anatomy import CLASSES, Anatomy
from cytoforge.data.phantom.simulate import anatomy, open_photo

# What each planted fault is, in the words of truth.json.
FAULTS: dict[str, str] = {
    "duplicate": "the same file twice, in two photos",
    "flipped": "a mirrored or turned copy of another crop",
    "recoloured": "a copy of another crop with other colours and brightness",
    "recurring": "the same cell again in an overlapping photo: other light, focus and crop",
    "blurred": "far out of focus",
    "overexposed": "washed out by too much light",
    "mislabelled": "a cell of another, clearly different class in this class's folder",
    "truncated": "a file that ends in the middle",
    "wrong_stain": "a stain that does not belong to the set",
    "leak": "one photo's cells on both sides of the published split",
}
COPIES = ("duplicate", "flipped", "recoloured", "recurring")
SINGLE = ("blurred", "overexposed", "mislabelled", "truncated", "wrong_stain")
PHOTOS_PER_SLIDE = 2
_CANDIDATES = 40
"""Cells of which the one that is least like its wrong folder is planted there."""

# Classes that differ by degree: single cells between them are labelled both ways by experts, so a wrong label
# is planted between others only, and shows in the ratio of nucleus to cell. Parabasal cells mature into
# metaplastic ones; a koilocyte is an intermediate or metaplastic cell with a halo, a dyskeratotic cell often
# one that keratinises.
_ALIKE = (
    {"Parabasal", "Metaplastic"},
    {"Koilocytotic", "Superficial-Intermediate"},
    {"Koilocytotic", "Metaplastic"},
    {"Koilocytotic", "Dyskeratotic"},
)


@dataclass(frozen=True)
class Slot:
    """One file of a phantom folder.

    Attributes:
        folder: class whose folder it lies in.
        photo: number of the photo, from 1.
        number: of the cell in the photo, from 1.
        label: what the cell truly is.
        cell_seed: which cell it is.
        photo_seed: which photo shows it.
        slide_seed: which slide the photo is of.
        fault: planted fault, or None.
        source: for a copy, the slot it is a copy of.
        part: of the published split, or None where there is none.
    """

    folder: str
    photo: int
    number: int
    label: str
    cell_seed: int
    photo_seed: int
    slide_seed: int
    fault: str | None = None
    source: Slot | None = None
    part: str | None = None

    @property
    def group(self) -> str:
        """Class and photo, the unit that no split may cut."""
        return f"{self.folder}/{self.photo:03d}"

    @property
    def name(self) -> str:
        """Path below `images` and below `masks`."""
        return f"{self.group}_{self.number:02d}.png"

    @property
    def slide(self) -> int:
        """Number of the slide within the class, from 0."""
        return (self.photo - 1) // PHOTOS_PER_SLIDE


def plan(per_class: int, seed: int, faults: Iterable[str]) -> tuple[Slot, ...]:
    """All files of a phantom folder, in the order of their names.

    Each fault is planted once in every hundred cells of each class, at least once. Copies lie in two photos
    of one slide, as they do where fields of view overlap.

    Args:
        per_class: files in each class.
        seed: of the whole folder.
        faults: keys of `FAULTS`.

    Raises:
        ConfigError: a fault is unknown, or the classes are too small to hold the faults.
    """
    wanted = tuple(dict.fromkeys(faults))
    _check_faults(per_class, wanted)
    slots: list[Slot] = []
    for label in CLASSES:
        ours = _clean(label, per_class, seed)
        slots += _with_faults(ours, wanted, np.random.default_rng(derive(seed, label, "faults")))
    return tuple(slots)


def _check_faults(per_class: int, faults: Sequence[str]) -> None:
    if per_class < 1:
        raise ConfigError(f"a phantom needs at least one cell in each class, got {per_class}.")
    for fault in faults:
        if fault not in FAULTS:
            raise ConfigError(f"there is no fault {fault!r} to plant; choose from {', '.join(FAULTS)}.")
    if faults and per_class < 30:
        raise ConfigError(f"faults need 30 cells in each class or more to hide among, got {per_class}.")


def _clean(label: str, count: int, seed: int) -> list[Slot]:
    """Photos of three to six cells."""
    rng = np.random.default_rng(derive(seed, label, "photos"))
    slots: list[Slot] = []
    photo = 0
    while len(slots) < count:
        photo += 1
        photo_seed = derive(seed, label, "photo", photo)
        slide_seed = derive(seed, label, "slide", (photo - 1) // PHOTOS_PER_SLIDE)
        for number in range(1, min(int(rng.integers(3, 7)), count - len(slots)) + 1):
            cell_seed = derive(seed, label, "cell", len(slots))
            slots.append(Slot(label, photo, number, label, cell_seed, photo_seed, slide_seed))
    return slots


def _with_faults(slots: list[Slot], faults: Sequence[str], rng: np.random.Generator) -> list[Slot]:
    each = max(1, len(slots) // 100)
    if "leak" in faults:
        slots = _published_split(slots, each, rng)
    free = {slot.name: slot for slot in slots if slot.fault is None}
    planted: dict[str, Slot] = {}
    for fault in [name for name in COPIES if name in faults] * each:
        kept, replaced = _two_of_one_slide(list(free.values()), rng)
        planted[replaced.name] = replace(replaced, fault=fault, source=kept, label=kept.label)
        del free[kept.name], free[replaced.name]
    for fault in [name for name in SINGLE if name in faults] * each:
        slot = free.pop(_any(sorted(free), rng))
        planted[slot.name] = _spoiled(slot, fault, rng)
    return [planted.get(slot.name, slot) for slot in slots]


def _spoiled(slot: Slot, fault: str, rng: np.random.Generator) -> Slot:
    if fault != "mislabelled":
        return replace(slot, fault=fault)
    label = _any([name for name in CLASSES if name != slot.folder and {name, slot.folder} not in _ALIKE], rng)
    # A file that slipped into the wrong folder: it comes from a photo of its own class.
    seed = derive(slot.photo_seed, "elsewhere")
    cell_seed = _unlike(slot.folder, label, slot.cell_seed, seed)
    return replace(slot, fault=fault, label=label, cell_seed=cell_seed, photo_seed=seed, slide_seed=seed)


def _unlike(folder: str, label: str, seed: int, photo_seed: int) -> int:
    """Seed of a cell of class `label` whose ratio of nucleus to cell is far from that of class `folder`."""
    photo = open_photo(label, photo_seed, photo_seed)
    seeds = [derive(seed, "candidate", number) for number in range(_CANDIDATES)]
    usual = float(np.median([_log_ratio(anatomy(folder, each, photo)) for each in seeds]))
    return max(seeds, key=lambda each: abs(_log_ratio(anatomy(label, each, photo)) - usual))


def _log_ratio(cell: Anatomy) -> float:
    return float(np.log(cell.nucleus_area / cell.cell_area))


def _two_of_one_slide(free: list[Slot], rng: np.random.Generator) -> tuple[Slot, Slot]:
    """Two free slots in different photos of one slide."""
    first = [slot for slot in free if any(_overlap(slot, other) for other in free)]
    if not first:
        raise ConfigError(
            "the classes are too small to hold all these faults; ask for more cells in each class."
        )
    kept = first[int(rng.integers(len(first)))]
    others = [slot for slot in free if _overlap(kept, slot)]
    return kept, others[int(rng.integers(len(others)))]


def _overlap(one: Slot, other: Slot) -> bool:
    return one.slide == other.slide and one.photo != other.photo and one.part == other.part


def _published_split(slots: list[Slot], leaks: int, rng: np.random.Generator) -> list[Slot]:
    """Slides dealt to train, val and test; then `leaks` photos lend every second cell to another part."""
    slides = sorted({slot.slide for slot in slots})
    order = [slides[int(index)] for index in rng.permutation(len(slides))]
    test, val = max(1, round(0.2 * len(slides))), max(1, round(0.1 * len(slides)))
    parts = {
        slide: "test" if rank < test else "val" if rank < test + val else "train"
        for rank, slide in enumerate(order)
    }
    dealt = [replace(slot, part=parts[slot.slide]) for slot in slots]
    full = sorted({slot.photo for slot in dealt if slot.number == 3})
    leaking = {full[int(index)] for index in rng.permutation(len(full))[:leaks]}
    return [_leaked(slot) if slot.photo in leaking else slot for slot in dealt]


def _leaked(slot: Slot) -> Slot:
    other = "test" if slot.part == "train" else "train"
    return replace(slot, fault="leak", part=other if slot.number % 2 else slot.part)


def _any(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]
