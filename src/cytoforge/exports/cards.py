"""Model and data-set cards as Hugging Face reads them: a head in YAML, then text for people.

Cards name no file and no folder of the training data, only counts and hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import write_atomic
from cytoforge.core.run import Run
from cytoforge.evaluation.metrics import Metrics, Number
from cytoforge.evaluation.recipes import effective
from cytoforge.exports import classifier_scores
from cytoforge.exports.classifier_scores import ClassifierScores
from cytoforge.exports.synthetic_set import SyntheticSet
from cytoforge.sampling.card import plain, training_size

TO_FILL = "to be filled in"
LIMITS = (
    "Rare findings, unusual stains and other laboratories than those of the training data are missing or "
    "underrepresented; frequencies are those that were asked for, not those of a population."
)
_RESPONSIBLE = f"""## Who answers for it
| | |
|---|---|
| made by | {TO_FILL} |
| licence of the weights | {TO_FILL} |
| terms and consent of the training data | {TO_FILL} |
| contact | {TO_FILL} |
"""
NOT_FOR = (
    "Not for diagnosis, not for clinical records, and not as a test set: whether an image shows the class "
    "that was asked for is measured in the evaluation report, not promised."
)
_TAGS = ["synthetic", "cytology", "pap-smear", "medical", "not-for-diagnosis", "cytoforge"]
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SHOWN = {
    "kernel_distance": "KID",
    "frechet_distance": "Frechet distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}


def write_cards(
    source: SyntheticSet | Run,
    out: Path,
    metrics: Metrics | None = None,
    scores: ClassifierScores | None = None,
) -> list[Path]:
    """Write README.md: the data card of a set, or the model card of a run.

    Args:
        source: a set or a run.
        out: new or empty folder.
        metrics: evaluation of the set, or of a set of the run.
        scores: of a classifier's run, None for others.
    """
    if isinstance(source, SyntheticSet):
        text = data_card(source, metrics=metrics)
    elif scores is not None:
        text = classifier_card(source, scores)
    else:
        text = generator_card(source, metrics)
    write_atomic(out / "README.md", text)
    return [out / "README.md"]


def data_card(
    opened: SyntheticSet,
    configs: Sequence[Mapping[str, Any]] | None = None,
    metrics: Metrics | None = None,
) -> str:
    """Card of a synthetic set: its own CARD.md under a head that data-set hubs index.

    Args:
        opened: the set.
        configs: which files are the data, in the words of Hugging Face; None where there are no such files.
        metrics: its evaluation.
    """
    extra = {} if configs is None else {"configs": [dict(config) for config in configs]}
    head = _hub().DatasetCardData(
        pretty_name="Synthetic cells",
        license="other",
        license_name="to-be-filled-in",
        annotations_creators=["machine-generated"],
        task_categories=["image-classification"],
        size_categories=[_size(len(opened.images))],
        tags=list(_TAGS),
        **extra,
    )
    return f"---\n{head.to_yaml()}\n---\n\n{opened.card()}\n{_scores(metrics)}"


def generator_card(run: Run, metrics: Metrics | None = None, how_to_use: str = "") -> str:
    """Card of a generator's run.

    Args:
        run: of a training.
        metrics: evaluation of a set that it made.
        how_to_use: Markdown.
    """
    config = run.config
    head = _model_head(
        config,
        "unconditional-image-generation",
        _results(metrics, str(config["method"])) if metrics else None,
    )
    use = how_to_use or "```\ncytoforge generate RUN --out SET --per-class 200\n```"
    return f"""---
{head}
---

# Generator of synthetic cells: {plain(str(config["method"]))}

**What it draws is no photograph of a patient's cell.** It is for research, teaching and the testing of
software.
{NOT_FOR}

## What it is
{_facts(run)}
| draws | {_listed(config["classes"])} |

## How to use
{use}

## How it was trained
{_settings(run)}

{_scores(metrics) or _missing_scores()}
## Limits
* A generator can repeat cells that it was trained on. Evaluate a set (`cytoforge evaluate`) and read its
  section on copies before you share images or this model: synthetic does not mean anonymous.
* {LIMITS}

{_RESPONSIBLE}"""


def classifier_card(run: Run, scores: ClassifierScores, how_to_use: str = "") -> str:
    """Card of a classifier's run.

    Args:
        run: of a classifier.
        scores: what is known of it.
        how_to_use: Markdown.
    """
    config = run.config
    recipe = config.get("recipe", {})
    use = how_to_use or "```\ncytoforge classify predict RUN INPUT --out DIR\n```"
    return f"""---
{_model_head(config, "image-classification", _classifier_results(scores))}
---

# Classifier of cells: {plain(str(recipe.get("architecture", config["method"])))}

**{classifier_scores.NOT_FOR}** It is for research, teaching and the testing of software.

## What it is
{_facts(run)}
| classes | {_listed(config["classes"])} |
| probabilities | {_calibrated(scores)} |

## How to use
{use}

## How it was trained
{_settings(run)}

## Evaluation
{classifier_scores.table(scores) or _missing_classifier_scores()}

## Limits
{classifier_scores.LIMITS}

