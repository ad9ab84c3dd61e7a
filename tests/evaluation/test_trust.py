from __future__ import annotations

import numpy as np
import pytest

from cytoforge.core.errors import ConfigError, DataError
from cytoforge.evaluation.conformal import covered
from cytoforge.evaluation.novelty import learn_known
from cytoforge.evaluation.trust import Calibration, Held, answer, calibrate, group_mean, judge

CLASSES = ("a", "b", "c")


def photos(count: int, seed: int, heat: float = 3.0) -> Held:
    """Cells of photos, each photo shifted a little; logits that are `heat` times too sure."""
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(count), rng.integers(1, 8, count))
    labels = (code % 3).astype(np.int64)
    shift = 0.8 * rng.normal(size=(count, 3))[code]
    evidence = 1.5 * np.eye(3)[labels] + shift + 0.8 * rng.normal(size=(len(code), 3))
    features = np.concatenate([evidence, 5 + 0.3 * rng.normal(size=(len(code), 5))], axis=1)
    names = tuple(f"photo {index}" for index in code)
    return Held((heat * evidence).astype(np.float32), features.astype(np.float32), labels, names)


@pytest.fixture(scope="module")
def known():
    train = photos(200, 0)
    return learn_known(train.features, train.labels)


def calibrated(known, held: Held, **options) -> Calibration:
    return calibrate(held, known, CLASSES, part="val", weights_sha256="0", reference_sha256="0", **options)


def test_promises_hold_on_new_photos(known):
    calibration = calibrated(known, photos(150, 1))
    judged = judge(calibration, known, photos(400, 2), "test")
    assert judged.before.error > judged.before.chance_high
    assert judged.after.error < 0.4 * judged.before.error
    assert judged.after.brier < judged.before.brier
    for coverage in judged.coverage:
        assert coverage.low <= coverage.groups <= coverage.high
        assert coverage.kept
        assert coverage.answered is not None
        assert coverage.accuracy_answered is not None
        assert coverage.accuracy_answered.low < coverage.accuracy_answered.value < 1
        assert coverage.accuracy_answered.value > judged.after.accuracy, "what is answered is the easier part"
        assert coverage.accuracy_answered.count == round(coverage.answered.value * judged.cells)
        assert coverage.by_class == {}, "one promise for all"
    assert 0.01 < judged.false_alarms < 0.12
    sizes = [coverage.size for coverage in judged.coverage]
    assert sizes == sorted(sizes)


def test_a_promise_for_each_class_is_judged_by_class(known):
    calibration = calibrated(known, photos(300, 1), by_class=True, coverages=(0.8,))
    assert calibration.class_groups == {"a": 100, "b": 100, "c": 100}
    held = photos(300, 2)
    (coverage,) = judge(calibration, known, held, "test").coverage
    assert list(coverage.by_class) == list(CLASSES)
    for found in coverage.by_class.values():
        assert found.low < 0.8 < found.high
        assert found.low <= found.groups <= found.high
        assert found.kept
    wrong = Held(np.roll(held.logits, 1, axis=0), held.features, held.labels, held.groups)
    (broken,) = judge(calibration, known, wrong, "test").coverage
    assert not all(found.kept for found in broken.by_class.values())
    without = Held(*(part[held.labels > 0] for part in (held.logits, held.features, held.labels)),
                   tuple(np.asarray(held.groups)[held.labels > 0]))  # fmt: skip
    (coverage,) = judge(calibration, known, without, "test").coverage
    assert list(coverage.by_class) == ["b", "c"]


def test_no_sure_answer_has_no_accuracy(known):
    calibration = calibrated(known, photos(60, 1)).model_copy(update={"novelty_threshold": 0.0})
    found = judge(calibration, known, photos(40, 2), "test").coverage[0]
    assert found.answered is not None
    assert found.answered.value == 0
    assert found.accuracy_answered is None


def test_coverage_over_many_calibrations_is_what_was_stated(known):
    shares = [
        group_mean(
            covered(answer(calibration, known, new.logits, new.features, 0.9).sets, new.labels), new.groups
        )
        for seed in range(1, 31)
        for new in [photos(100, 500 + seed)]
        for calibration in [calibrated(known, photos(60, seed), coverages=(0.9,))]
    ]
    assert 0.89 <= np.mean(shares) <= 0.93


def test_the_file_keeps_everything(known):
    calibration = calibrated(known, photos(60, 1), by_class=True, score="aps", coverages=(0.8, 0.995))
    again = Calibration.model_validate_json(calibration.model_dump_json())
    assert again == calibration
    earlier = calibration.model_dump(mode="json", exclude={"class_groups"})
    assert Calibration.model_validate(earlier).class_groups == {}
    assert again.limits(0.995).tolist() == [np.inf] * 3
    assert np.isfinite(again.limits(0.8)).all()
    held = photos(30, 2)
    first, second = (answer(each, known, held.logits, held.features, 0.8) for each in (calibration, again))
    np.testing.assert_array_equal(first.sets, second.sets)


def test_a_cell_of_an_unknown_kind_is_not_answered(known):
    calibration = calibrated(known, photos(150, 1))
    held = photos(40, 3)
    strange = held.features.copy()
    strange[:, 5] -= 14
    found = answer(calibration, known, held.logits, strange, 0.9)
    assert found.unknown.mean() > 0.95
    assert not found.sure[found.unknown].any()
    usual = answer(calibration, known, held.logits, held.features, 0.9)
    assert (usual.sets[usual.sure].sum(1) == 1).all()
    assert (usual.found == held.labels)[usual.sure].mean() > (usual.found == held.labels).mean()


def test_too_few_cells_and_other_coverages_are_refused(known):
    with pytest.raises(DataError, match="20"):
        calibrated(known, photos(2, 1))
    with pytest.raises(ConfigError, match=r"--coverages 0\.7"):
        calibrated(known, photos(60, 1)).limits(0.7)
