"""A synthetic set and the real cells it imitates become metrics.json and report.html."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import sha256_file
from cytoforge.core.symmetry import SYMMETRIES, turn
from cytoforge.evaluation.classes import confusion, same_mix, shares_recognised, train_classifier
from cytoforge.evaluation.comparison import RULES, FeatureSet, K, compare
from cytoforge.evaluation.copies import CLOSEST, FEWEST, SIDE, Search, copy_rule, judge, search
from cytoforge.evaluation.features import (
    Extractor,
    another_extractor,
    fair_extractor,
    network_of,
    open_extractor,
)
from cytoforge.evaluation.metrics import ClassCorrectness, Comparison, Copies, Counts, Metrics
from cytoforge.evaluation.morphometry import RULES as MORPHOMETRY_RULES
from cytoforge.evaluation.selection import Selection, selection_of
from cytoforge.evaluation.statistics import bootstrap_mean, wilson
from cytoforge.evaluation.verdicts import RULES as VERDICT_RULES
from cytoforge.evaluation.verdicts import verdicts, warnings
from cytoforge.networks.mobilenet_v2 import INSTALL
from cytoforge.report.build import Evidence, Pair, build_report
from cytoforge.sampling.provenance import Manifest
from cytoforge.sampling.sealed import MANIFEST
from cytoforge.stages.compared import (
    Images,
    flattery,
    joined,
    looks_at,
    open_with_real,
    opponent_of,
    part_images,
    synthetic_images,
)
from cytoforge.stages.morphometry import MaskSource, morphometry


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 2)


def evaluate(
    synthetic: Path,
    real: Path,
    out: Path,
    *,
    split: Path | None = None,
    extractor: str | None = None,
    layout: str | None = None,
    alpha: float = 0.01,
    seed: int = 0,
    audit: Path | None = None,
    real_images: bool = True,
    masks: MaskSource = "given",
) -> Metrics:
    """Measure a synthetic set and write `out`/metrics.json and `out`/report.html.

    Args:
        synthetic: set made by generate.
        real: folder of the real cells that the generator was trained on.
        out: folder for the results.
        split: the split.json of the training; where missing, that of the run that the set names.
        extractor: name of the network whose features are compared, see `open_extractor`; where not given, the
            default or one that neither trained the generator nor chose its images, see `fair_extractor`.
        layout: of `real`; where missing, as in training.
        alpha: false-alarm rate of the copy test for one image.
        seed: of thinning, divisions and bootstrap.
        audit: folder with the audit.json of the real cells, for the report.
        real_images: whether the report may show real cells.
        masks: whose masks the cells are measured by: "given" where both sides have them, "unsupervised" made
            from the pictures of both sides, or "none" to measure nothing.

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError: there is no split, it is not that of the training, or the extractor cannot be had.
        DataError: the set or the real cells cannot be used, or `out` cannot be written.
    """
    if not 0 < alpha < 0.5:
        raise ConfigError(f"the false-alarm rate must lie between 0 and 0.5, got {alpha}.")
    clock = _Clock()
    with clock.measure("reading"):
        opened = open_with_real(synthetic, real, split, layout)
    manifest, run, division, cached, pixels = (
        opened.manifest, opened.run, opened.split, opened.cells, opened.pixels
    )  # fmt: skip
    manifest_sha256 = sha256_file(synthetic / MANIFEST)
    opponent = opponent_of(manifest.header.method, run)
    chosen = selection_of(synthetic, manifest_sha256)
    chooser = None if chosen is None else chosen.network
    network = fair_extractor(opponent, chooser) if extractor is None else open_extractor(extractor)
    with clock.measure("features"):
        fake = synthetic_images(pixels, manifest, cached, network)
        parts = {part: part_images(cached, division, part, network) for part in ("train", "val", "test")}
    train, holdout = parts["train"], parts["test"]
    real_features = joined([part.features for part in parts.values()])
    names = cached.shape.classes
    with clock.measure("set scores"):
        overall, notes = compare(holdout.features, fake.features, real_features, names, seed)
        classes = _per_class(holdout.features, fake.features, real_features, names, seed)
    with clock.measure("classes"):
        correctness = _correctness(train, holdout, fake, names, seed)
    with clock.measure("morphometry"):
        measured = morphometry(synthetic, opened, masks, seed)
    searcher = fair_extractor(opponent, side=SIDE)
    found, copies = _search(train, holdout, fake, manifest, alpha, searcher, clock)
    metrics = Metrics(
        extractor=network.name,
        resolution=cached.shape.resolution,
        k=K,
        split_sha256=division.sha256,
        manifest_sha256=manifest_sha256,
        config_sha256=manifest.header.config_sha256,
        counts=Counts(synthetic=len(fake), holdout=len(holdout), train=len(train), real=len(real_features)),
        overall=overall.numbers,
        sizes={"real": overall.n_real, "synthetic": overall.n_fake},
        collapse=overall.collapse,
        classes=classes,
        copies=copies,
        class_correctness=correctness,
        morphometry=measured,
        rules={
            **RULES,
            **VERDICT_RULES,
            "copies": copy_rule(searcher.name),
            **(MORPHOMETRY_RULES if measured else {}),
        },
        seconds=clock.seconds,
    )
    partial = [*_partial(network, opponent, chosen), *_searched_by_opponent(opponent, copies)]
    lines = {"verdicts": verdicts(metrics), "warnings": (*partial, *notes, *warnings(metrics, alpha))}
    metrics = metrics.model_copy(update=lines)
    metrics.save(out / "metrics.json")
    evidence = _evidence(fake, train, holdout, found, copies, names, selected=chosen is not None)
    build_report(
        out / "report.html",
        metrics.model_dump(mode="json"),
        evidence,
        synthetic=synthetic,
        run=None if run is None else run.path,
        audit=audit,
        real_images=real_images,
    )
    return metrics


def _partial(network: Extractor, opponent: str | None, chosen: Selection | None) -> list[str]:
    """Warnings where training or `select` used what measures here."""
    lines = flattery(network, opponent, chooser=None if chosen is None else chosen.network)
    if chosen is None:
        return lines
    share = f"{chosen.kept} of {chosen.images} were kept"
    if "copies" in chosen.rules:
        lines.append(
            f"These images were chosen by the copies rule ({share}), so finding no copies among them says "
            "little about the generator: evaluate the set as it was before."
        )
    if network.network == chosen.network:
        another = another_extractor(network.network, opponent)
        lines.append(
            f"These images were chosen by the features of {chosen.network} ({share}), which measure here: "
            f"distances and the share whose class is recognised flatter them. Judge by another one: "
            f"--extractor {another}."
        )
    return lines


def _searched_by_opponent(opponent: str | None, copies: Copies | None) -> list[str]:
    """A warning where no second network is installed and copies were searched by that of the training."""
    if copies is None or opponent != network_of(copies.extractor):
        return []
    return [
        f"Copies were searched by {copies.extractor}, a network that the generator was trained against, and "
        "in coarse 8 x 8 pictures, whichever network measures the rest: finding none says less. After "
        f"`{INSTALL}` a second network searches them."
    ]


def _per_class(
    holdout: FeatureSet, fake: FeatureSet, real: FeatureSet, classes: tuple[str, ...], seed: int
) -> dict[str, Comparison]:
    """The same comparison inside each class that has synthetic images."""
    found = {}
    for label, name in enumerate(classes):
        own = fake.of(label)
        if len(own):
            found[name], _ = compare(holdout.of(label), own, real.of(label), classes, seed)
    return found


def _correctness(
    train: Images, holdout: Images, fake: Images, classes: tuple[str, ...], seed: int
) -> ClassCorrectness | None:
    if len(train) < 2 or len(np.unique(train.features.labels)) < 2:
        return None
    classifier = train_classifier(train.features.values, train.features.labels)
    asked = fake.features.labels
    table = confusion(asked, classifier.predict(fake.features.values), len(classes))
    right = int(np.trace(np.array(table)))
    low, high = wilson(right, len(fake))
    accuracy = holdout_low = holdout_high = None
    holdout_table: tuple[tuple[int, ...], ...] = ((0,) * len(classes),) * len(classes)
    if len(holdout):
        true = holdout.features.labels
        recognised = classifier.predict(holdout.features.values)
        holdout_table = confusion(true, recognised, len(classes))
        hits = (recognised == true).astype(np.float64)
        weights = same_mix(true, asked, len(classes))
        if weights.any():
            accuracy = float(np.average(hits, weights=weights))
            holdout_low, holdout_high = bootstrap_mean(
                hits, holdout.features.groups, seed=seed, weights=weights
            )
    return ClassCorrectness(
        accuracy=right / len(fake),
        low=low,
        high=high,
        holdout_accuracy=accuracy,
        holdout_low=holdout_low,
        holdout_high=holdout_high,
        labels=classes,
        confusion=table,
        holdout_confusion=holdout_table,
        classes=shares_recognised(table, classes),
        holdout_classes=shares_recognised(holdout_table, classes),
    )


def _search(
    train: Images,
    holdout: Images,
    fake: Images,
    manifest: Manifest,
    alpha: float,
    searcher: Extractor,
    clock: _Clock,
) -> tuple[Search | None, Copies | None]:
    """Copies of training cells; None where there are too few cells to tell."""
    if min(len(train), len(holdout)) < FEWEST:
        return None, None
    with clock.measure("features"):
        looks = looks_at(train, holdout, fake, searcher)
    with clock.measure("copies"):
        found = search(looks, train.features, holdout.features, fake.features)
        if not found.scores.checked.any():
            return None, None
        labels, seeds = zip(*((entry.label, entry.seed) for entry in manifest.images), strict=True)
        photos = train.features.groups, holdout.features.groups
        return found, judge(
            found, looks[0], fake.names, labels, seeds, train.names, photos, searcher.name, alpha
        )


def _evidence(
    fake: Images,
    train: Images,
    holdout: Images,
    found: Search | None,
    copies: Copies | None,
    classes: tuple[str, ...],
    *,
    selected: bool,
) -> Evidence:
    real = {name: holdout.pixels[holdout.features.labels == label] for label, name in enumerate(classes)}
    made = {name: fake.pixels[fake.features.labels == label] for label, name in enumerate(classes)}
    if found is None or copies is None:
        return Evidence(real=real, synthetic=made, selected=selected)
    return Evidence(
        real=real,
        synthetic=made,
        pairs=_pairs(fake, train, copies),
        copy_distances=found.scores.fake[found.scores.checked],
        holdout_distances=found.scores.holdout,
        selected=selected,
    )


def _pairs(fake: Images, train: Images, copies: Copies) -> list[Pair]:
    """The closest images beside their training cells, both the same way up."""
    made, trained = ({name: index for index, name in enumerate(images.names)} for images in (fake, train))
    pairs = []
    for closest in copies.closest[:CLOSEST]:
        upright = fake.pixels[made[closest.file]]
        ratio = closest.score / copies.threshold if copies.threshold > 0 else 1.0
        pairs.append(
            Pair(
                synthetic=turn(upright[None], SYMMETRIES.index(closest.view))[0],
                nearest=train.pixels[trained[closest.train]],
                label=closest.label,
                seed=closest.seed,
                file=closest.file,
                ratio=ratio,
                flagged=closest.flagged,
            )
        )
    return pairs
