"""Files that are either wholly there or not there at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from cytoforge.core.errors import DataError

_ENVIRONMENT_FAULTS = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "your quota is used up: free some space or choose another folder",
    errno.EFBIG: "the file would be larger than this system allows: choose another folder",
    errno.EROFS: "choose a folder that you may write",
    errno.EACCES: "choose a folder that you may use, or change its permissions",
    errno.EPERM: "choose a folder that you may use, or change its permissions",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "give a folder",
    errno.EISDIR: "give a file",
    errno.ENAMETOOLONG: "choose a shorter name",
}


_UMASK = os.umask(0)
os.umask(_UMASK)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` to a temporary name beside `path`, sync it and rename it into place.

    Raises:
        DataError: the disk is full or the folder cannot be written; `path` keeps what it held.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_UMASK)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise DataError(
            f"cannot write {path}: {error.strerror}. Free some space or choose a folder that you may write; "
            "what was there before is unchanged."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically. NaN and infinity are refused: JSON has none."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give the path of an existing JSON file.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable JSON file: {error}.") from error


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def environment_fault(error: OSError) -> str | None:
    """What to tell the user about a full disk and the like; None where the error is ours.

    Example:
        >>> environment_fault(OSError(errno.ENOSPC, "No space left on device", "/data/x.png"))
        'No space left on device: /data/x.png; free some space or choose another folder. Nothing was lost.'
    """
    advice = _ENVIRONMENT_FAULTS.get(error.errno or 0)
    if advice is None:
        return None
    place = "" if error.filename is None else f": {error.filename}"
    return f"{error.strerror}{place}; {advice}. Nothing was lost."
