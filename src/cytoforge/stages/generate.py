"""Run folder in, synthetic set out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cytoforge.core.errors import ConfigError
from cytoforge.core.executors import Executor
from cytoforge.core.files import sha256_file
from cytoforge.core.run import Run
from cytoforge.evaluation.selection import selection_of
from cytoforge.sampling.generate import Made
from cytoforge.sampling.generate import generate as write_set
from cytoforge.sampling.provenance import read_manifest
from cytoforge.sampling.sealed import MANIFEST
from cytoforge.sampling.seeds import default_seeds, parse_seeds


def generate(
    run: Path,
    out: Path,
    *,
    per_class: int | None = None,
    label: str | None = None,
    seeds: str | None = None,
    truncation: float = 1.0,
    checkpoint: str = "best",
    device: str = "cpu",
    masks: Path | None = None,
    edges: Path | None = None,
    executor: Executor = "serial",
    workers: int | None = None,
) -> Made:
    """Write synthetic cells with manifest, data card, contact sheet and interpolation.

    The same call again goes on after an interruption; another call with the same generator adds to the set.

    Args:
        run: folder of a training.
        out: folder of the set: new, empty, or begun by the same generator.
        per_class: images of each class.
        label: name of a class, together with `seeds` and instead of `per_class`.
        seeds: numbers and ranges such as "0-99,200".
        truncation: factor in (0, 1] on the noise; below 1, images are more alike and more typical.
        checkpoint: "best" by the score measured while training, or "newest".
        device: "cpu" or "cuda".
        masks: folder with masks/<class>/ to draw from, for methods that draw from masks.
        edges: data set or synthetic set whose images lend their edges, for training with condition=edges.
        executor: "serial", or "loky", "ray", "dask" for many processes; images are those of one thread.
        workers: processes at once; None takes what the executor offers.

    Raises:
        CheckpointError: `run` is no run folder or has no intact checkpoint.
        ConfigError: the request makes no sense, or `out` holds something else or what was selected.
        DataError: `out` cannot be written; what is finished is kept.
    """
    opened = Run.open(run)
    wanted = _wanted(tuple(opened.config["classes"]), per_class, label, seeds)
    _require_unselected(out, wanted)
    return write_set(
        opened,
        out,
        wanted,
        truncation=truncation,
        checkpoint=checkpoint,
        device=device,
        masks=masks,
        edges=edges,
        executor=executor,
        workers=workers,
    )


def _require_unselected(out: Path, wanted: Sequence[tuple[str, int]]) -> None:
    """Refuse to add images to a set from which some were dropped: they would come back."""
    path = out / MANIFEST
    if not path.is_file() or selection_of(out, sha256_file(path)) is None:
        return
    if set(wanted) - {(entry.label, entry.seed) for entry in read_manifest(out).images}:
        raise ConfigError(
            f"{out} was selected from a larger set; new images would be in it unselected. Generate into "
            "another folder and select from that: cytoforge select SET --real DATA --out DIR."
        )


def _wanted(
    classes: tuple[str, ...], per_class: int | None, label: str | None, seeds: str | None
) -> list[tuple[str, int]]:
    by_class = per_class is not None and label is None and seeds is None
    by_seeds = per_class is None and label is not None and seeds is not None
    if not (by_class or by_seeds):
        raise ConfigError(
            "say which images: either --per-class N for N of each class, or --class NAME with --seeds 0-99."
        )
    if per_class is not None:
        return default_seeds(classes, per_class)
    return [(str(label), seed) for seed in parse_seeds(str(seeds))]
