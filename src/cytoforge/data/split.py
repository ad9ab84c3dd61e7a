"""Which cells are for training, which for choosing and which for judging."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.core.files import read_json, sha256_bytes, sha256_file, write_json
from cytoforge.core.randomness import derive
from cytoforge.core.record import Record
from cytoforge.data.cells import Cell, CellSet, Part
from cytoforge.data.folder import mask_files, read_image

PARTS: Final[tuple[Part, ...]] = ("train", "val", "test")
_STRICTEST: Final[tuple[Part, ...]] = ("test", "val", "train")
Fraction = Annotated[float, Field(ge=0, le=1)]


class Split(Record):
    """One division of a data set, with what is needed to prove later that nothing moved.

    Attributes:
        seed: what the order of the groups was drawn from.
        fractions: wanted shares of train, val and test.
        published: parts that the data set itself prescribes and that were kept.
        parts: name of a cell -> its part.
        groups: name of a cell -> its group after merging; no group lies in two parts.
        hashes: name of a cell -> SHA-256 of its file (of its pixels where many share a file).
        labels_sha256: of all names and labels; None in files of the first versions.
        masks_sha256: of the files of all masks; None where there are none, and in those first files.
        merged: pairs of groups that were made one, because they show the same cell.
        left_out: cells in no part: those that cannot be used, and training cells of a published split whose
            group is also in a stricter part.
        warnings: what a reader of results must know.
        learned: SHA-256 of cells that the weights had learned which a refinement started from, here or not;
            None where nothing was refined. No part of `sha256`: the division is the same.
    """

    format: Literal[1] = 1
    seed: int
    fractions: tuple[Fraction, Fraction, Fraction]
    published: tuple[Part, ...] = ()
    parts: dict[str, Part]
    groups: dict[str, str]
    hashes: dict[str, str]
    labels_sha256: str | None = None
    masks_sha256: str | None = None
    merged: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    learned: tuple[str, ...] | None = None

    def names(self, part: Part) -> tuple[str, ...]:
        """Names of the cells of one part, sorted."""
        return tuple(sorted(name for name, own in self.parts.items() if own == part))

    @property
    def sha256(self) -> str:
        """SHA-256 of everything in the split; equal splits have equal hashes on every machine."""
        content = self.model_dump(mode="json", exclude_none=True, exclude={"learned"})
        return sha256_bytes(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())

    def save(self, path: Path) -> None:
        """Write the split with its own hash as JSON."""
        write_json(path, {"sha256": self.sha256, **self.model_dump(mode="json", exclude_none=True)})

    @staticmethod
    def load(path: Path) -> Split:
        """Read a split and check its own hash.

        Raises:
            DataError: the file is missing, is no split, or was edited after it was written.
        """
        content = read_json(path)
        stated = content.pop("sha256", None) if isinstance(content, dict) else None
        try:
            split = Split.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"]) or "the file"
            raise DataError(
                f"{path} is not a split.json of cytoforge: {place}: {first['msg']}. "
                "Make one with `cytoforge split DATA --out DIR`."
            ) from error
        if split.sha256 != stated:
            raise DataError(
                f"{path} was changed after it was written (its content has SHA-256 {split.sha256[:12]}, "
                f"the file states {str(stated)[:12]}). Make a new one with `cytoforge split DATA --out DIR`."
            )
        return split


def split_cells(
    cells: CellSet,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    merge: Iterable[tuple[str, str]] = (),
    hashes: Mapping[str, str] | None = None,
    unusable: Collection[str] = (),
) -> Split:
    """Divide cells into train, val and test so that classes are in proportion and no group is divided.

    Groups are dealt largest first, in an order drawn from `seed`, each to the part where it brings the class
    counts n nearest to their targets t: smallest sum over classes of ((n + v - t)^2 - (n - t)^2) / t. Parts
    that the data set publishes stay as published; a training cell whose group is also in the published val or
    test part is left out. Parts that it does not publish are taken from its training part.

    Args:
        cells: what to divide.
        fractions: shares of train, val and test, each in [0, 1], together 1.
        seed: any integer.
        merge: pairs of cell names that must not be separated, such as two crops of one physical cell.
        hashes: name -> SHA-256 where already known; computed from the files otherwise.
        unusable: names of cells that cannot be decoded; they are left out.

    Returns:
        A split of all cells. What could not be had (a class of one group has no test cells) is in `warnings`.

    Raises:
        ConfigError: the fractions are not three shares of one.
        DataError: `merge` names a cell that the set does not have.
    """
    shares = _checked_fractions(fractions)
    merged_pairs, groups = _merge_groups(cells, list(merge))
    published = tuple(part for part in PARTS if any(cell.split == part for cell in cells.cells))
    usable = cells.select(name for name in groups if name not in unusable)
    fixed, leaks = _published_parts(usable, groups)
    free = sorted({groups[name] for name in usable.names} - fixed.keys())
    dealt = _deal(free, _class_counts(usable, groups, free), shares, published, seed)
    left_out = leaks | set(unusable)
    part_of = {**dealt, **fixed}
    parts = {name: part_of[group] for name, group in groups.items() if name not in left_out}
    warnings = _warnings(usable, parts, groups, leaks, shares)
    return Split(
        seed=seed,
        fractions=cast("tuple[float, float, float]", tuple(float(share) for share in shares)),
        published=published,
        parts=parts,
        groups=groups,
        hashes=dict(hashes) if hashes is not None else fingerprints(cells),
        labels_sha256=_labels_sha256(cells),
        masks_sha256=_masks_sha256(cells),
        merged=merged_pairs,
        left_out=tuple(sorted(left_out)),
        warnings=warnings,
    )


def fingerprints(cells: CellSet) -> dict[str, str]:
    """Name of each cell -> SHA-256 of its file, or of its pixels where one file holds many cells."""
    return {cell.name: _fingerprint(cell) for cell in cells.cells}


def check_same_split(split: Split, given: Path | None, run: Path) -> None:
    """Make sure that a run goes on with its own `split`, whatever file is `given`.

    Raises:
        ConfigError: the file holds another.
        DataError: it cannot be read.
    """
    if given is not None and Split.load(given).sha256 != split.sha256:
        raise ConfigError(
            f"--split {given} is not the split that {run} was begun with; leave it out, or choose another "
            "--run."
        )


def check_split(split: Split, cells: CellSet) -> None:
    """Make sure that `split` was made from these very files.

    Args:
        split: what is going to be used.
        cells: the data set as it is now.

    Raises:
        DataError: cells are missing, new, or have other content or labels.
    """
    now = fingerprints(cells)
    missing, added = sorted(split.hashes.keys() - now.keys()), sorted(now.keys() - split.hashes.keys())
    changed = sorted(name for name in split.hashes.keys() & now.keys() if split.hashes[name] != now[name])
    found = [
        f"{len(names)} {what} (first: {names[0]})"
        for names, what in ((missing, "missing"), (added, "new"), (changed, "changed"))
        if names
    ]
    if found:
        raise DataError(
            f"the split does not belong to the cells in {cells.root}: {', '.join(found)}. Restore the files, "
            "or make a new split with `cytoforge split DATA --out DIR` and train again."
        )
    if split.labels_sha256 not in (None, _labels_sha256(cells)):
        raise DataError(
            f"the cells in {cells.root} have other labels than when the split was made. Restore them, or "
            "begin again with a new split and another --out or --run: what is there was learned from the old."
        )


def check_groups_and_masks(split: Split, cells: CellSet) -> None:
    """Make sure that `split` was made with the groups and masks that the cells have now.

    Raises:
        DataError: it was not, for instance because another --group was given, or masks were redrawn.
    """
    if split.masks_sha256 is not None and split.masks_sha256 != _masks_sha256(cells):
        raise DataError(
            f"the masks in {cells.root} are others than when this was begun. Restore them, or choose another "
            "--out: what is there was made with the old ones."
        )
    own = {cell.name: cell.group for cell in cells.cells}
    items = {*own.values(), *(group for pair in split.merged for group in pair)}
    root = merge_sets(split.merged, sorted(items))
    other = [name for name, group in sorted(own.items()) if split.groups.get(name) != root[group]]
    if other:
        raise DataError(
            f"{len(other)} cells have other groups now than when this was begun (first: {other[0]}, then "
            f"in {split.groups.get(other[0])}, now in {root[own[other[0]]]}). Give the same --group and "
            "--layout, or another --out."
        )


def _labels_sha256(cells: CellSet) -> str:
    lines = sorted(f"{cell.name}\t{cell.label}" for cell in cells.cells)
    return sha256_bytes("\n".join(lines).encode())


def _masks_sha256(cells: CellSet) -> str | None:
    files = [(cell.name, path) for cell in cells.cells for path in mask_files(cell)]
    lines = sorted(f"{name}\t{path.name}\t{sha256_file(path)}" for name, path in files)
    return sha256_bytes("\n".join(lines).encode()) if lines else None


def keep_parts(split: Split, before: Split) -> Split:
    """The split with every group of which a model has learned a cell put into training again.

    Groups of which the earlier split held cells back stay held back. Cells are recognised by content, so this
    works where folders were renamed or joined.

    Args:
        split: new division.
        before: division that the model was trained with; it also knows what its weights had learned before.
    """
    parts_before = {before.hashes[name]: part for name, part in before.parts.items()}
    parts_before |= dict.fromkeys(learned_by(before), "train")
    part_of: dict[str, Part] = {}
    for name in split.parts:
        earlier = parts_before.get(split.hashes[name])
        known = part_of.get(split.groups[name])
        if earlier == "train" or (earlier is not None and known is None):
            part_of[split.groups[name]] = earlier
    parts = {name: part_of.get(split.groups[name], part) for name, part in split.parts.items()}
    return split.model_copy(update={"parts": parts})


def trained_on(split: Split, before: Split) -> tuple[str, ...]:
    """Cells held back by `split` that a model trained with `before` has learned; sorted names."""
    trained = learned_by(before)
    held = [name for name, part in split.parts.items() if part != "train"]
    return tuple(sorted(name for name in held if split.hashes[name] in trained))


def learned_by(split: Split) -> frozenset[str]:
    """SHA-256 of all cells that a model trained with this split has learned, in earlier trainings too."""
    return frozenset({split.hashes[name] for name in split.names("train")}.union(split.learned or ()))


def require_trainable(split: Split, cells: CellSet) -> None:
    """Make sure that every class can be learned.

    Raises:
        DataError: a class has fewer than two images, or none of them is in the training part.
    """
    for name in cells.classes:
        own = [cell.name for cell in cells.cells if cell.label == name]
        training = sum(split.parts.get(cell) == "train" for cell in own)
        if len(own) < 2 or training == 0:
            raise DataError(
                f"class '{name}' has {len(own)} usable image(s), {training} of them for training; a class "
                "needs at least two images, one of them for training. Add images, or move its folder out of "
                f"{cells.root}."
            )


def merge_sets(pairs: Iterable[tuple[str, str]], items: Iterable[str]) -> dict[str, str]:
    """Union-find: each item -> the smallest item that it is connected with.

    Example:
        >>> merge_sets([("b", "c"), ("c", "a")], "abcd")
        {'a': 'a', 'b': 'a', 'c': 'a', 'd': 'd'}
    """
    parent = {item: item for item in items}

    def root(item: str) -> str:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return {item: root(item) for item in parent}


def _fingerprint(cell: Cell) -> str:
    try:
        return sha256_file(cell.path) if cell.row is None else sha256_bytes(read_image(cell).tobytes())
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _checked_fractions(fractions: Sequence[float]) -> NDArray[np.float64]:
    shares = np.asarray(fractions, np.float64)
    if (
        shares.shape != (3,)
        or not np.isfinite(shares).all()
        or (shares < 0).any()
        or abs(shares.sum() - 1) > 1e-6
    ):
        raise ConfigError(
            "fractions: expected three shares of train, val and test that add up to 1, such as 0.7 0.1 0.2; "
            f"got {' '.join(str(share) for share in fractions)}."
        )
    if shares[0] == 0:
        raise ConfigError(
            "fractions: the share of train is 0; nothing could be learned. Give it more than 0."
        )
    return shares


def _merge_groups(
    cells: CellSet, pairs: list[tuple[str, str]]
) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    own = {cell.name: cell.group for cell in cells.cells}
    unknown = sorted({name for pair in pairs for name in pair} - own.keys())
    if unknown:
        raise DataError(f"merge: no cell is called '{unknown[0]}'; give names relative to {cells.root}.")
    group_pairs = {(min(own[a], own[b]), max(own[a], own[b])) for a, b in pairs if own[a] != own[b]}
    root = merge_sets(sorted(group_pairs), sorted(set(own.values())))
    return tuple(sorted(group_pairs)), {name: root[group] for name, group in own.items()}


def _published_parts(cells: CellSet, groups: Mapping[str, str]) -> tuple[dict[str, Part], set[str]]:
    """Part of each group that a published split fixes, and the cells that it must do without."""
    wanted: dict[str, set[str]] = {}
    for cell in cells.cells:
        if cell.split is not None:
            wanted.setdefault(groups[cell.name], set()).add(cell.split)
    missing = [part for part in ("val", "test") if not any(part in parts for parts in wanted.values())]
    fixed = {
        group: next(part for part in _STRICTEST if part in parts)
        for group, parts in wanted.items()
        if parts != {"train"} or not missing
    }
    left_out = {
        cell.name
        for cell in cells.cells
        if cell.split is not None and fixed.get(groups[cell.name], cell.split) != cell.split
    }
    return fixed, left_out


def _deal(
    names: list[str],
    counts: NDArray[np.int64],
    shares: NDArray[np.float64],
    published: tuple[Part, ...],
    seed: int,
) -> dict[str, Part]:
    """Part of each group from their class counts (G, K)."""
    allowed = [
        part for part in PARTS if (part == "train" or part not in published) and shares[PARTS.index(part)] > 0
    ]
    wanted = shares[[PARTS.index(part) for part in allowed]]
    choice = _assign(counts, wanted / wanted.sum(), np.random.default_rng(derive(seed, "split")))
    return {name: allowed[index] for name, index in zip(names, choice, strict=True)}


def _class_counts(cells: CellSet, groups: Mapping[str, str], names: list[str]) -> NDArray[np.int64]:
    """(G, K) how many cells of each class each group has."""
    row = {name: index for index, name in enumerate(names)}
    column = {name: index for index, name in enumerate(cells.classes)}
    counts = np.zeros((len(names), len(cells.classes)), np.int64)
    for cell in cells.cells:
        group = groups[cell.name]
        if group in row:
            counts[row[group], column[cell.label]] += 1
    return counts


def _assign(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Part of each group: (G, K) counts and (P,) shares give (G,) indices into the parts."""
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    target = np.maximum(shares[:, None] * counts.sum(0), 1e-9)
    filled = np.zeros_like(target)
    choice = np.zeros(len(counts), np.int64)
    for group in order:
        change = (counts[group] * (2 * (filled - target) + counts[group]) / target).sum(1)
        choice[group] = int(np.argmin(change))
        filled[choice[group]] += counts[group]
    return _repair(counts, choice, shares)


