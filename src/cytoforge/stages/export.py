"""A synthetic set or a run becomes a format that other tools read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cytoforge.core.errors import ConfigError
from cytoforge.core.run import ANOTHER_OUT, Run, require_empty
from cytoforge.core.settings import suggestion
from cytoforge.evaluation.classifiers import METHOD as CLASSIFIER
from cytoforge.evaluation.metrics import Metrics
from cytoforge.exports.cards import write_cards
from cytoforge.exports.checklist import Known, read_study, write_checklists
from cytoforge.exports.classifier_onnx import write_classifier
from cytoforge.exports.classifier_scores import REPORT, read_scores
from cytoforge.exports.croissant import write_croissant
from cytoforge.exports.dicom import write_dicom
from cytoforge.exports.generator_onnx import write_generator
from cytoforge.exports.image_folder import write_image_folder
from cytoforge.exports.medmnist import write_medmnist
from cytoforge.exports.synthetic_set import SyntheticSet, open_set
from cytoforge.sampling.sealed import MANIFEST
from cytoforge.stages.compared import run_of

SET_FORMATS: dict[str, Callable[[SyntheticSet, Path], list[Path]]] = {
    "imagefolder": write_image_folder,
    "medmnist": write_medmnist,
    "croissant": write_croissant,
    "dicom": write_dicom,
}
"""Formats of synthetic sets; a new one is one function and one line here."""

QUOTING = ("cards", "checklist")
"""Formats that quote evaluations."""

FORMATS = (*SET_FORMATS, "onnx", *QUOTING)


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: of the export.
        format: its word.
        files: those that a reader begins with.
    """

    folder: Path
    format: str
    files: tuple[Path, ...]


def export(
    source: Path,
    out: Path,
    format: str,
    *,
    evaluation: Path | None = None,
    study: Path | None = None,
    checkpoint: str | None = None,
) -> Exported:
    """Write one format of a set or a run.

    Args:
        source: set of generate or select, or run of train or classify.
        out: new or empty folder.
        format: one of `FORMATS`.
        evaluation: for cards and checklist: folder of an evaluate, or its metrics.json; of a classifier the
            folder of a `classify report`, or its classify.json.
        study: folder of a study, or its study.json, for the checklist.
        checkpoint: "best" or "newest", for onnx; the best where not given.

    Raises:
        ConfigError: the format does not exist, does not fit the source, or needs a package that is missing;
            evaluation or study do not fit source or format, or the evaluation is of another set or training.
        DataError: the set is not as its manifest says.
        CheckpointError: the run cannot be used, its calibration is broken, or its ONNX form computes
            something else.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"--format: there is no {format!r}.{suggestion(format, FORMATS)} Formats: {', '.join(FORMATS)}."
        )
    require_empty(out, advice=ANOTHER_OUT)
    _check_asked(format, evaluation, study, checkpoint)
    studied = None if study is None else read_study(_file(study, "study.json"))
    opened = open_set(source) if (source / MANIFEST).is_file() else None
    run = None if opened is not None else _run(source)
    metrics = scores = None
    if run is not None and _classifies(run) and format in QUOTING:
        scores = read_scores(run, None if evaluation is None else _file(evaluation, REPORT))
    elif evaluation is not None:
        metrics = _metrics_of(source, opened or _some(run), _file(evaluation, "metrics.json"))
    if format in SET_FORMATS:
        if opened is None:
            raise ConfigError(
                f"--format {format} is for synthetic sets, and {source} is a run. Make a set first: "
                f"cytoforge generate {source} --out SET --per-class 200."
            )
        files = SET_FORMATS[format](opened, out)
    elif format == "onnx":
        if run is None:
            raise ConfigError(f"--format onnx is for runs, and {source} is a set; give the run that made it.")
        writer = write_classifier if _classifies(run) else write_generator
        files = writer(run, out, checkpoint or "best")
    elif format == "cards":
        files = write_cards(opened or _some(run), out, metrics, scores)
    else:
        origin = run if opened is None else run_of(source, opened.header)
        files = write_checklists(Known(opened, origin, metrics, studied, scores), out)
    return Exported(out, format, tuple(files))


def _run(source: Path) -> Run:
    if not (source / "config.json").is_file():
        raise ConfigError(
            f"{source} is neither a synthetic set (no {MANIFEST}) nor a run (no config.json); give the --out "
            "folder of generate or the --run folder of train."
        )
    return Run.open(source)


def _some(run: Run | None) -> Run:
    assert run is not None
    return run


def _classifies(run: Run) -> bool:
    return run.config.get("method") == CLASSIFIER


def _metrics_of(place: Path, source: SyntheticSet | Run, file: Path) -> Metrics:
    """The evaluation of this set, or of one that this run made.

    Raises:
        ConfigError: it is of another.
    """
    metrics = Metrics.load(file)
    if isinstance(source, SyntheticSet):
        if metrics.manifest_sha256 != source.sha256:
            raise ConfigError(
                f"{file} is the evaluation of another set (manifest {metrics.manifest_sha256[:12]}, {place} "
                f"has {source.sha256[:12]}). Evaluate this one: cytoforge evaluate {place} --real DATA "
                "--out DIR."
            )
        return metrics
    for what, theirs, own in (
        ("split", metrics.split_sha256, source.config.get("split_sha256")),
        ("settings", metrics.config_sha256 or source.config_hash, source.config_hash),
    ):
        if theirs != own:
            raise ConfigError(
                f"{file} is the evaluation of another training ({what} {theirs[:12]}, {place} has "
                f"{own[:12] if own else 'none'}). Make a set with this one and evaluate it: cytoforge "
                f"generate {place} --out SET --per-class 200, then cytoforge evaluate SET --real DATA "
                "--out DIR."
            )
    return metrics


def _check_asked(format: str, evaluation: Path | None, study: Path | None, checkpoint: str | None) -> None:
    """Refuse what the format has no place for."""
    if checkpoint is not None and format != "onnx":
        raise ConfigError(f"--checkpoint is for onnx, {format} has no weights; leave it out.")
    if evaluation is not None and format not in QUOTING:
        raise ConfigError(f"--evaluation goes into cards and checklists, not into {format}; leave it out.")
    if study is not None and format != "checklist":
        raise ConfigError(f"--study goes into checklists, not into {format}; leave it out.")


def _file(place: Path, name: str) -> Path:
    """The file itself, or the one of this name in a folder.

    Raises:
        ConfigError: the folder holds none.
    """
    if not place.is_dir():
        return place
    if not (place / name).is_file():
        raise ConfigError(f"{place} holds no {name}; give the --out folder of {_MADE_BY[name]}.")
    return place / name


_MADE_BY = {
    "metrics.json": "`cytoforge evaluate` (--evaluation of a set or a generator)",
    REPORT: "`cytoforge classify report` (--evaluation of a classifier)",
    "study.json": "`cytoforge study`",
}
