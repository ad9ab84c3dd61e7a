from __future__ import annotations

import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.evaluation.metrics import Counts, Metrics, Number, difference


def metrics(**changes) -> Metrics:
    plain = {
        "extractor": "efficientnet-lite0@128",
        "resolution": 64,
        "k": 5,
        "split_sha256": "s",
        "manifest_sha256": "m",
        "counts": Counts(synthetic=100, holdout=80, train=300, real=400),
        "overall": {"frechet_distance": Number(value=20.0), "kernel_distance": Number(value=0.02)},
        "sizes": {"real": 80, "synthetic": 100},
        "collapse": None,
        "classes": {},
        "copies": None,
        "class_correctness": None,
    }
    return Metrics(**{**plain, **changes})


def test_metrics_survive_the_disk(tmp_path) -> None:
    path = tmp_path / "metrics.json"
    metrics().save(path)
    assert Metrics.load(path) == metrics()


def test_what_is_no_metrics_file_is_refused(tmp_path) -> None:
    (tmp_path / "x.json").write_text('{"format": 1}')
    for name in ("x.json", "missing.json"):
        with pytest.raises(ConfigError, match="cytoforge evaluate"):
            Metrics.load(tmp_path / name)


def test_difference_is_second_less_first() -> None:
    better = metrics(overall={"frechet_distance": Number(value=15.0), "kernel_distance": Number(value=0.01)})
    assert difference(metrics(), better) == pytest.approx({"frechet_distance": -5, "kernel_distance": -0.01})


@pytest.mark.parametrize(
    "change", [{"extractor": "efficientnet-lite0@224"}, {"resolution": 128}, {"split_sha256": "t"}, {"k": 3}]
)
def test_numbers_that_mean_other_things_are_not_compared(change) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        difference(metrics(), metrics(**change))


def test_other_sizes_leave_only_scores_that_do_not_depend_on_size() -> None:
    assert list(difference(metrics(), metrics(sizes={"real": 80, "synthetic": 400}))) == ["kernel_distance"]