def _repair(
    counts: NDArray[np.int64], choice: NDArray[np.int64], shares: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Give every class a group in train, then in test, then in val, as far as its groups go."""
    needed = [0, *sorted(range(1, len(shares)), reverse=True)]
    for column in range(counts.shape[1]):
        own = np.flatnonzero(counts[:, column])
        for part in needed[: len(own)]:
            if (choice[own] == part).any():
                continue
            spare = [g for g in own.tolist() if _can_leave(counts, choice, g, needed[: needed.index(part)])]
            if spare:
                choice[min(spare, key=lambda g: (counts[g].sum(), g))] = part
    return choice


def _can_leave(counts: NDArray[np.int64], choice: NDArray[np.int64], group: int, keep: list[int]) -> bool:
    """Whether each class of `group` still has another group in its part, or the part matters less."""
    if choice[group] not in keep:
        return True
    siblings = (choice == choice[group]) & (np.arange(len(choice)) != group)
    return bool((counts[siblings].sum(0)[counts[group] > 0] > 0).all())


UNGROUPED = (
    "no photo, slide or patient is known: each cell counts as one of its own, so cells of one photo may lie "
    "in two parts and flatter every result; --group says where a file's name tells it"
)


def _warnings(
    cells: CellSet,
    parts: Mapping[str, Part],
    groups: Mapping[str, str],
    left_out: set[str],
    shares: NDArray[np.float64],
) -> tuple[str, ...]:
    lines = []
    if len({cell.group for cell in cells.cells}) == len(cells):
        lines.append(UNGROUPED)
    if left_out:
        lines.append(
            f"{len(left_out)} cells of the published split share a group with a cell of a stricter part and "
            "were left out"
        )
    for name in cells.classes:
        own = [cell.name for cell in cells.cells if cell.label == name]
        count = len({groups[cell] for cell in own})
        for part, share in zip(PARTS, shares, strict=True):
            if share > 0 and not any(parts.get(cell) == part for cell in own):
                lines.append(
                    f"class '{name}' has no cells in {part}: its {len(own)} cells form {count} group(s)"
                )
    return tuple(lines)


def split_summary(split: Split, cells: CellSet) -> dict[str, Any]:
    """Counts of cells per part and class, and of groups per part, for a reader or a log."""
    label = {cell.name: cell.label for cell in cells.cells}
    return {
        part: {
            "cells": len(split.names(part)),
            "groups": len({split.groups[name] for name in split.names(part)}),
            "classes": {
                name: sum(label[cell] == name for cell in split.names(part)) for name in cells.classes
            },
        }
        for part in PARTS
    }
