"""A synthetic set and the real cells it imitates become metrics.json and report.html."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes, sha256_file
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.data.cache import CachedCells, cache_directory, open_cache
from cytoforge.data.cells import Part
from cytoforge.data.folder import open_cells
from cytoforge.data.split import Split, check_split
from cytoforge.data.transform import Preparation
from cytoforge.evaluation.classes import confusion, shares_recognised, train_classifier
from cytoforge.evaluation.comparison import RULES, FeatureSet, K, compare
from cytoforge.evaluation.copies import CLOSEST, EXTRACTOR, FEWEST, Look, Search, judge, search
from cytoforge.evaluation.copies import RULE as COPY_RULE
from cytoforge.evaluation.features import DEFAULT_EXTRACTOR, Extractor, extract, open_extractor, symmetries
from cytoforge.evaluation.memorisation import VIEWS, layout
from cytoforge.evaluation.metrics import ClassCorrectness, Comparison, Copies, Counts, Metrics
from cytoforge.evaluation.statistics import bootstrap_mean, wilson
from cytoforge.evaluation.verdicts import RULES as VERDICT_RULES
from cytoforge.evaluation.verdicts import verdicts, warnings
from cytoforge.report.build import Evidence, Pair, build_report
from cytoforge.sampling.provenance import MANIFEST, Header, Manifest, read_manifest


@dataclass(frozen=True)
class _Images:
    """Images with their classes, names and groups, and what the extractor sees in them."""

    pixels: NDArray[np.uint8]
    names: tuple[str, ...]
    features: FeatureSet

    def __len__(self) -> int:
        return len(self.names)


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
    extractor: str = DEFAULT_EXTRACTOR,
    data_layout: str | None = None,
    group: str | None = None,
    alpha: float = 0.01,
    seed: int = 0,
    audit: Path | None = None,
    real_images: bool = True,
) -> Metrics:
    """Measure a synthetic set and write `out`/metrics.json and `out`/report.html.

    Args:
        synthetic: set made by generate.
        real: folder of the real cells that the generator was trained on.
        out: folder for the results.
        split: the split.json of the training; where missing, that of the run that the set names.
        extractor: name of the network whose features are compared, see `open_extractor`.
        data_layout: layout of `real`; where missing, as in training.
        group: pattern of the group; where missing, as in training.
        alpha: false-alarm rate of the copy test for one image.
        seed: of thinning, divisions and bootstrap.
        audit: folder with the audit.json of the real cells, for the report.
        real_images: whether the report may show real cells.

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError: there is no split, it is not that of the training, or the extractor cannot be had.
        DataError: the set or the real cells cannot be used, or `out` cannot be written.
    """
    if not 0 < alpha < 0.5:
        raise ConfigError(f"the false-alarm rate must lie between 0 and 0.5, got {alpha}.")
    manifest = read_manifest(synthetic)
    run = _run_of(synthetic, manifest.header)
    division = _find_split(split, run, manifest.header)
    clock = _Clock()
    with clock.measure("reading"):
        cached = _real_cells(real, division, manifest.header, run, data_layout, group)
        pixels = _read_set(synthetic, manifest, cached)
    network = open_extractor(extractor)
    with clock.measure("features"):
        fake = _synthetic(pixels, manifest, cached, network)
        parts = {part: _part(cached, division, part, network) for part in ("train", "val", "test")}
    train, holdout = parts["train"], parts["test"]
    real_features = _joined([part.features for part in parts.values()])
    names = cached.shape.classes
    with clock.measure("set scores"):
        overall, notes = compare(holdout.features, fake.features, real_features, names, seed)
        classes = _per_class(holdout.features, fake.features, real_features, names, seed)
    with clock.measure("classes"):
        correctness = _correctness(train, holdout, fake, names, seed)
    found, copies = _search(train, holdout, fake, manifest, alpha, clock)
    metrics = Metrics(
        extractor=network.name,
        resolution=cached.shape.resolution,
        k=K,
        split_sha256=division.sha256,
        manifest_sha256=sha256_file(synthetic / MANIFEST),
        counts=Counts(synthetic=len(fake), holdout=len(holdout), train=len(train), real=len(real_features)),
        overall=overall.numbers,
        sizes={"real": overall.n_real, "synthetic": overall.n_fake},
        collapse=overall.collapse,
        classes=classes,
        copies=copies,
        class_correctness=correctness,
        rules={**RULES, **VERDICT_RULES, "copies": COPY_RULE},
        seconds=clock.seconds,
    )
    lines = {"verdicts": verdicts(metrics), "warnings": (*notes, *warnings(metrics, alpha))}
    metrics = metrics.model_copy(update=lines)
    metrics.save(out / "metrics.json")
    evidence = _evidence(fake, train, holdout, found, copies, names)
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


def _run_of(synthetic: Path, header: Header) -> Run | None:
    path = (synthetic / header.run).resolve()
    return Run.open(path) if (path / "config.json").is_file() else None


def _find_split(given: Path | None, run: Run | None, header: Header) -> Split:
    """The split of the training; another would put training cells into the holdout."""
    if given is None and (run is None or not run.split_path.is_file()):
        raise ConfigError(
            f"the run of this set is not at {header.run!r} any more, so its split is unknown; "
            "give the split.json that the generator was trained with: --split RUN/split.json."
        )
    path = given if given is not None or run is None else run.split_path
    assert path is not None
    split = Split.load(path)
    if header.split_sha256 is not None and split.sha256 != header.split_sha256:
        raise ConfigError(
            f"{path} is not the split that this generator was trained with ({split.sha256[:12]}, expected "
            f"{header.split_sha256[:12]}): cells it was trained on would count as unseen. Give the "
            "split.json of its run."
        )
    return split


def _real_cells(
    root: Path,
    split: Split,
    header: Header,
    run: Run | None,
    data_layout: str | None,
    group: str | None,
) -> CachedCells:
    """The real cells, prepared as in training."""
    trained: dict[str, Any] = {} if run is None else run.config.get("data", {})
    cells = open_cells(
        root,
        data_layout or trained.get("layout") or "auto",
        trained.get("group") if group is None else group,
    )
    if tuple(cells.classes) != header.classes:
        raise DataError(
            f"{root} has the classes {', '.join(cells.classes)}, but the set was made for "
            f"{', '.join(header.classes)}; give the folder that the generator was trained on."
        )
    check_split(split, cells)
    try:
        preparation = Preparation.model_validate(header.preparation)
    except ValidationError as error:
        raise DataError(f"the manifest's preparation cannot be understood: {error}.") from error
    return open_cache(cells, preparation)


def _read_set(synthetic: Path, manifest: Manifest, cached: CachedCells) -> NDArray[np.uint8]:
    """All images of the set, each checked against its hash: (N, R, R, 3)."""
    if not manifest.images:
        raise DataError(f"{synthetic} holds no images; generate some first.")
    side = cached.shape.resolution
    pixels = np.empty((len(manifest.images), side, side, 3), np.uint8)
    for index, entry in enumerate(manifest.images):
        path = synthetic / entry.file
        content = path.read_bytes() if path.is_file() else b""
        if entry.sha256 is None or sha256_bytes(content) != entry.sha256:
            raise DataError(
                f"{path} is missing or not as its manifest says; run `cytoforge verify {synthetic}`, "
                "then generate the set again."
            )
        image, _ = decode_png(content)
        if image.shape != (side, side, 3):
            raise DataError(
                f"{path} has {image.shape[1]} x {image.shape[0]} px but real cells were prepared with {side} "
                "px; numbers of different resolutions cannot be compared. Generate the set again."
            )
        pixels[index] = image
    return pixels


def _synthetic(
    pixels: NDArray[np.uint8], manifest: Manifest, cached: CachedCells, network: Extractor
) -> _Images:
    index = {label: position for position, label in enumerate(cached.shape.classes)}
    labels = np.array([index[entry.label] for entry in manifest.images], np.int64)
    names = tuple(entry.file for entry in manifest.images)
    values = extract(pixels, network, cache_directory())
    return _Images(pixels, names, FeatureSet(values, labels, names, network.name, cached.shape.resolution))


def _part(cached: CachedCells, split: Split, part: Part, network: Extractor) -> _Images:
    """The real cells of one part; empty where the split has none."""
    wanted = set(split.names(part))
    kept = np.array([index for index, name in enumerate(cached.names) if name in wanted], np.int64)
    pixels = cached.read(kept)
    names = tuple(cached.names[index] for index in kept)
    features = FeatureSet(
        extract(pixels, network, cache_directory()),
        cached.labels[kept],
        tuple(split.groups[name] for name in names),
        network.name,
        cached.shape.resolution,
    )
    return _Images(pixels, names, features)


def _joined(sets: list[FeatureSet]) -> FeatureSet:
    return FeatureSet(
        np.concatenate([each.values for each in sets]),
        np.concatenate([each.labels for each in sets]),
        tuple(group for each in sets for group in each.groups),
        sets[0].extractor,
        sets[0].resolution,
    )


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
    train: _Images, holdout: _Images, fake: _Images, classes: tuple[str, ...], seed: int
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
        accuracy = float(hits.mean())
        holdout_low, holdout_high = bootstrap_mean(hits, holdout.features.groups, seed=seed)
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
    train: _Images,
    holdout: _Images,
    fake: _Images,
    manifest: Manifest,
    alpha: float,
    clock: _Clock,
) -> tuple[Search | None, Copies | None]:
    """Copies of training cells; None where there are too few cells to tell."""
    if min(len(train), len(holdout)) < FEWEST:
        return None, None
    with clock.measure("features"):
        looks = _looks(train, holdout, fake, open_extractor(EXTRACTOR))
    with clock.measure("copies"):
        found = search(looks)
        labels, seeds = zip(*((entry.label, entry.seed) for entry in manifest.images), strict=True)
        return found, judge(found, looks[0], fake.names, labels, seeds, train.names, alpha)


def _looks(train: _Images, holdout: _Images, fake: _Images, network: Extractor) -> tuple[Look, Look]:
    """All images in the extractor's features and as coarse pictures, upright and in all symmetries."""
    coarse = Look(layout(train.pixels), layout(symmetries(holdout.pixels)), layout(symmetries(fake.pixels)))
    trained = extract(train.pixels, network, cache_directory())
    return Look(trained, _views(holdout, network), _views(fake, network)), coarse


