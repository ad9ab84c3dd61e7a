"""Every synthetic image says that it is one, who made it and how to make it again.

```
set/manifest.jsonl                 a header, one line for each file, a seal over all lines before it
    CARD.md                        the same for people
    contact.png interpolation.png
    <class>/<class>_<seed>.png     with marks as PNG text
    masks/<class>/<class>_<seed>.png   where images are drawn from masks: 0 background, 1 cytoplasm, 2 nucleus
```

Marks and hashes find damage, mix-ups and forgotten files. They are no signature: who wants to forge can.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError

from cytoforge.core.errors import DataError
from cytoforge.core.files import sha256_bytes
from cytoforge.core.png import PIXELS, decode_png, pixel_hash
from cytoforge.core.record import Record
from cytoforge.sampling.sealed import MANIFEST, RESTORE, read_sealed, write_sealed

CARD = "CARD.md"
CONTACT = "contact.png"
INTERPOLATION = "interpolation.png"

_MOST_BYTES = 64 * 1024 * 1024
_FOLDER_BYTES = 60
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
_TAKEN = {"masks", MANIFEST, CARD.lower(), CONTACT, INTERPOLATION}


class Header(Record):
    """Who made a set: everything that decides the pixels besides class and seed.

    Attributes:
        generator: name and version of this program.
        method: word of the method.
        config_sha256: hash of the run's configuration.
        checkpoint: "best" or "newest", as asked for.
        checkpoint_sha256: hash of its tensors.
        seen: real images that had been shown in training.
        truncation: factor on the noise's length, 1 for none.
        preparation: how real images were prepared for training.
        classes: names as in the data set; a label is an index into them.
        folders: class -> folder name.
        run: path of the run folder, relative to the set, see `place_of`.
        split_sha256: hash of the run's split.json, None where it has none.
        versions: package -> version.
        threads: of the processor; other counts may change last bits.
        device: kind of processor, "cpu" or "cuda".
        masks_sha256: hash of the masks that were given to draw from, None where there were none.
        edges_sha256: hash of the images whose edges were, likewise.
    """

    format: Literal[1] = 1
    kind: Literal["header"] = "header"
    synthetic: Literal[True] = True
    generator: str = f"cytoforge {version('cytoforge')}"
    method: str
    config_sha256: str
    checkpoint: str
    checkpoint_sha256: str
    seen: int
    truncation: float
    preparation: dict[str, Any]
    classes: tuple[str, ...]
    folders: dict[str, str]
    run: str
    split_sha256: str | None
    versions: dict[str, str]
    threads: int
    device: str = "cpu"
    masks_sha256: str | None = None
    edges_sha256: str | None = None


class Entry(Record):
    """One synthetic image.

    Attributes:
        file: path inside the set, with forward slashes.
        label: name of its class; `class` in the file.
        seed: what its noise is drawn from.
        truncation: as in the header.
        sha256: hash of the file, None while it is planned and not made yet.
        mask: path of the mask that it was drawn from, None where there is none.
        mask_sha256: hash of that file.
    """

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["image"] = "image"
    file: str
    label: str = Field(alias="class")
    seed: int
    truncation: float
    sha256: str | None
    mask: str | None = None
    mask_sha256: str | None = None


class Companion(Record):
    """A file of the set that is not one of its images: the card, the contact sheet, the interpolation."""

    kind: Literal["companion"] = "companion"
    file: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a set says about itself."""

    header: Header
    images: tuple[Entry, ...]
    companions: tuple[Companion, ...] = ()

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each image (N,), as its place among the header's classes."""
        places = {name: place for place, name in enumerate(self.header.classes)}
        return np.array([places[entry.label] for entry in self.images], np.int64)


@dataclass(frozen=True)
class Problem:
    """Something about a set that is not as its manifest says.

    Attributes:
        file: path inside the set.
        reason: what is wrong.
    """

    file: str
    reason: str


def class_folders(classes: Sequence[str]) -> dict[str, str]:
    """A folder name for each class that every file system takes, different for different classes.

    Letters, digits, spaces and `-_.` stay; of other characters, `%` and the bytes in hexadecimal are written.
    Names that would be too long, reserved or equal to another but for case get a piece of their hash.

    Args:
        classes: different names.

    Example:
        >>> class_folders(["Koilocytotic", "a/b", "A/B", "con"])
        {'Koilocytotic': 'Koilocytotic', 'a/b': 'a%2Fb', 'A/B': 'A%2FB~998d3ed8', 'con': 'con~1143da2b'}
    """
    folders: dict[str, str] = {}
    taken = set(_TAKEN)
    for name in classes:
        folder = _spelled(name)
        if len(folder.encode()) > _FOLDER_BYTES or folder.casefold() in taken or _reserved(folder):
            cut = folder.encode()[: _FOLDER_BYTES - 9].decode(errors="ignore")
            folder = f"{cut}~{sha256_bytes(name.encode())[:8]}"
        taken.add(folder.casefold())
        folders[name] = folder
    return folders


