"""A synthetic set becomes a smaller one without doubtful images, and what each rule does to the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import sha256_bytes, sha256_file, write_atomic, write_json
from cytoforge.core.png import encode_png
from cytoforge.core.randomness import derive
from cytoforge.core.run import ANOTHER_OUT, Run, require_empty
from cytoforge.core.settings import suggestion
from cytoforge.data.cells import Part
from cytoforge.evaluation.classes import train_classifier
from cytoforge.evaluation.comparison import FeatureSet, compare
from cytoforge.evaluation.copies import FEWEST, SIDE, search
from cytoforge.evaluation.features import (
    DEFAULT_EXTRACTOR,
    Extractor,
    another_extractor,
    fair_extractor,
    open_extractor,
)
from cytoforge.evaluation.memorisation import copy_test
from cytoforge.evaluation.metrics import Comparison
from cytoforge.evaluation.selection import FEWEST as FEWEST_CALIBRATING
from cytoforge.evaluation.selection import (
    RULES,
    SELECTION,
    class_rejections,
    region_rejections,
    selection_of,
    spared,
)
from cytoforge.sampling.card import card
from cytoforge.sampling.companions import first_images
from cytoforge.sampling.pictures import labelled_rows
from cytoforge.sampling.provenance import (
    CARD,
    CONTACT,
    INTERPOLATION,
    Companion,
    Entry,
    Manifest,
    place_of,
    set_marks,
    write_manifest,
)
from cytoforge.sampling.sealed import MANIFEST
from cytoforge.stages.compared import (
    Images,
    OpenedSet,
    joined,
    looks_at,
    open_with_real,
    opponent_of,
    part_images,
    synthetic_images,
)

_CALIBRATED = ("class", "region")
"""Rules whose limits are those of real cells of the class."""
_COLUMNS = 10
_SHOWN = ("kernel_distance", "precision", "recall", "density", "coverage", "effective_modes")

Rejected = dict[str, NDArray[np.bool_]]
"""Rule -> (N,) whether it drops each image."""


@dataclass(frozen=True)
class Selected:
    """What `select` did.

    Attributes:
        folder: the set of kept images.
        kept: their number.
        dropped: rule -> number of images that it drops.
        effects: rule, "all", "random" or "none" -> scores of what is kept, as in selection.json.
        note: what to know of the rules, which images they passed over among it; None where there is nothing.
    """

    folder: Path
    kept: int
    dropped: dict[str, int]
    effects: dict[str, dict[str, Any]]
    note: str | None


@dataclass(frozen=True)
class _Sets:
    """All images as one extractor sees them."""

    fake: Images
    train: Images
    val: Images
    test: Images


def select(
    synthetic: Path,
    real: Path,
    out: Path,
    *,
    rules: Sequence[str] = tuple(RULES),
    share: float = 0.05,
    alpha: float = 0.01,
    extractor: str = DEFAULT_EXTRACTOR,
    judge: str = "mobilenet-v2",
    split: Path | None = None,
    layout: str | None = None,
    seed: int = 0,
) -> Selected:
    """Write `out`/set without the dropped images, `out`/selection.json and `out`/dropped.png.

    The rules learn from training cells, "copies" also from those of the validation part, none from the test
    part: on it a second network judges their effect. A set that was chosen by one network's features always
    looks better to that network.

    Args:
        synthetic: set made by generate.
        real: folder of the real cells that the generator was trained on.
        out: new or empty folder.
        rules: some of "class", "region", "copies".
        share: of real cells that each of the first two rules would lose.
        alpha: false-alarm rate of the copy test for one image; with fewer than 1 / alpha - 1 validation cells
            (V) it is 1 / (V + 1), as selection.json says.
        extractor: network whose features the rules see.
        judge: network whose features the effects are measured in; neither that of the rules nor one that the
            generator was trained against.
        split: as for `evaluate`.
        layout: as for `evaluate`.
        seed: of the random selection of as many images, which is measured for comparison.

    Raises:
        ConfigError: an option makes no sense, the set was selected already, a network cannot be had or
            cannot judge, or nothing would be left.
        DataError: the set or the real cells cannot be used, the validation part is too small for "copies", or
            `out` cannot be written.
    """
    _check(rules, share, alpha)
    require_empty(out, advice=ANOTHER_OUT)
    opened = open_with_real(synthetic, real, split, layout)
    manifest, manifest_sha256 = opened.manifest, sha256_file(synthetic / MANIFEST)
    before = selection_of(synthetic, manifest_sha256)
    if before is not None:
        raise ConfigError(
            f"{synthetic} was selected already (rules {', '.join(before.rules)}), and a second selection "
            "would hide the first; give the set that it was selected from, and all rules at once."
        )
    networks = open_extractor(extractor), open_extractor(judge)
    opponent = opponent_of(manifest.header.method, opened.run)
    _check_judge(*networks, opponent)
    seen, judged = (_sets(opened, network) for network in networks)
    rejected, unchecked = _rejected(seen, rules, share, alpha)
    few = _spared(seen, rules, opened.cells.shape.classes)
    note = " ".join(
        [*_blind(networks[0], opponent, rules), *_passed_over(rules, few, unchecked, len(seen.fake))]
    )
    keep = ~np.any(list(rejected.values()), axis=0)
    if not keep.any():
        raise ConfigError(f"no image would be left: {_counts(rejected)}. Raise --share or leave rules out.")
    effects = _effects(judged, rejected, keep, opened.cells.shape.classes, seed)
    kept = tuple(entry for entry, stays in zip(manifest.images, keep, strict=True) if stays)
    _write_set(synthetic, out / "set", manifest, kept, opened.run)
    _write_dropped(out, seen, rejected, manifest)
    write_json(
        out / SELECTION,
        {
            "manifest_sha256": manifest_sha256,
            "kept_manifest_sha256": sha256_file(out / "set" / MANIFEST),
            "rules": {name: RULES[name] for name in rules},
            "share": share,
            "false_alarm_rate": max(alpha, 1 / (len(seen.val) + 1)) if "copies" in rules else alpha,
            "extractor": networks[0].name,
            "judge": networks[1].name,
            "note": note or None,
            "spared": few,
            "unchecked": unchecked,
            "images": len(keep),
            "kept": int(keep.sum()),
            "classes": _by_class(manifest, keep),
            "dropped": {
                name: [
                    entry.file for entry, drop in zip(manifest.images, rejected[name], strict=True) if drop
                ]
                for name in rejected
            },
            "effects": effects,
        },
    )
    dropped = {name: int(mask.sum()) for name, mask in rejected.items()}
    return Selected(out / "set", int(keep.sum()), dropped, effects, note or None)


def _check(rules: Sequence[str], share: float, alpha: float) -> None:
    for name in rules:
        if name not in RULES:
            raise ConfigError(
                f"--rules: there is no rule {name!r}.{suggestion(name, RULES)} Rules: {', '.join(RULES)}."
            )
    if not rules:
        raise ConfigError(f"--rules: give one or more of {', '.join(RULES)}.")
    if not 0 < share < 0.5 or not 0 < alpha < 0.5:
        raise ConfigError(f"--share and --alpha must lie between 0 and 0.5, got {share} and {alpha}.")


def _check_judge(chooser: Extractor, judge: Extractor, opponent: str | None) -> None:
    """Neither who chose the images nor who taught their generator may say how good they are."""
    if judge.network == chooser.network:
        reason = "is the network whose features choose the images (--extractor)"
    elif judge.network == opponent:
        reason = "is the network that the generator was trained against"
    else:
        return
    raise ConfigError(
        f"--judge: {judge.network} {reason}, so its scores would flatter what is kept; "
        f"judge by another one: --judge {another_extractor(chooser.network, opponent)}."
    )


def _blind(chooser: Extractor, opponent: str | None, rules: Sequence[str]) -> list[str]:
    """A note where the rules see by what the generator learned to please."""
    if chooser.network != opponent or not set(_CALIBRATED) & set(rules):
        return []
    return [
        f"The rules saw cells by {opponent}, the network that the generator was trained against, so they "
        "find less."
    ]


def _passed_over(rules: Sequence[str], few: Sequence[str], unchecked: int | None, count: int) -> list[str]:
    """Notes on images that a rule could not judge; see `_spared` and `_rejected`."""
    lines = []
    if few:
        names = " and ".join(name for name in _CALIBRATED if name in rules)
        lines.append(
            f"The rules ({names}) drop nothing of {', '.join(few)}: fewer than {FEWEST_CALIBRATING} real "
            "training cells."
        )
    if unchecked:
        lines.append(
            f"{unchecked} of {count} images were not checked for copies: their classes have fewer than "
            f"{FEWEST} training cells."
        )
    return lines


def _spared(sets: _Sets, rules: Sequence[str], classes: tuple[str, ...]) -> list[str]:
    """Classes of which the rules that were asked for cannot drop an image, but as copies."""
    if not set(_CALIBRATED) & set(rules):
        return []
    return spared(sets.train.features.labels, classes, sets.fake.features.labels)


def _sets(opened: OpenedSet, network: Extractor) -> _Sets:
    parts: tuple[Part, ...] = ("train", "val", "test")
    train, val, test = (part_images(opened.cells, opened.split, part, network) for part in parts)
    fake = synthetic_images(opened.pixels, opened.manifest, opened.cells, network)
    return _Sets(fake, train, val, test)


def _rejected(sets: _Sets, rules: Sequence[str], share: float, alpha: float) -> tuple[Rejected, int | None]:
    """What each rule drops, and how many images the copy test could not check, None without that test."""
    train, fake = sets.train.features, sets.fake.features
    found: Rejected = {}
    unchecked = None
    if "class" in rules:
        found["class"] = class_rejections(train, fake, share)
    if "region" in rules:
        found["region"] = region_rejections(train, fake, share)
    if "copies" in rules:
        found["copies"], unchecked = _copies(sets, alpha)
    return {name: found[name] for name in rules}, unchecked


def _copies(sets: _Sets, alpha: float) -> tuple[NDArray[np.bool_], int]:
    """Which images are flagged, and how many could not be checked.

    By cells of the validation part: those of the test part judge the result.
    """
    if min(len(sets.train), len(sets.val)) < FEWEST:
        raise DataError(
            f"the copy test needs {FEWEST} training and {FEWEST} validation cells, the split has "
            f"{len(sets.train)} and {len(sets.val)}; leave it out with --rules class --rules region."
        )
    looks = looks_at(sets.train, sets.val, sets.fake, fair_extractor(side=SIDE))
    found = search(looks, sets.train.features, sets.val.features, sets.fake.features)
    unchecked = int((~found.scores.checked).sum())
    if unchecked == len(sets.fake):
        return np.zeros(len(sets.fake), bool), unchecked
    return copy_test(found.scores, alpha).flagged, unchecked


def _effects(
    sets: _Sets, rejected: Rejected, keep: NDArray[np.bool_], classes: tuple[str, ...], seed: int
) -> dict[str, dict[str, Any]]:
    """Scores of what each rule keeps, of what all keep, and of a random choice of as many of each class."""
    fake = sets.fake.features
    chosen = {
        "none": np.ones(len(fake), bool),
        **{name: ~mask for name, mask in rejected.items()},
        "all": keep,
        "random": _random_choice(fake.labels, keep, seed),
    }
    every = joined([sets.train.features, sets.val.features, sets.test.features])
    right = _recognised(sets.train.features, fake)
    found = {}
    for name, mask in chosen.items():
        kept = fake.part(np.flatnonzero(mask))
        comparison, _ = compare(sets.test.features, kept, every, classes, seed)
        accuracy = None if right is None or not mask.any() else float(right[mask].mean())
        found[name] = {
            "kept": int(mask.sum()),
            "share": float(mask.mean()),
            "class_correct": accuracy,
            **_numbers(comparison),
        }
    return found


def _numbers(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    return {
        name: {"value": number.value, "floor": number.floor}
        for name, number in comparison.numbers.items()
        if name in _SHOWN
    }


def _random_choice(labels: NDArray[np.int64], keep: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng(derive(seed, "random selection"))
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        chosen[rng.permutation(own)[: int(keep[own].sum())]] = True
    return chosen


def _recognised(train: FeatureSet, fake: FeatureSet) -> NDArray[np.bool_] | None:
    if len(np.unique(train.labels)) < 2:
        return None
    recognised: NDArray[np.int64] = train_classifier(train.values, train.labels).predict(fake.values)
    right: NDArray[np.bool_] = recognised == fake.labels
    return right


def _by_class(manifest: Manifest, keep: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    labels = np.array([entry.label for entry in manifest.images])
    return {
        name: {"images": int((labels == name).sum()), "kept": int(keep[labels == name].sum())}
        for name in manifest.header.classes
    }


def _counts(rejected: Mapping[str, NDArray[np.bool_]]) -> str:
    return ", ".join(f"{name} drops {int(mask.sum())} of {len(mask)}" for name, mask in rejected.items())


def _write_set(source: Path, out: Path, manifest: Manifest, kept: tuple[Entry, ...], run: Run | None) -> None:
    """The kept files as they are, with a manifest, contact sheet and card of their own."""
    for entry in kept:
        for file in filter(None, (entry.file, entry.mask)):
            write_atomic(out / file, (source / file).read_bytes())
    place = place_of(source / manifest.header.run, out)
    header = manifest.header.model_copy(update={"run": place})
    smaller = Manifest(header, kept)
    contents = {CONTACT: encode_png(labelled_rows(first_images(out, smaller)), set_marks(header))}
    if (source / INTERPOLATION).is_file():
        contents[INTERPOLATION] = (source / INTERPOLATION).read_bytes()
    text = _card(source, smaller, len(manifest.images), run)
    if text is not None:
        contents[CARD] = text.encode()
    for name, content in contents.items():
        write_atomic(out / name, content)
    companions = tuple(
        Companion(file=name, sha256=sha256_bytes(content)) for name, content in contents.items()
    )
    write_manifest(out, Manifest(header, kept, companions))


def _card(source: Path, smaller: Manifest, before: int, run: Run | None) -> str | None:
    """Card of the kept images; where the run is gone that of all, None where there is none, with a note."""
    note = (
        f"\n## Selection\n{before - len(smaller.images)} of {before} images were dropped by "
        "`cytoforge select`: frequencies and variety are no longer those of the generator.\n"
    )
    if run is not None:
        return card(smaller, run) + note
    if not (source / CARD).is_file():
        return None
    earlier = (
        f"What stands above was written before that, for all {before}; `{MANIFEST}` lists the "
        f"{len(smaller.images)} that are left.\n"
    )
    return (source / CARD).read_text(encoding="utf-8") + note + earlier


def _write_dropped(out: Path, sets: _Sets, rejected: Rejected, manifest: Manifest) -> None:
    """A picture of what each rule drops, up to ten images of each."""
    rows = {
        f"{name}: {int(mask.sum())}": sets.fake.pixels[mask][:_COLUMNS]
        for name, mask in rejected.items()
        if mask.any()
    }
    if rows:
        picture = labelled_rows(rows, "synthetic; dropped by each rule")
        write_atomic(out / "dropped.png", encode_png(picture, set_marks(manifest.header)))