{_RESPONSIBLE}"""


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError("cards need huggingface_hub: pip install 'cytoforge[export]'.") from error
    library: ModuleType = huggingface_hub
    return library


def _size(count: int) -> str:
    """The hub's word for a number of images.

    Example:
        >>> _size(999), _size(1000), _size(5_000_000)
        ('n<1K', '1K<n<10K', '1M<n<10M')
    """
    return next((word for limit, word in _SIZES if count < limit), "1M<n<10M")


def _model_head(config: Mapping[str, Any], task: str, results: list[Any] | None) -> str:
    name = f"cytoforge-{config['method']}"
    scored = {} if results is None else {"eval_results": results, "model_name": name}
    drawn = task != "image-classification"
    head = _hub().ModelCardData(
        license="other",
        license_name="to-be-filled-in",
        library_name="cytoforge",
        pipeline_tag=task,
        tags=[tag for tag in _TAGS if drawn or tag != "synthetic"],
        **scored,
    )
    return str(head.to_yaml())


def _results(metrics: Metrics, method: str) -> list[Any]:
    result = _hub().EvalResult
    return [
        result(
            task_type="unconditional-image-generation",
            dataset_type="unseen-real-cells",
            dataset_name="unseen real cells of the training data set",
            metric_type=name,
            metric_name=f"{word} ({metrics.extractor}, {metrics.resolution} px)",
            metric_value=round(metrics.overall[name].value, 6),
        )
        for name, word in _SHOWN.items()
        if name in metrics.overall
    ]


def _classifier_results(scores: ClassifierScores) -> list[Any] | None:
    judged = None if scores.calibration is None else scores.calibration.judged
    if judged is None:
        return None
    numbers = {
        "accuracy": judged.after.accuracy,
        "expected_calibration_error": judged.after.error,
        "brier": judged.after.brier,
    }
    return [
        _hub().EvalResult(
            task_type="image-classification",
            dataset_type="unseen-real-cells",
            dataset_name=f"{judged.part} part of the training data set",
            metric_type=name,
            metric_value=round(value, 6),
        )
        for name, value in numbers.items()
    ]


def _facts(run: Run) -> str:
    config = run.config
    preparation = config.get("preparation", {})
    return f"""| | |
|---|---|
| method | {plain(str(config["method"]))} |
| images | {preparation.get("resolution", "?")} x {preparation.get("resolution", "?")} px, RGB |
| real images in training | {training_size(run)} |
| settings (SHA-256) | `{run.config_hash}` |
| data split (SHA-256) | `{config.get("split_sha256", "not recorded")}` |
| versions | {_listed([f"{name} {number}" for name, number in config.get("versions", {}).items()])} |"""


def _calibrated(scores: ClassifierScores) -> str:
    found = scores.calibration
    return "not calibrated" if found is None else f"of logits divided by {found.temperature:.4f} (calibrated)"


def _settings(run: Run) -> str:
    shown = {
        **run.config.get("recipe", run.config.get("settings", {})),
        **run.config.get("loop", {}),
        **run.config.get("preparation", {}),
    }
    rows = "\n".join(
        f"| {plain(name)} | {plain(safe(value))} |" for name, value in sorted(effective(shown).items())
    )
    return f"| setting | value |\n|---|---|\n{rows}"


def safe(value: Any) -> str:
    """A setting; a path shows its last part only, for folders may name people and places."""
    text = str(value)
    return Path(text).name if isinstance(value, str) and ("/" in text or "\\" in text) else text


def _scores(metrics: Metrics | None) -> str:
    """A section on the evaluation; empty where there is none."""
    if metrics is None:
        return ""
    rows = "\n".join(
        f"| {word} | {_number(metrics.overall[name])} | {_floor(metrics.overall[name])} |"
        for name, word in _SHOWN.items()
        if name in metrics.overall
    )
    verdicts = "\n".join(
        f"* {plain(verdict.headline)} {plain(verdict.because)}" for verdict in metrics.verdicts
    )
    warnings = "\n".join(f"* {plain(warning)}" for warning in metrics.warnings)
    return f"""## Evaluation
Features of {plain(metrics.extractor)}, {metrics.resolution} px; {metrics.counts.synthetic} synthetic against
{metrics.counts.holdout} unseen real cells. "Real against real" is what other real cells score in equal
numbers; nothing can be expected to do better.

| score | value (95 %) | real against real |
|---|---|---|
{rows}

{verdicts}
{warnings}
"""


def _missing_scores() -> str:
    return f"## Evaluation\n{TO_FILL}: run `cytoforge evaluate` and export again with `--evaluation DIR`.\n"


def _missing_classifier_scores() -> str:
    return (
        f"{TO_FILL}: run `cytoforge classify calibrate` and `cytoforge classify report`, and export again "
        "with `--evaluation DIR`, the folder of the report."
    )


def _number(number: Number) -> str:
    interval = (
        "" if number.low is None or number.high is None else f" ({number.low:.4g} to {number.high:.4g})"
    )
    return f"{number.value:.4g}{interval}"


def _floor(number: Number) -> str:
    return "not known" if number.floor is None else f"{number.floor:.4g}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(plain(str(word)) for word in words) or "not recorded"
