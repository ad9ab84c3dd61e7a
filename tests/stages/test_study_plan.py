from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import ValidationError

from cytoforge.stages import study_plan
from cytoforge.stages.study_jobs import Material
from cytoforge.stages.study_plan import Plan, choosers_of, generator_jobs


@pytest.mark.parametrize(
    ("generator", "settings", "asked", "avoided"),
    [
        ("wgan-gp", {}, None, [None]),
        ("auto", {}, None, ["efficientnet-lite0"]),
        ("auto", {"auto": {"features": 0.0}}, None, [None]),
        ("auto", {}, "timm:resnet18", []),
    ],
)
def test_selection_sees_cells_by_a_network_that_did_not_train_them(
    monkeypatch, generator, settings, asked, avoided
) -> None:
    seen: list[str | None] = []

    class Network:
        name = "another@128"

    def fair(*names: str | None) -> type[Network]:
        seen.extend(names)
        return Network

    monkeypatch.setattr(study_plan, "fair_extractor", fair)
    plan = Plan(generators=(generator,), extractor=asked, settings=settings)
    assert choosers_of(plan) == {generator: asked or "another@128"}
    assert seen == avoided
    assert choosers_of(plan.model_copy(update={"regimes": ("orig", "+prop")})) == {}, "nothing is selected"


def test_all_generators_of_a_study_have_one_number_format() -> None:
    material = cast(Material, SimpleNamespace(division=SimpleNamespace(sha256="0" * 64)))
    asked = {"cgan": {"precision": "32-true"}}
    plan, presets = (
        Plan(generators=("wgan-gp", "cgan"), settings=asked),
        {"wgan-gp": "cpu", "cgan": "default"},
    )
    jobs = generator_jobs(plan, material, "bf16-mixed", presets)
    formats = {(name, job.parameters["settings"]["precision"]) for (_, _, name), job in jobs.items()}
    assert formats == {("wgan-gp", "bf16-mixed"), ("cgan", "32-true")}
    named = {(name, job.parameters.get("preset")) for (_, _, name), job in jobs.items()}
    assert named == {("wgan-gp", None), ("cgan", "default")}, "jobs of earlier studies name none: cpu"


@pytest.mark.parametrize(
    "wrong", [{"ratios": (float("nan"),)}, {"ratios": (float("inf"),)}, {"minutes": float("inf")}]
)
def test_numbers_of_a_plan_are_finite(wrong: dict) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Plan(generators=("cvae",), **wrong)
