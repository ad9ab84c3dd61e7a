from __future__ import annotations

from collections import Counter

import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.data.phantom.anatomy import CLASSES
from cytoforge.data.phantom.faults import COPIES, FAULTS, SINGLE, plan


def test_photos_hold_three_to_six_cells_of_one_class() -> None:
    slots = plan(50, 0, ())
    assert Counter(slot.folder for slot in slots) == dict.fromkeys(CLASSES, 50)
    assert len({slot.name for slot in slots}) == len({slot.cell_seed for slot in slots}) == 250
    sizes = sorted(Counter(slot.group for slot in slots).values())
    assert sizes[-1] <= 6
    assert sizes[5] >= 3
    assert not any(slot.fault for slot in slots)


def test_each_fault_is_planted_once_in_a_hundred_in_each_class_and_never_two_in_one_file() -> None:
    slots = plan(200, 0, tuple(FAULTS))
    assert len(slots) == 1000
    planted = Counter((slot.folder, slot.fault) for slot in slots if slot.fault != "leak")
    assert all(planted[label, fault] == 2 for label in CLASSES for fault in COPIES + SINGLE)
    touched = [s.name for s in slots if s.fault] + [s.source.name for s in slots if s.source]
    assert len(touched) == len(set(touched))


def test_copies_lie_in_another_photo_of_the_same_slide() -> None:
    for slot in plan(100, 1, COPIES):
        if slot.source:
            assert slot.folder == slot.source.folder
            assert slot.slide_seed == slot.source.slide_seed
            assert slot.group != slot.source.group


def test_a_mislabelled_cell_is_what_its_folder_does_not_say() -> None:
    assert all((s.label != s.folder) == (s.fault == "mislabelled") for s in plan(40, 2, ("mislabelled",)))


def test_a_published_split_is_clean_but_for_the_planted_leaks() -> None:
    slots = plan(100, 0, ("leak", *COPIES))
    parts: dict[str, set[str | None]] = {}
    for slot in slots:
        parts.setdefault(slot.group, set()).add(slot.part)
        assert slot.source is None or slot.source.part == slot.part
    leaking = {group for group, found in parts.items() if len(found) > 1}
    assert leaking == {slot.group for slot in slots if slot.fault == "leak"}
    assert len(leaking) == 5
    assert {part for found in parts.values() for part in found} == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("per_class", "faults", "what"),
    [(0, (), "at least one"), (50, ("ghost",), "duplicate"), (20, ("blurred",), "30")],
)
def test_impossible_plans_are_refused_with_the_way_out(
    per_class: int, faults: tuple[str, ...], what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        plan(per_class, 0, faults)