def _views(images: _Images, network: Extractor) -> NDArray[np.float64]:
    """Features of the eight symmetries: (N, 8, D)."""
    count, side = images.pixels.shape[:2]
    turned = symmetries(images.pixels).reshape(count * len(VIEWS), side, side, 3)
    return extract(turned, network, cache_directory()).reshape(count, len(VIEWS), network.dim)


def _evidence(
    fake: _Images,
    train: _Images,
    holdout: _Images,
    found: Search | None,
    copies: Copies | None,
    classes: tuple[str, ...],
) -> Evidence:
    real = {name: holdout.pixels[holdout.features.labels == label] for label, name in enumerate(classes)}
    made = {name: fake.pixels[fake.features.labels == label] for label, name in enumerate(classes)}
    if found is None or copies is None:
        return Evidence(real=real, synthetic=made)
    return Evidence(
        real=real,
        synthetic=made,
        pairs=_pairs(fake, train, copies),
        copy_distances=found.fake,
        holdout_distances=found.holdout,
    )


def _pairs(fake: _Images, train: _Images, copies: Copies) -> list[Pair]:
    """The closest images beside their training cells, both the same way up."""
    made, trained = ({name: index for index, name in enumerate(images.names)} for images in (fake, train))
    pairs = []
    for closest in copies.closest[:CLOSEST]:
        turned = symmetries(fake.pixels[made[closest.file]][None])[0, VIEWS.index(closest.view)]
        ratio = closest.score / copies.threshold if copies.threshold > 0 else 1.0
        pairs.append(
            Pair(
                synthetic=turned,
                nearest=train.pixels[trained[closest.train]],
                label=closest.label,
                seed=closest.seed,
                file=closest.file,
                ratio=ratio,
                flagged=closest.flagged,
            )
        )
    return pairs