def image_file(folders: Mapping[str, str], label: str, seed: int) -> str:
    """Path of an image inside its set.

    Example:
        >>> image_file({"Parabasal": "Parabasal"}, "Parabasal", 7)
        'Parabasal/Parabasal_00000007.png'
    """
    return f"{folders[label]}/{folders[label]}_{seed:08d}.png"


def mask_file(file: str) -> str:
    """Path of an image's mask inside its set.

    Example:
        >>> mask_file("Parabasal/Parabasal_00000007.png")
        'masks/Parabasal/Parabasal_00000007.png'
    """
    return f"masks/{file}"


def place_of(run: Path, folder: Path) -> str:
    """Path of a run relative to a set, so that both can be moved together; exports tell its last part only.

    Example:
        >>> place_of(Path("/data/runs/first"), Path("/data/sets/first"))
        '../../runs/first'
    """
    try:
        return Path(os.path.relpath(run.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return run.resolve().as_posix()


def image_marks(header: Header, label: str, seed: int) -> dict[str, str]:
    """PNG text of one image, besides the hash of its pixels."""
    return {**set_marks(header), "Class": label, "Seed": str(seed)}


def mask_marks(header: Header, label: str, seed: int) -> dict[str, str]:
    """PNG text of the mask of one image, besides the hash of its pixels."""
    return {**image_marks(header, label, seed), "Content": "mask: 0 background, 1 cytoplasm, 2 nucleus"}


def set_marks(header: Header) -> dict[str, str]:
    """PNG text of every picture in a set."""
    return {
        "Synthetic": "true",
        "Generator": header.method,
        "Config-SHA256": header.config_sha256,
        "Checkpoint-SHA256": header.checkpoint_sha256,
        "Truncation": repr(header.truncation),
        "Software": header.generator,
    }


def write_manifest(folder: Path, manifest: Manifest, name: str = MANIFEST) -> None:
    """Write the manifest, images sorted by class and seed, sealed by the hash of all lines.

    Raises:
        DataError: the folder cannot be written.
    """
    position = {name: index for index, name in enumerate(manifest.header.classes)}
    images = sorted(manifest.images, key=lambda entry: (position[entry.label], entry.seed))
    records: list[Header | Entry | Companion] = [
        manifest.header,
        *images,
        *sorted(manifest.companions, key=lambda companion: companion.file),
    ]
    write_sealed(folder / name, map(_fields, records))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a synthetic set.

    Raises:
        DataError: there is none, it was changed, or it cannot be understood.
    """
    records = read_sealed(folder)
    if any(record.get("kind") == "origin" for record in records[:1]):
        raise DataError(
            f"{folder} holds translated or drawn pictures, not a set of classes and seeds; give the --out "
            "folder of `cytoforge generate`."
        )
    try:
        header = Header.model_validate(records[0])
        images, companions = [], []
        for record in records[1:]:
            if record["kind"] == "image":
                images.append(Entry.model_validate(record))
            else:
                companions.append(Companion.model_validate(record))
    except (ValidationError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{folder / MANIFEST} is not a manifest that this version understands: {error}. {RESTORE}"
        ) from error
    return Manifest(header, tuple(images), tuple(companions))


def verify(folder: Path) -> list[Problem]:
    """Everything that differs between a set and its manifest, in both directions; empty where all is well.

    Every image must be where its class and seed put it, carry all marks, and have the bytes that the manifest
    states; no file may be there that the manifest does not name.

    Args:
        folder: a synthetic set.

    Raises:
        DataError: `folder` is no folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give the --out folder of `cytoforge generate`.")
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return [Problem(MANIFEST, str(error))]
    return [
        *_image_problems(folder, manifest),
        *_companion_problems(folder, manifest),
        *extra_files(folder, _named(manifest)),
    ]


def _image_problems(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    header, named = manifest.header, set()
    for entry in manifest.images:
        if entry.file in named:
            yield Problem(entry.file, "the manifest names it twice")
        named.add(entry.file)
        if entry.label not in header.folders or entry.file != image_file(
            header.folders, entry.label, entry.seed
        ):
            yield Problem(entry.file, f"it is not where class {entry.label!r} and seed {entry.seed} belong")
            continue
        expected = image_marks(header, entry.label, entry.seed)
        reason = file_fault(folder, entry.file, entry.sha256, expected)
        if reason is not None:
            yield Problem(entry.file, reason)
        if entry.mask is not None:
            yield from _mask_problems(folder, header, entry, entry.mask)


def _mask_problems(folder: Path, header: Header, entry: Entry, mask: str) -> Iterator[Problem]:
    if mask != mask_file(entry.file):
        yield Problem(mask, f"it is not where the mask of {entry.file} belongs")
        return
    reason = file_fault(folder, mask, entry.mask_sha256, mask_marks(header, entry.label, entry.seed), "L")
    if reason is not None:
        yield Problem(mask, reason)


def _companion_problems(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    allowed = {CARD, CONTACT, INTERPOLATION}
    named = {companion.file for companion in manifest.companions}
    for name in sorted(allowed - named):
        yield Problem(
            name, "the manifest does not name it: the set is unfinished, run the same command again"
        )
    for companion in manifest.companions:
        if companion.file not in allowed:
            yield Problem(companion.file, "such a file does not belong into a set")
            continue
        marks = set_marks(manifest.header) if companion.file.endswith(".png") else None
        reason = file_fault(folder, companion.file, companion.sha256, marks)
        if reason is not None:
            yield Problem(companion.file, reason)


def file_fault(
    folder: Path,
    file: str,
    sha256: str | None,
    marks: Mapping[str, str] | None,
    mode: Literal["RGB", "L"] = "RGB",
) -> str | None:
    """What is wrong with one file, None for nothing; `marks` is None for files that are no pictures."""
    if sha256 is None:
        return "it is planned but was not made: run the same command again"
    path = folder / file
    if _leaves(folder, file) or not path.is_file():
        return "it is missing"
    if path.stat().st_size > _MOST_BYTES:
        return f"it has {path.stat().st_size} bytes, more than any file of a set"
    content = path.read_bytes()
    if sha256_bytes(content) != sha256:
        return "its bytes differ from the manifest's"
    return None if marks is None else mark_fault(content, marks, mode)


def mark_fault(content: bytes, marks: Mapping[str, str], mode: Literal["RGB", "L"] = "RGB") -> str | None:
    """What keeps a PNG file from being the picture that `marks` describes, None for nothing.

    Args:
        content: bytes of the file.
        marks: expected text, without the hash of the pixels.
        mode: "L" for a mask.
    """
    try:
        image, text = decode_png(content, mode)
    except DataError as error:
        return str(error)
    for keyword, value in {**marks, PIXELS: pixel_hash(image)}.items():
        if keyword not in text:
            return f'its mark "{keyword}" is missing'
        if text[keyword] != value:
            return f'its mark "{keyword}" is {text[keyword][:80]!r}, not {value[:80]!r}'
    return None


def extra_files(folder: Path, named: Collection[str]) -> Iterator[Problem]:
    """Files and links of a folder that are not among those `named` in its manifest."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name != MANIFEST and name not in named:
            yield Problem(name, "the manifest does not name it")


def _named(manifest: Manifest) -> set[str]:
    images = {file for entry in manifest.images for file in (entry.file, entry.mask) if file is not None}
    return images | {companion.file for companion in manifest.companions}


def _leaves(folder: Path, file: str) -> bool:
    """Whether a path goes out of the set, by its parts or through a link."""
    pure = PurePosixPath(file)
    if pure.is_absolute() or ".." in pure.parts:
        return True
    return not (folder / file).resolve().is_relative_to(folder.resolve()) or (folder / file).is_symlink()


def _fields(record: Header | Entry | Companion) -> dict[str, Any]:
    """A record as the manifest states it; images without a mask say nothing of masks."""
    unmasked = isinstance(record, Entry) and record.mask is None
    return record.model_dump(by_alias=True, exclude={"mask", "mask_sha256"} if unmasked else None)


def _spelled(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    spelled = "".join(
        letter
        if letter.isalnum() or letter in " -_."
        else "".join(f"%{byte:02X}" for byte in letter.encode())
        for letter in name
    )
    if spelled[:1] in {".", " "}:
        spelled = f"%{ord(spelled[0]):02X}{spelled[1:]}"
    if spelled[-1:] in {".", " "}:
        spelled = f"{spelled[:-1]}%{ord(spelled[-1]):02X}"
    return spelled


def _reserved(folder: str) -> bool:
    return not folder or folder.split(".", maxsplit=1)[0].strip().casefold() in _DEVICES
