"""How good a classifier is, in words for its card and its checklists: calibration, and report of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import read_json
from cytoforge.core.run import Run
from cytoforge.evaluation.calibration import Reliability
from cytoforge.evaluation.classification import Estimate
from cytoforge.evaluation.classifier_report import ClassifierReport
from cytoforge.evaluation.trust import CALIBRATION, Calibration, Coverage, read_calibration

LIMITS = (
    "It knows its classes and nothing else: any picture gets one of them. Crop size, stain and camera of the "
    "training data tell classes apart too; other laboratories and populations differ."
)
NOT_FOR = (
    "Not for diagnosis: nobody has certified it, and a result never replaces the judgement of a person "
    "trained for it."
)
REPORT = "classify.json"


@dataclass(frozen=True)
class ClassifierScores:
    """What is known of how good a classifier is.

    Attributes:
        calibration: of this classifier, None where it was not calibrated.
        report: of its kind, by grouped and by random folds; None where none was given.
    """

    calibration: Calibration | None = None
    report: ClassifierReport | None = None


def read_scores(run: Run, report: Path | None = None) -> ClassifierScores:
    """The calibration of a classifier's run, and a report of its kind.

    Args:
        run: of `classify train`.
        report: classify.json of a `classify report` with the same recipe and classes.

    Raises:
        CheckpointError: the calibration is broken or of other weights.
        ConfigError: the report is of another recipe (the number format aside) or of other classes.
        DataError: the report cannot be read.
    """
    kept = load_checkpoint(run.checkpoints, "best") if (run.path / CALIBRATION).is_file() else None
    calibration = None if kept is None else read_calibration(run.path, kept.sha256, run.config["classes"])
    return ClassifierScores(calibration, None if report is None else _report(run, report))


def answers(scores: ClassifierScores) -> dict[str, tuple[str, str]]:
    """Fact of a checklist -> answer and the file that it comes from."""
    found: dict[str, list[tuple[str, str]]] = {}
    if scores.report is not None:
        for fact, text in _report_answers(scores.report).items():
            found.setdefault(fact, []).append((text, REPORT))
    if scores.calibration is not None:
        for fact, text in _calibration_answers(scores.calibration).items():
            found.setdefault(fact, []).append((text, CALIBRATION))
    return {fact: together(parts) for fact, parts in found.items()}


def together(parts: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Answers to one fact and the files that they come from, as one.

    Example:
        >>> together([("It is small.", "config.json"), ("It is blurred.", "metrics.json")])
        ('It is small. It is blurred.', 'config.json, metrics.json')
    """
    texts, sources = zip(*parts, strict=True)
    return " ".join(texts), ", ".join(sources)


def table(scores: ClassifierScores) -> str:
    """The section on the evaluation in Markdown; empty where nothing is known."""
    parts = []
    judged = None if scores.calibration is None else scores.calibration.judged
    if scores.calibration is not None and judged is not None:
        rows = {
            "accuracy": f"{judged.after.accuracy:.3f}",
            "calibration error (ECE)": _calibrated(judged.after),
            "Brier score": f"{judged.after.brier:.3f}",
            **{f"sets at a stated {_percent(each.stated)}": _covered(each) for each in judged.coverage},
            "known kinds called unknown": (
                f"{_percent(judged.false_alarms)} (stated {_percent(scores.calibration.false_alarm)})"
            ),
        }
        parts.append(
            f"This classifier on {_tested(scores.calibration)}, from {CALIBRATION}:\n\n{_markdown(rows)}\n\n"
            f"{scores.calibration.caveat}"
        )
    if scores.report is not None:
        best = scores.report.grouped.scores
        named = {
            "accuracy": best.accuracy,
            "balanced accuracy": best.balanced_accuracy,
            "macro F1": best.macro_f1,
            "macro AUC": best.macro_auc,
        }
        if not scores.report.ungrouped:
            named["leak inflation (accuracy by random folds less this)"] = scores.report.leak
        rows = {name: _estimate(value) for name, value in named.items()}
        parts.append(f"{_protocol(scores.report)} From {REPORT}:\n\n{_markdown(rows)}")
    return "\n\n".join(parts)


