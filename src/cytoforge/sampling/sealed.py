"""Manifests: a record a line, and a last line that seals all before it.

The seal finds damage and careless changes. It is no signature: who wants to forge can.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cytoforge.core.errors import DataError
from cytoforge.core.files import sha256_bytes, write_atomic

MANIFEST = "manifest.jsonl"
RESTORE = "Restore the file, or make its pictures again in another folder."


def write_sealed(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest.

    Raises:
        DataError: the folder cannot be written.
    """
    lines = [_line(record) for record in records]
    body = "".join(lines)
    seal = {"kind": "seal", "lines": len(lines), "sha256": sha256_bytes(body.encode())}
    write_atomic(path, body + _line(seal))


def read_sealed(folder: Path) -> list[dict[str, Any]]:
    """The records of `manifest.jsonl`, without the seal.

    Raises:
        DataError: there is none, or it was changed after it was written.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{folder} is not a folder of synthetic pictures (it has no {MANIFEST}); give the --out folder "
            "of `cytoforge generate`."
        )
    lines = path.read_bytes().splitlines(keepends=True)
    try:
        seal = json.loads(lines[-1])
        sound = (
            seal["kind"] == "seal"
            and seal["lines"] == len(lines) - 1
            and seal["sha256"] == sha256_bytes(b"".join(lines[:-1]))
        )
        records: list[dict[str, Any]] = [json.loads(line) for line in lines[:-1]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path} is not a manifest: {error}. {RESTORE}") from error
    if not sound:
        raise DataError(f"{path} was changed after it was written. {RESTORE}")
    return records


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=True, allow_nan=False) + "\n"
