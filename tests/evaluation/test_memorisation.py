from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from cytoforge.core.errors import DataError
from cytoforge.core.symmetry import symmetries
from cytoforge.evaluation.comparison import FeatureSet
from cytoforge.evaluation.copies import Look, judge, search
from cytoforge.evaluation.diversity import precision_recall_density_coverage
from cytoforge.evaluation.fidelity import frechet_distance
from cytoforge.evaluation.memorisation import (
    CopyScores,
    authentic,
    coarse_pattern,
    copy_scores,
    copy_test,
    nearer_interval,
    nearer_to_train,
    nearest,
)

COUNT = 600


def table(seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The generators of ORACLES.md: five classes in 32-d, 600 train, 600 holdout, 600 generated."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(5, 32))[np.arange(COUNT) % 5]
    train, holdout, fresh = (centres + 1.22 * rng.normal(size=(COUNT, 32)) for _ in range(3))
    return (
        train,
        holdout,
        {
            "fresh": fresh,
            "exact": train.copy(),
            "half": np.concatenate([train[: COUNT // 2], fresh[: COUNT // 2]]),
            "tenth": np.concatenate([train[: COUNT // 10], fresh[COUNT // 10 :]]),
            "blurred": centres + 0.5 * (fresh - centres),
        },
    )


def judged(train: np.ndarray, holdout: np.ndarray, fake: np.ndarray):
    pairs = ((fake, train), (holdout, train), (fake, holdout))  # equally many on all sides
    return copy_test(scores_of(*(copy_scores(nearest(*pair)) for pair in pairs)))


def scores_of(fake, holdout, exchanged) -> CopyScores:
    every = np.ones(len(fake), bool)
    return CopyScores(fake, holdout, exchanged, holdout, np.arange(len(fake)), every, every)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, float]]:
    """Mean over ten draws of all columns of the table."""
    found: dict[str, list[list[float]]] = {}
    for seed in range(10):
        train, holdout, sets = table(seed)
        for name, fake in sets.items():
            scores = precision_recall_density_coverage(train, fake)
            found.setdefault(name, []).append(
                [
                    frechet_distance(train, fake),
                    scores["precision"],
                    scores["recall"],
                    100 * authentic(fake, train).mean(),
                    nearer_to_train(fake, train, holdout).mean(),
                ]
            )
    columns = ("fid", "precision", "recall", "authenticity", "nearer")
    return {name: dict(zip(columns, np.mean(values, axis=0), strict=True)) for name, values in found.items()}


@pytest.mark.parametrize(
    ("name", "fid", "precision", "recall", "authenticity", "nearer"),
    [
        ("fresh", 1.70, 0.84, 0.85, 70.0, 0.538),
        ("exact", 0.00, 1.00, 1.00, 0.0, 1.000),
        ("half", 0.74, 0.92, 0.93, 35.5, 0.758),
        ("tenth", 1.27, 0.86, 0.88, 66.3, 0.567),
        ("blurred", 11.3, 1.00, 0.00, 2.8, 0.522),
    ],
)
def test_table_of_copying(rows, name, fid, precision, recall, authenticity, nearer) -> None:
    found = rows[name]
    assert found["fid"] == pytest.approx(fid, abs=0.4)  # the table is of one draw
    assert found["precision"] == pytest.approx(precision, abs=0.015)
    assert found["recall"] == pytest.approx(recall, abs=0.03)
    assert found["authenticity"] == pytest.approx(authenticity, abs=3)
    assert found["nearer"] == pytest.approx(nearer, abs=0.07)


def test_every_column_orders_the_sets_by_their_copies(rows) -> None:
    """Copies are never authentic and always nearer to train: a tenth of them moves both means by a tenth."""
    order = [rows[name] for name in ("fresh", "tenth", "half", "exact")]
    for fewer, more in pairwise(order):
        assert more["fid"] < fewer["fid"] - 0.1
        assert more["precision"] > fewer["precision"] + 0.01
        assert more["recall"] > fewer["recall"] + 0.01
    fresh, tenth = order[:2]
    assert tenth["authenticity"] == pytest.approx(0.9 * fresh["authenticity"], abs=1)
    assert tenth["nearer"] == pytest.approx(0.1 + 0.9 * fresh["nearer"], abs=0.01)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("name", "copies"), [("fresh", 0), ("exact", 600), ("half", 300), ("tenth", 60), ("blurred", 0)]
)
def test_each_image_is_judged_and_blur_is_no_copy(seed, name, copies) -> None:
    train, holdout, sets = table(seed)
    test = judged(train, holdout, sets[name])
    assert test.alarms().found() == (copies > 0)
    assert test.flagged[:copies].all()
    assert test.flagged[copies:].sum() <= (25 if name == "blurred" else 15)


def test_false_alarms_of_honest_images_keep_to_the_stated_rate() -> None:
    rng = np.random.default_rng(0)
    shares, ranges, found = [], [], []
    for _ in range(60):
        train, holdout, fake = rng.normal(size=(3, 150, 6))
        test = judged(train, holdout, fake)
        shares.append(test.flagged.mean())
        ranges.append(test.honest_range[0] <= test.flagged.sum() <= test.honest_range[1])
        found.append(test.alarms().found())
    assert np.mean(shares) < 0.016
    assert np.mean(ranges) > 0.9
    assert sum(found) <= 2


def test_p_values_by_hand() -> None:
    scores = scores_of(np.array([0.05, 0.25, 0.9]), np.array([0.1, 0.2, 0.3]), np.ones(3))
    test = copy_test(scores, alpha=0.5)
    assert test.p_values.tolist() == [0.25, 0.75, 1.0]
    assert test.flagged.tolist() == [True, False, False]
    assert test.threshold == 0.2


def test_a_small_holdout_raises_the_rate_and_says_so() -> None:
    test = copy_test(scores_of(np.full(3, 0.5), np.linspace(0.6, 1, 19), np.ones(3)), alpha=0.01)
    assert test.alpha == pytest.approx(1 / 20)
    with pytest.raises(DataError):
        copy_test(scores_of(np.ones(3), np.ones(0), np.ones(3)))


def test_nearest_takes_the_best_view() -> None:
    reference = np.array([[0.0, 0.0], [10.0, 0.0]])
    queries = np.array([[[50.0, 0.0], [9.0, 0.0]], [[1.0, 0.0], [99.0, 0.0]]])
    found = nearest(queries, reference, k=2)
    assert found.indices.tolist() == [[1, 0], [0, 1]]
    assert found.views.tolist() == [1, 0]
    np.testing.assert_allclose(found.distances, [[1, 9], [1, 9]])


def test_nearer_to_train_equals_thinning_by_hand() -> None:
    rng = np.random.default_rng(0)
    train, holdout, fake = rng.normal(size=(30, 3)), rng.normal(size=(10, 3)), rng.normal(size=(5, 3))
    draws = []
    for _ in range(4000):
        part = train[rng.choice(30, 10, replace=False)]
        distances = [nearest(fake, each, k=1).distances[:, 0] for each in (part, holdout)]
        draws.append(distances[0] < distances[1])
    np.testing.assert_allclose(nearer_to_train(fake, train, holdout), np.mean(draws, axis=0), atol=0.03)
    mirrored = nearer_to_train(fake, holdout, train)
    np.testing.assert_allclose(mirrored, 1 - nearer_to_train(fake, train, holdout), atol=1e-9)


def test_nearer_to_train_is_one_half_for_honest_images() -> None:
    rng = np.random.default_rng(0)
    train, holdout, fake = rng.normal(size=(900, 5)), rng.normal(size=(200, 5)), rng.normal(size=(900, 5))
    assert nearer_to_train(fake, train, holdout).mean() == pytest.approx(0.5, abs=0.05)


def test_nearer_to_train_counts_photos() -> None:
    """Of two training photos, thinned to one, only the first has a nearer cell than the holdout's photo."""
    train, photos = np.array([[1.0], [1.5], [9.0]]), (["a", "a", "b"], ["a", "a"])
    holdout = np.array([[2.0], [3.0]])
    assert nearer_to_train(np.array([[0.0]]), train, holdout, photos).tolist() == pytest.approx([0.5])
    assert nearer_to_train(np.array([[0.0]]), train, holdout).tolist() == pytest.approx([1.0])


def test_interval_of_nearness_knows_that_cells_of_a_photo_are_alike() -> None:
    """Over 60 data sets: the standard error of the mean, and intervals that hold 0.5 in nearly all."""
    rng = np.random.default_rng(0)
    means, margins, held = [], [], 0

    def cells(photos: int) -> np.ndarray:
        return np.repeat(rng.normal(size=(photos, 3)), 10, axis=0) + 0.3 * rng.normal(size=(10 * photos, 3))

    for repeat in range(60):
        train, holdout, fake = cells(40), cells(20), rng.normal(size=(300, 3)) * np.sqrt(1.09)
        photos = np.repeat(np.arange(40), 10), np.repeat(np.arange(20), 10)
        mean, low, high = nearer_interval(fake, train, holdout, photos, seed=repeat)
        assert mean == pytest.approx(nearer_to_train(fake, train, holdout, photos).mean())
        means.append(mean)
        margins.append((high - low) / 2)
        held += low <= 0.5 <= high
    assert np.mean(means) == pytest.approx(0.5, abs=0.02)
    assert np.std(means) == pytest.approx(np.mean(margins) / 1.96, rel=0.25)
    assert held >= 54


def pictures(count: int, seed: int) -> np.ndarray:
    """Smooth random pictures (count, 32, 32, 3)."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(count, 32, 32, 3))
    smooth = gaussian_filter(noise, (0, 4, 4, 0))
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def one_class(values) -> FeatureSet:
    return FeatureSet(
        values, np.zeros(len(values), np.int64), tuple(map(str, range(len(values)))), "pattern", 32
    )


def classes_of(train, holdout, fake, copied, seed):
    """The test of a generator that copies a share of training cells, and flagged images of each class.

    Args:
        train: cells of each class.
        holdout: likewise.
        fake: likewise.
        copied: share, one for all classes or one for each.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(len(train), 32))
    sets = []
    for counts in (train, holdout, fake):
        labels = np.repeat(np.arange(len(counts)), counts)
        values = centres[labels] + 1.22 * rng.normal(size=(len(labels), 32))
        sets.append(FeatureSet(values, labels, tuple(map(str, range(len(labels)))), "gaussian", 32))
    shares = np.broadcast_to(copied, len(train))[sets[2].labels]
    for row in np.flatnonzero(rng.random(len(sets[2].labels)) < shares):
        own = sets[0].values[sets[0].labels == sets[2].labels[row]]
        sets[2].values[row] = rng.choice(own) + 0.05 * rng.normal(size=32)
    look = Look(sets[0].values, sets[1].values[:, None], sets[2].values[:, None])
    test = copy_test(search([look], *sets).scores)
    return test, np.bincount(sets[2].labels[test.flagged], minlength=len(fake))


@pytest.mark.parametrize(
    ("train", "holdout", "share"),
    [([14] * 5, [4] * 5, 0.3), ([21] * 5, [6] * 5, 0.3), ([50] * 5, [15] * 5, 0.1)],
)
def test_a_small_holdout_does_not_hide_copies(train, holdout, share) -> None:
    """Against four cells of a class everything looks copied: the exchange has its own threshold."""
    found = [classes_of(train, holdout, [40] * 5, share, seed)[0].alarms().found() for seed in range(6)]
    assert sum(found) >= 5
    honest = [classes_of(train, holdout, [40] * 5, 0.0, seed)[0].alarms().found() for seed in range(6)]
    assert sum(honest) == 0


def test_a_rare_class_neither_hides_copies_nor_raises_alarms() -> None:
    for seed in range(4):
        test, flagged = classes_of([280] * 4 + [10], [80] * 4 + [3], [100] * 5, 0.1, seed)
        assert test.alarms().found()
        honest, flagged = classes_of([280] * 4 + [4], [80] * 4 + [1], [100] * 5, 0.0, seed)
        assert not honest.alarms().found()
        assert flagged[4] == 0  # its fifth neighbour is of another class: it cannot be checked


def test_copies_of_one_class_do_not_hide_in_the_whole_set() -> None:
    """Sixteen copies of a thousand images are within chance, of two hundred they are not."""
    first = np.repeat(np.arange(5), 200) == 0
    whole, own, others, honest = [], [], [], []
    for seed in range(6):
        test, _ = classes_of([280] * 5, [80] * 5, [200] * 5, [0.08, 0, 0, 0, 0], seed)
        whole.append(test.alarms().found())
        own.append(test.alarms(first).found(looks=5))
        others.append(test.alarms(~first).found(looks=5))
        clean, _ = classes_of([280] * 5, [80] * 5, [200] * 5, 0.0, seed)
        honest.append(clean.alarms(first).found(looks=5))
    assert sum(own) >= 5
    assert sum(whole) < sum(own)
    assert sum(others) + sum(honest) <= 1  # 1 % of honest sets raise the alarm, by an unlucky holdout


def test_alarms_by_hand() -> None:
    """Two of three images are below all nineteen holdout scores, none after the exchange."""
    test = copy_test(scores_of(np.array([0.1, 0.2, 0.9]), np.linspace(0.5, 1, 19), np.full(3, 0.95)), 0.05)
    found = test.alarms()
    assert (found.flagged, found.cells, found.exchanged) == (2, 2, 0)
    # beta-binomial (3, 1, 19): P(2 or 3) = (3 B(3, 20) + B(4, 19)) / B(1, 19) = 57/4620 + 3/4620
    assert found.p_value == pytest.approx(1 / 77)
    assert found.exchanged_p_value == pytest.approx(1 / 4)
    last = test.alarms(np.array([False, False, True]))
    assert (last.flagged, last.p_value, last.exchanged_p_value) == (0, 1, 1)


def test_blurred_images_beside_one_blurred_training_cell_are_not_called_copies() -> None:
    """All cells but one of the training part are sharp; blurred images resemble that one alone."""
    rng = np.random.default_rng(0)
    labels = [np.zeros(count, np.int64) for count in (300, 100, 200)]
    train, holdout, fake = (
        FeatureSet(rng.normal(size=(len(own), 32)), own, tuple(map(str, range(len(own)))), "x", 32)
        for own in labels
    )
    blurred = np.full(32, 3.0)
    train.values[7] = blurred
    fake.values[:80] = blurred + 0.5 * rng.normal(size=(80, 32))
    look = Look(train.values, holdout.values[:, None], fake.values[:, None])
    test = copy_test(search([look], train, holdout, fake).scores)
    found = test.alarms()
    assert found.flagged >= 80
    assert found.exchanged < 10
    assert found.cells < 10
    assert found.p_value > 0.1
    assert not found.found()
    fake.values[:80] = train.values[100:180] + 0.01
    look = Look(train.values, holdout.values[:, None], fake.values[:, None])
    copied = copy_test(search([look], train, holdout, fake).scores).alarms()
    assert copied.cells >= 80
    assert copied.found()


@pytest.mark.parametrize(("beside", "copies"), [([193, *[1] * 7], False), ([25] * 8, True)])
def test_no_single_training_cell_decides(beside, copies) -> None:
    """One magnet and seven chance alarms are none; eight training cells copied 25 times each are."""
    count, flagged = 1000, sum(beside)
    scores = np.r_[np.full(flagged, 0.1), np.full(count - flagged, 0.9)]
    test = copy_test(
        replace(
            scores_of(scores, np.linspace(0.2, 1, 400), np.full(count, 0.95)),
            match=np.r_[np.repeat(np.arange(8), beside), np.full(count - flagged, 9)],
        )
    )
    found = test.alarms()
    assert (found.flagged, found.cells, found.exchanged) == (200, 8, 0)
    assert found.exchanged_p_value == pytest.approx(2.0**-8)
    assert found.found() == copies


def test_images_that_cannot_be_checked_do_not_push_copies_off_the_page() -> None:
    rng = np.random.default_rng(0)
    centres = 4 * rng.normal(size=(3, 32))
    labels = [np.repeat([0, 1, 2], counts) for counts in ((200, 200, 4), (60, 60, 1), (60, 60, 100))]
    train, holdout, fake = (
        FeatureSet(
            centres[own] + rng.normal(size=(len(own), 32)), own, tuple(map(str, range(len(own)))), "x", 32
        )
        for own in labels
    )
    fake.values[:15] = train.values[:15] + 0.01
    look = Look(train.values, holdout.values[:, None], fake.values[:, None])
    copies = judge(
        search([look], train, holdout, fake),
        look,
        [f"{row}.png" for row in range(220)],
        ["abc"[label] for label in fake.labels],
        list(range(220)),
        list(map(str, range(404))),
        (range(404), range(121)),
        "grid@32",
    )
    assert copies.found
    assert (copies.checked, copies.unchecked, copies.uncounted) == (120, ("c",), ())
    assert {closest.file for closest in copies.closest[:15]} == {f"{row}.png" for row in range(15)}
    assert copies.classes["c"].checked == copies.classes["c"].flagged == 0


def test_flipped_turned_and_noisy_copies_are_found_in_coarse_pictures() -> None:
    train, holdout, fresh = pictures(120, 0), pictures(120, 1), pictures(80, 2)
    turned = np.rot90(train[:20], 1, axes=(1, 2))[:, :, ::-1]
    noise = np.random.default_rng(3).normal(0, 12, turned.shape)
    noisy = np.clip(turned + noise, 0, 255).astype(np.uint8)
    fake = np.concatenate([noisy, fresh])
    look = Look(coarse_pattern(train), coarse_pattern(symmetries(holdout)), coarse_pattern(symmetries(fake)))
    names = [f"{index}.png" for index in range(100)]
    sets = (one_class(look.train), one_class(look.holdout[:, 0]), one_class(look.fake[:, 0]))
    copies = judge(
        search([look], *sets),
        look,
        names,
        ["a"] * 100,
        list(range(100)),
        [f"t{index}" for index in range(120)],
        (range(120), range(120)),
        "grid@32",
    )
    assert copies.found
    assert copies.extractor == "grid@32"
    assert 20 <= copies.flagged <= 25
    assert {closest.file for closest in copies.closest[:20]} == set(names[:20])
    assert all(closest.train == f"t{closest.seed}" for closest in copies.closest[:20])
    assert {closest.view for closest in copies.closest[:20]} == {"turned 90° and mirrored"}
    assert copies.classes["a"].flagged == copies.flagged


def test_layout_forgets_brightness_and_contrast() -> None:
    image = pictures(1, 0).astype(np.float64)
    darker = (0.5 * image + 20).astype(np.uint8)
    np.testing.assert_allclose(coarse_pattern(image.astype(np.uint8)), coarse_pattern(darker), atol=0.01)
