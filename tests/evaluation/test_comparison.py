from __future__ import annotations

import numpy as np
import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.evaluation import comparison
from cytoforge.evaluation.comparison import FeatureSet, compare
from cytoforge.evaluation.verdicts import variety

CLASSES = ("a", "b")


def features(counts: tuple[int, int], seed: int, name: str = "r", spread: float = 1.0) -> FeatureSet:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], counts)
    values = np.array([[0.0] * 6, [1.0] * 6])[labels] + spread * rng.normal(size=(len(labels), 6))
    groups = tuple(f"{name}{row // 4}" for row in range(len(labels)))
    return FeatureSet(values, labels, groups, "x@64", 64)


def joined(*sets: FeatureSet) -> FeatureSet:
    return FeatureSet(
        np.concatenate([each.values for each in sets]),
        np.concatenate([each.labels for each in sets]),
        tuple(group for each in sets for group in each.groups),
        "x@64",
        64,
    )


HOLDOUT, TRAIN = features((60, 40), 0, "h"), features((240, 160), 1, "t")
REAL = joined(HOLDOUT, TRAIN)


def test_honest_images_lie_within_the_floors() -> None:
    found, warnings = compare(HOLDOUT, features((90, 60), 2), REAL, CLASSES)
    assert not warnings
    assert (found.count, found.n_real, found.n_fake) == (150, 100, 150)
    for name, number in found.numbers.items():
        width = number.floor_high - number.floor_low
        assert number.floor_low - width < number.value < number.floor_high + width, name
        assert number.floor_repeats == 20
    assert found.numbers["kernel_distance"].low < 0.0 < found.numbers["kernel_distance"].high
    assert not found.collapse.collapsed


def test_bad_images_lie_outside() -> None:
    found, _ = compare(HOLDOUT, features((90, 60), 2, spread=0.2), REAL, CLASSES)
    assert found.numbers["frechet_distance"].value > found.numbers["frechet_distance"].floor_high
    assert found.numbers["recall"].value < found.numbers["recall"].floor_low
    assert found.collapse.repeated > 0.5
    assert found.collapse.collapsed


def test_images_are_thinned_to_the_mix_of_the_holdout() -> None:
    found, warnings = compare(HOLDOUT, features((100, 60), 2), REAL, CLASSES)
    assert found.n_fake == 90 + 60
    assert not warnings
    found, warnings = compare(HOLDOUT, features((100, 4), 2), REAL, CLASSES)
    assert found.n_fake == 104
    assert "Class shares" in warnings[0]


@pytest.mark.parametrize(
    ("unseen", "others", "made", "compared"),
    [
        ((32, 32), (128, 128), (100, 100), (64, 200)),
        ((32, 32), (128, 128), (200, 200), (64, 256)),
        ((30, 10), (120, 40), (80, 80), (40, 80 + 26)),
        ((40, 2), (160, 8), (100, 100), (42, 100 + 5)),
        ((3, 3), (12, 12), (20, 20), (6, 0)),
    ],
)
def test_nothing_is_left_out_where_all_classes_have_room(unseen, others, made, compared) -> None:
    """As many images as there are in the mix of the unseen cells, or as there are other real cells to match.

    Six unseen cells are too few for numbers.
    """
    holdout = features(unseen, 0, "h")
    found, warnings = compare(holdout, features(made, 2), joined(holdout, features(others, 1, "t")), CLASSES)
    assert (found.n_real, found.n_fake if found.numbers else 0) == compared
    assert not warnings


@pytest.mark.parametrize(
    ("unseen", "others", "made", "compared", "told"),
    [
        ((40, 2), (200, 6), (200, 200), (42, 120 + 6), "Only 126 of 400"),
        ((20, 20), (60, 0), (60, 60), (20 + 10, 20 + 10), "Only 30 of 120"),
        ((60, 40), (240, 160), (900, 600), (100, 240 + 160), "Only 400 of 1,500"),
        ((160, 3), (640, 1), (500, 500), (160, 500), "Too few real cells of b"),
        ((60, 1), (240, 0), (100, 100), (60, 100), "Too few real cells of b"),
    ],
)
def test_few_real_cells_of_a_class_cost_few_images_and_are_told(unseen, others, made, compared, told) -> None:
    """What the mix of unseen cells allows, what floors have room for, and what is left.

    First: (200, 10), with room for 6 of b, so 6/10 of both. Second: half of b is for each side, so (60, 30),
    with room for 10. Fourth: (500, 6), with room for 2, so (166, 2); without b (500, 0).
    """
    holdout = features(unseen, 0, "h")
    found, warnings = compare(holdout, features(made, 2), joined(holdout, features(others, 1, "t")), CLASSES)
    assert (found.n_real, found.n_fake) == compared
    assert found.numbers["frechet_distance"].floor is not None
    assert [line[: len(told)] for line in warnings] == [told]


def test_few_divisions_do_not_make_a_perfect_generator_less_varied(monkeypatch) -> None:
    """Beside the least of three divisions six of these twenty were "unsure"."""
    monkeypatch.setattr(comparison, "_repeats", lambda images: 3)
    tones = []
    for seed in range(20):
        cells = [features((40, 0), 3 * seed + part, name) for part, name in enumerate("htf")]
        found, _ = compare(cells[0], cells[2], joined(*cells[:2]), CLASSES, seed)
        tones.append(variety(found.numbers, []).tone)
    assert tones.count("good") >= 18


def test_one_generated_class_is_compared_with_that_class_only() -> None:
    found, _ = compare(HOLDOUT, features((0, 40), 2), REAL, CLASSES)
    assert (found.n_real, found.n_fake) == (40, 40)


def test_too_few_images_give_no_numbers() -> None:
    found, _ = compare(HOLDOUT, features((4, 4), 2), REAL, CLASSES)
    assert found.numbers == {}
    assert found.count == 8


def test_result_does_not_depend_on_chance() -> None:
    fake = features((100, 60), 2)
    assert compare(HOLDOUT, fake, REAL, CLASSES, seed=1) == compare(HOLDOUT, fake, REAL, CLASSES, seed=1)


@pytest.mark.parametrize("change", [("other@64", 64), ("x@64", 32)])
def test_features_of_other_kinds_refuse_to_be_compared(change) -> None:
    fake = features((30, 30), 2)
    fake = FeatureSet(fake.values, fake.labels, fake.groups, *change)
    with pytest.raises(ConfigError, match="cannot be compared"):
        compare(HOLDOUT, fake, REAL, CLASSES)
