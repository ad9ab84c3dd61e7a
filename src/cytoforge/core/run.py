"""The run folder: the truth about one training.

```
run/config.json        what was asked for; enough to rebuild the method
    split.json         which cell is in which part
    shown.json         which cells were read, by content, see evaluation.ledger
    log.jsonl          one JSON object a line: {"kind": "losses" | "measure" | "event", "seen": ..., ...}
    samples/           pictures of fixed seeds while training
    checkpoints/       see core.checkpoint
```
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import BaseModel, ValidationError

from cytoforge.core.errors import CheckpointError, ConfigError
from cytoforge.core.files import read_json, sha256_bytes, write_atomic, write_json

FORMAT = 1
SPLIT = "split.json"
ANOTHER_OUT = "Choose another --out."
"""Advice of what cannot go on in a folder that holds something."""
_RESUME = "Go on with the run in it with --resume, or choose another --run."
_REPEAT = "Repeat the settings of its config.json, or choose another --run."
_VOLATILE = ("versions", "device", "threads", "format")
"""Parts of config.json in which a run that goes on may differ."""


class Saved(Protocol):
    """What writes itself to a file; `data.split.Split` does."""

    def save(self, path: Path) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Run:
    """A run folder that exists.

    Attributes:
        path: its folder.
        config: content of config.json.
    """

    path: Path
    config: dict[str, Any]

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], split: Saved | None = None) -> Self:
        """Start a run in a folder that is new or empty, but for a split.

        The split is written first, so that a run that was killed while it began can be begun again.

        Raises:
            ConfigError: the folder holds something already.
        """
        require_empty(path, (SPLIT,))
        run = cls(path, {"format": FORMAT, **config})
        if split is not None:
            split.save(run.split_path)
        write_json(path / "config.json", run.config)
        return run

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a run folder.

        Raises:
            CheckpointError: it is none, or was made by a newer cytoforge.
        """
        if not (path / "config.json").is_file():
            raise CheckpointError(
                f"{path} is not a run folder (it has no config.json); give the --run of a training."
            )
        config = read_json(path / "config.json")
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise CheckpointError(
                f"{path / 'config.json'} has a format that this version cannot read; update cytoforge."
            )
        return cls(path, config)

    def require_same(
        self, asked: Mapping[str, Any], kinds: Mapping[str, type[BaseModel]], advice: str = _REPEAT
    ) -> None:
        """Refuse to go on with other settings than the run was started with.

        Args:
            asked: what would be its configuration now; threads and versions may differ.
            kinds: records among its parts. A field that a run of an earlier version lacks has its default.
            advice: sentence on what to do, as the caller's options allow; that of a run where not given.

        Raises:
            ConfigError: anything else does.
        """
        stored = {
            key: _completed(self.config.get(key), kinds[key]) if key in kinds else self.config.get(key)
            for key in asked
        }
        differences = [
            f"\n  - {name}: the run has {before}, asked for {now}"
            for key in asked
            if key not in _VOLATILE
            for name, before, now in _differences(key, stored[key], asked[key])
        ]
        if differences:
            raise ConfigError(f"{self.path} was started with other settings:{''.join(differences)}\n{advice}")

    @property
    def split_path(self) -> Path:
        """Where the split is kept."""
        return self.path / SPLIT

    @property
    def samples(self) -> Path:
        """Where pictures of the training are kept."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept."""
        return self.path / "checkpoints"

    @property
    def config_hash(self) -> str:
        """SHA-256 of the configuration, independent of spacing and key order."""
        return sha256_bytes(json.dumps(self.config, sort_keys=True).encode())

    def log(self, record: dict[str, Any]) -> None:
        """Append one record to log.jsonl."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """All records; a line cut short by a crash is left out."""
        path = self.path / "log.jsonl"
        records = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def last(self, kind: str) -> dict[str, Any] | None:
        """The newest record of a kind ("losses", "measure" or "event"); None where there is none."""
        return next((record for record in reversed(self.read_log()) if record["kind"] == kind), None)

    def last_event(self) -> str | None:
        """What the newest event record says, such as "interrupted" or "alarm"."""
        record = self.last("event")
        return None if record is None else record["event"]

    def rewind_log(self, seen: int) -> None:
        """Forget records of images after `seen`: a resumed run writes them again."""
        kept = [record for record in self.read_log() if record["seen"] <= seen]
        write_atomic(self.path / "log.jsonl", "".join(json.dumps(record) + "\n" for record in kept))


def _completed(stored: Any, kind: type[BaseModel]) -> Any:
    """A stored record with all fields of today; as it is where it does not fit."""
    try:
        return kind.model_validate(stored).model_dump(mode="json")
    except ValidationError:
        return stored


def _differences(name: str, before: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """Name, old and new value of what differs; of mappings only the keys that do."""
    if before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [
            found for key in keys for found in _differences(f"{name}.{key}", before.get(key), now.get(key))
        ]
    return [(name, before, now)]


def require_empty(path: Path, besides: Collection[str] = (), advice: str = _RESUME) -> None:
    """Refuse a place for a new run or other results that holds something already.

    Args:
        path: folder, there or not.
        besides: names that may be there; hidden files may be there too.
        advice: sentence on what to do, as the caller's options allow; that of a run where not given.

    Raises:
        ConfigError: it holds something else.
    """
    if path.exists() and (
        not path.is_dir()
        or any(not entry.name.startswith(".") and entry.name not in besides for entry in path.iterdir())
    ):
        raise ConfigError(f"{path} is not an empty folder. {advice}")
