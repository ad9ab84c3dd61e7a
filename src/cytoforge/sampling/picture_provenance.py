"""What synthetic pictures that are no set say of themselves: translated cells, cells drawn by words.

```
out/manifest.jsonl   an origin, one line for each file, a seal over all lines before it
    ...              PNG files, each with its marks as text, and files beside them
```
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes, sha256_file, write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.core.record import Record
from cytoforge.core.run import require_empty
from cytoforge.sampling.provenance import Problem, extra_files, file_fault
from cytoforge.sampling.sealed import MANIFEST, RESTORE, read_sealed, write_sealed

_PACKAGES = ("torch", "numpy", "pillow")


class Origin(Record):
    """Who made the pictures of a folder: what decides the pixels besides what each says of itself.

    Attributes:
        generator: name and version of this program.
        command: what wrote the folder, such as "translate".
        marks: PNG text of every picture, besides that it is synthetic and made by this program.
        facts: hashes of what was used, and settings.
        versions: package -> version.
        device: kind of processor.
    """

    format: Literal[1] = 1
    kind: Literal["origin"] = "origin"
    synthetic: Literal[True] = True
    generator: str = f"cytoforge {version('cytoforge')}"
    command: str
    marks: dict[str, str]
    facts: dict[str, Any]
    versions: dict[str, str] = Field(
        default_factory=lambda: {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        }
    )
    device: str = "cpu"

    @property
    def text(self) -> dict[str, str]:
        """PNG text of every picture."""
        return {"Synthetic": "true", **self.marks, "Software": self.generator}


class Picture(Record):
    """One file.

    Attributes:
        file: path inside the folder, with forward slashes.
        sha256: hash of the file.
        marks: PNG text of its own; None for a file that is no picture.
    """

    kind: Literal["picture"] = "picture"
    file: str
    sha256: str
    marks: dict[str, str] | None


class PictureFolder:
    """A folder that is filled with marked pictures; `seal` writes down what is in it.

    Args:
        path: new, empty, or begun by the same origin, which is added to.
        origin: of all pictures in it.

    Raises:
        ConfigError: it holds something else, or pictures of another origin.
        DataError: it cannot be written, or its manifest was changed.
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self.path, self.origin = path, origin
        self._pictures: dict[str, Picture] = {}
        if (path / MANIFEST).is_file():
            before, pictures = read_pictures(path)
            if before != origin:
                raise ConfigError(
                    f"{path} holds pictures that were made otherwise. Give --out a new or empty folder."
                )
            self._pictures = {picture.file: picture for picture in pictures}
        else:
            require_empty(path, advice="Give --out a new or empty folder.")
        self.seal()

    def draw(self, file: str, pixels: NDArray[np.uint8], marks: Mapping[str, str] | None = None) -> Path:
        """Write one picture (H, W, 3) with the marks of all and its own."""
        own = dict(marks or {})
        content = encode_png(pixels, {**self.origin.text, **own})
        write_atomic(self.path / file, content)
        return self._noted(file, sha256_bytes(content), own)

    def add_json(self, file: str, value: Any) -> Path:
        """Write results beside the pictures."""
        write_json(self.path / file, value)
        return self._noted(file, sha256_file(self.path / file), None)

    def _noted(self, file: str, sha256: str, marks: dict[str, str] | None) -> Path:
        self._pictures[file] = Picture(file=file, sha256=sha256, marks=marks)
        return self.path / file

    def seal(self) -> None:
        """Write the manifest of all that is there."""
        ordered = [self._pictures[file] for file in sorted(self._pictures)]
        records = [record.model_dump(mode="json") for record in (self.origin, *ordered)]
        write_sealed(self.path / MANIFEST, records)


def is_picture_folder(folder: Path) -> bool:
    """Whether the first line of a folder's manifest, if it can be read, is that of a `PictureFolder`."""
    with suppress(OSError, ValueError), (folder / MANIFEST).open("rb") as file:
        first = json.loads(file.readline())
        return isinstance(first, dict) and first.get("kind") == "origin"
    return False


def read_pictures(folder: Path) -> tuple[Origin, tuple[Picture, ...]]:
    """What a folder of pictures says about itself.

    Raises:
        DataError: it has no manifest, or none that is understood.
    """
    records = read_sealed(folder)
    try:
        return Origin.model_validate(records[0]), tuple(map(Picture.model_validate, records[1:]))
    except (ValidationError, IndexError) as error:
        raise DataError(
            f"{folder / MANIFEST} is not the manifest of translated or drawn pictures: {error}. {RESTORE}"
        ) from error


def verify_pictures(folder: Path) -> list[Problem]:
    """Everything that differs between a folder of pictures and its manifest, in both directions."""
    try:
        origin, pictures = read_pictures(folder)
    except DataError as error:
        return [Problem(MANIFEST, str(error))]
    return [*_problems(folder, origin, pictures), *extra_files(folder, {each.file for each in pictures})]


def _problems(folder: Path, origin: Origin, pictures: tuple[Picture, ...]) -> Iterator[Problem]:
    for each in pictures:
        marks = None if each.marks is None else {**origin.text, **each.marks}
        reason = file_fault(folder, each.file, each.sha256, marks)
        if reason is not None:
            yield Problem(each.file, reason)
