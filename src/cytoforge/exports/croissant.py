"""Croissant: JSON-LD that tells machines what a data set is and how its files belong together.

Reference:
    MLCommons, Croissant format specification 1.0. Akhtar et al., Croissant: a metadata format for ML-ready
    datasets, 2024. https://arxiv.org/abs/2403.19546
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_file, write_atomic
from cytoforge.exports.cards import LIMITS, NOT_FOR, TO_FILL, data_card
from cytoforge.exports.image_folder import METADATA, write_images
from cytoforge.exports.synthetic_set import SyntheticSet

CROISSANT = "croissant.json"
_CELL = ("label", "seed", "synthetic", "sha256")
_TYPES = {"seed": "INTEGER", "synthetic": "BOOL"}


def write_croissant(opened: SyntheticSet, out: Path) -> list[Path]:
    """The images with their table, and `croissant.json` that describes both.

    Raises:
        ConfigError: mlcroissant is not installed.
        DataError: the description is not valid by mlcroissant.
    """
    library = _library()
    write_images(opened, out)
    metadata = _metadata(library, opened, sha256_file(out / METADATA))
    if metadata.issues.errors:
        raise DataError(f"croissant.json would not be valid: {'; '.join(sorted(metadata.issues.errors))}.")
    write_atomic(out / CROISSANT, json.dumps(metadata.to_json(), indent=1, ensure_ascii=False) + "\n")
    write_atomic(out / "README.md", data_card(opened))
    return [out / CROISSANT, out / METADATA]


def _library() -> ModuleType:
    try:
        import mlcroissant
    except ImportError as error:
        raise ConfigError("Croissant needs mlcroissant: pip install 'cytoforge[export]'.") from error
    return mlcroissant  # type: ignore[no-any-return]


def _metadata(mlc: Any, opened: SyntheticSet, table_sha256: str) -> Any:
    header = opened.header
    pictures = [_file_set(mlc, "images", "synthetic cells")]
    if opened.masked:
        pictures.append(
            _file_set(mlc, "masks", "what they were drawn from: 0 background, 1 cytoplasm, 2 nucleus")
        )
    table = mlc.FileObject(
        id=METADATA,
        name=METADATA,
        description="class, seed and SHA-256 of every image",
        content_url=METADATA,
        encoding_formats=["text/csv"],
        sha256=table_sha256,
    )
    return mlc.Metadata(
        ctx=mlc.Context(conforms_to=_STANDARD),
        name="synthetic-cells",
        description=(
            f"{len(opened.images)} synthetic cells of {len(header.classes)} classes, computed by the method "
            f"{header.method} of {header.generator}. No image is a photograph of a patient's cell."
        ),
        version="1.0.0",
        license=[TO_FILL],
        cite_as=TO_FILL,
        keywords=["synthetic", "cytology", "generative model"],
        distribution=[table, *pictures],
        record_sets=_record_sets(mlc, opened),
        data_collection=(
            f"Computed, not collected. Configuration {header.config_sha256}, "
            f"network {header.checkpoint_sha256}, one seed for each image."
        ),
        data_collection_type=["Software Collection"],
        data_annotation_protocol="The class of an image is the one that the generator was asked for.",
        data_biases=LIMITS,
        data_limitations=NOT_FOR,
        data_use_cases="Research, teaching and the testing of software.",
        personal_sensitive_information=(
            "No image shows a patient's cell, but a generator can repeat cells that it was trained on: read "
            "the section on copies of the evaluation report before sharing."
        ),
    )


_STANDARD = "http://mlcommons.org/croissant/1.0"


def _file_set(mlc: Any, name: str, description: str) -> Any:
    return mlc.FileSet(
        id=name,
        name=name,
        description=description,
        includes=[f"{name}/*/*.png"],
        encoding_formats=["image/png"],
    )


def _record_sets(mlc: Any, opened: SyntheticSet) -> list[Any]:
    """Files by path, and one record for each cell that joins its row of the table with its image.

    Masks have records of their own: a record of Croissant joins two sources, not three.
    """
    sets = [_by_path(mlc, "images"), _joined(mlc, "cells", "file_name", "images", _CELL)]
    if opened.masked:
        sets += [_by_path(mlc, "masks"), _joined(mlc, "cell_masks", "mask", "masks", ("file_name",))]
    return sets


def _joined(mlc: Any, name: str, key: str, kind: str, columns: tuple[str, ...]) -> Any:
    """Records `name`: columns of the table, and the file of `kind` whose path is in column `key`."""
    path = _column(mlc, name, key)
    path.references = mlc.Source(field=f"{kind}_by_path/path")
    content = mlc.Field(
        id=f"{name}/{kind}",
        name=kind,
        data_types=[mlc.DataType.IMAGE_OBJECT],
        source=mlc.Source(field=f"{kind}_by_path/content"),
    )
    fields = [path, *(_column(mlc, name, column) for column in columns), content]
    return mlc.RecordSet(id=name, name=name, fields=fields)


def _column(mlc: Any, records: str, name: str) -> Any:
    return mlc.Field(
        id=f"{records}/{name}",
        name=name,
        data_types=[getattr(mlc.DataType, _TYPES.get(name, "TEXT"))],
        source=mlc.Source(file_object=METADATA, extract=mlc.Extract(column=name)),
    )


def _by_path(mlc: Any, kind: str) -> Any:
    def field(name: str, data_type: Any, file_property: str) -> Any:
        source = mlc.Source(file_set=kind, extract=mlc.Extract(file_property=file_property))
        return mlc.Field(id=f"{kind}_by_path/{name}", name=name, data_types=[data_type], source=source)

    return mlc.RecordSet(
        id=f"{kind}_by_path",
        name=f"{kind}_by_path",
        fields=[
            field("path", mlc.DataType.TEXT, "fullpath"),
            field("content", mlc.DataType.IMAGE_OBJECT, "content"),
        ],
    )
