import pytest

from cytoforge.diffusion.paths import linear_alpha_bar


def test_published_schedule():
    schedule = linear_alpha_bar()
    for step, expected in ((0, 0.99990), (499, 0.0785872), (999, 4.03583e-05)):
        assert float(schedule[step]) == pytest.approx(expected, rel=1e-5)
    assert (schedule.diff() < 0).all()