def _report(run: Run, path: Path) -> ClassifierReport:
    try:
        found = ClassifierReport.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(
            f"{path} is not a {REPORT} that this version can read; --evaluation of a classifier is the --out "
            "folder of `cytoforge classify report`."
        ) from error
    asked, classes = run.config["recipe"], list(run.config["classes"])
    changed = sorted(name for name in asked.keys() - {"precision"} if found.settings.get(name) != asked[name])
    if changed:
        raise ConfigError(
            f"{path} is of another recipe than {run.path} ({changed[0]}: {found.settings.get(changed[0])}, "
            f"the run has {asked[changed[0]]}); make one with the run's recipe and settings."
        )
    if list(found.grouped.scores.labels) != classes:
        raise ConfigError(
            f"{path} is of the classes {', '.join(found.grouped.scores.labels)}, the run {run.path} of "
            f"{', '.join(classes)}; make a report on the run's data."
        )
    return found


def _calibration_answers(found: Calibration) -> dict[str, str]:
    sets = ", ".join(_percent(float(key)) for key in found.thresholds)
    answers = {
        "statistics": (
            f"Probabilities by one temperature ({found.temperature:.3f}), sets of possible classes at stated "
            f"coverages of {sets} (split conformal, {found.score}) and a limit for unknown kinds "
            f"({found.novelty}), learned from {found.cells} cells of {len(found.groups)} groups "
            f"({found.part} part). {found.caveat}"
        ),
        "explanation": (
            "Beside each class stand its probability, the classes that cannot be excluded, and whether the "
            "cell is of an unknown kind. Heat maps and their validation are in the results of `cytoforge "
            "classify explain`, not here."
        ),
    }
    if found.judged is None:
        return answers
    after = found.judged.after
    covered = "; ".join(
        f"sets at a stated {_percent(each.stated)} {_covered(each)}" for each in found.judged.coverage
    )
    return answers | {
        "metrics": "Accuracy, calibration error (ECE), Brier score, coverage and size of sets.",
        "internal_test": f"This classifier on {_tested(found)}.",
        "performance": (
            f"This classifier: accuracy {after.accuracy:.3f}, ECE {_calibrated(after)}, Brier score "
            f"{after.brier:.3f}; {covered}; {_percent(found.judged.false_alarms)} of known kinds called "
            "unknown."
        ),
    }


def _report_answers(report: ClassifierReport) -> dict[str, str]:
    best = report.grouped.scores
    recalls = ", ".join(f"{name} {_estimate(own.recall)}" for name, own in best.classes.items())
    how = "folds of single cells" if report.ungrouped else "grouped folds"
    leak = "" if report.ungrouped else f" Random folds would say {_estimate(report.leak)} more accuracy."
    return {
        "metrics": "Accuracy, balanced accuracy, macro F1 and AUC; recall of each class.",
        "statistics": f"{_percent(best.level)} intervals by bootstrap over groups, classifiers held fixed.",
        "internal_test": _protocol(report),
        "performance": (
            f"Its kind by {how}: accuracy {_estimate(best.accuracy)}, balanced accuracy "
            f"{_estimate(best.balanced_accuracy)}, macro F1 {_estimate(best.macro_f1)}, macro AUC "
            f"{_estimate(best.macro_auc)}.{leak}"
        ),
        "failures": f"Recall by class: {recalls}.",
    }


def _tested(found: Calibration) -> str:
    assert found.judged is not None
    return (
        f"{found.judged.cells} cells of {found.judged.groups} groups ({found.judged.part} part) that neither "
        "training nor calibration saw"
    )


def _protocol(report: ClassifierReport) -> str:
    if report.ungrouped:
        return (
            f"Its recipe trained anew in {report.folds} folds on {report.cells} cells, each tested once. No "
            "photo, slide or patient is known, so cells of one photo may lie on both sides."
        )
    return (
        f"Its recipe trained anew in {report.folds} folds on {report.cells} cells of {report.groups} groups, "
        "each cell tested once and no group on both sides."
    )


def _calibrated(found: Reliability) -> str:
    return (
        f"{found.error:.3f} (exact probabilities: {found.chance_error:.3f}, by chance up to "
        f"{found.chance_high:.3f})"
    )


def _covered(each: Coverage) -> str:
    return (
        f"hold the true class in {_percent(each.groups)}, groups weighing the same (chance allows "
        f"{_percent(each.low)} to {_percent(each.high)}); {each.size:.2f} classes on average"
    )


def _percent(share: float) -> str:
    """Without digits that say nothing.

    Example:
        >>> _percent(0.95), _percent(0.9333)
        ('95 %', '93.3 %')
    """
    return f"{round(100 * share, 1):g} %"


def _estimate(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _markdown(rows: dict[str, str]) -> str:
    return "\n".join(
        ["| score | value |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]
    )
