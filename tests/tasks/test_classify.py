from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from cytoforge.core.batch import Batch, DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.tasks.classify import Classifier, ClassifierConfig, mix
from cytoforge.tasks.rates import ScheduledAdamW, constant, cosine, delayed, one_cycle

SHAPE = DataShape(16, ("a", "b", "c"))


def batch(count: int = 6) -> Batch:
    images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(images, torch.arange(count) % 3, torch.arange(count))


def classifier(**settings: Any) -> Classifier:
    torch.manual_seed(0)
    plain = {"architecture": "basic-cnn", "weights": "none", "augment": ""}
    return Classifier(ClassifierConfig.model_validate({**plain, **settings}), SHAPE)


def loss(method: Classifier) -> float:
    with torch.no_grad():
        return float(method.losses(batch())["cross_entropy"])


def steps(method: Classifier, count: int) -> None:
    optimizer = method.optimizers()["classifier"]
    for _ in range(count):
        optimizer.zero_grad()
        sum(method.losses(batch()).values()).backward()  # type: ignore[union-attr]
        optimizer.step()


def test_cross_entropy_by_hand() -> None:
    method = classifier()
    for parameter in method.network.head.parameters():
        nn.init.zeros_(parameter)
    method.network.eval()
    assert loss(method) == pytest.approx(math.log(3))
    method.network.head.bias.data = torch.tensor([math.log(2), 0.0, 0.0])  # shares 1/2, 1/4, 1/4
    assert loss(method) == pytest.approx((math.log(2) + 2 * math.log(4)) / 3)
    smooth = classifier(label_smoothing=0.3)
    smooth.networks = method.networks
    # every class is equally frequent, so smoothing changes nothing on average
    assert loss(smooth) == pytest.approx((math.log(2) + 2 * math.log(4)) / 3)


def test_training_lowers_the_loss() -> None:
    method = classifier(learning_rate=3e-3, steps=60, schedule="constant")
    before = loss(method)
    steps(method, 60)
    assert loss(method) < before / 2


@pytest.mark.parametrize("mode", ["linear", "staged", "full"])
def test_a_mode_moves_what_it_says(mode: str) -> None:
    method = classifier(mode=mode, steps=10, hold=0.5)
    network = method.network
    start = {key: value.clone() for key, value in network.state_dict().items()}

    def moved(part: str) -> bool:
        now = network.state_dict()
        return any(key.startswith(part) and not torch.equal(now[key], start[key]) for key in now)

    optimizer = method.optimizers()["classifier"]
    for step in range(10):
        optimizer.zero_grad()
        sum(method.losses(batch()).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        if step == 4:
            assert moved("head")
            assert moved("body") == (mode == "full")
    assert moved("body") == (mode != "linear")


def test_rates_follow_the_steps_and_survive_a_restart() -> None:
    weight = nn.Parameter(torch.ones(2, 2))

    def one(steps: int) -> ScheduledAdamW:
        return ScheduledAdamW([([weight], 0.5, cosine)], steps, 0.0)

    optimizer, rates = one(4), []
    for _ in range(4):
        weight.grad = torch.ones(2, 2)
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    wanted = [0.5 * (1 + math.cos(math.pi * share)) / 2 for share in (0, 0.25, 0.5, 0.75)]
    assert rates == pytest.approx(wanted)
    again = one(4)
    state = {**optimizer.state_dict(), "param_groups": again.state_dict()["param_groups"]}
    again.load_state_dict(state)
    weight.grad = torch.ones(2, 2)
    again.step()
    assert again.param_groups[0]["lr"] == pytest.approx(0.0)


def test_biases_do_not_decay() -> None:
    layer = nn.Linear(2, 2)
    optimizer = ScheduledAdamW([(layer.parameters(), 0.1, constant)], 1, 0.5)
    decays = {group["params"][0].ndim: group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {2: 0.5, 1: 0.0}


def test_courses_of_the_rate() -> None:
    shares = [place / 100 for place in range(101)]
    for course in (one_cycle, cosine, constant, delayed(one_cycle, 0.3)):
        assert all(0 <= course(share) <= 1 for share in shares)
    assert max(shares, key=one_cycle) == 0.2
    assert delayed(one_cycle, 0.3)(0.29) == 0


def test_mixing_by_hand() -> None:
    images = torch.arange(4.0).reshape(4, 1, 1, 1)
    mixed, targets = mix(images, torch.eye(4), 1.0, seed=3)
    assert torch.allclose(targets.sum(1), torch.ones(4))
    assert torch.allclose(mixed.flatten(), targets @ torch.arange(4.0)), "one share for image and target"
    again, _ = mix(images, torch.eye(4), 1.0, seed=3)
    assert torch.equal(mixed, again)


def test_the_grid_shows_what_is_right() -> None:
    method = classifier()
    nn.init.zeros_(method.network.head.weight)  # type: ignore[arg-type]
    method.network.head.bias.data = torch.tensor([1.0, 0.0, 0.0])
    method.network.eval()
    drawn = method.sample(torch.zeros(2, 1), torch.tensor([0, 1]), batch(2).images)
    corner = drawn[:, :, 0, 0]
    assert corner[0, 1] > corner[0, 0], "green"
    assert corner[1, 0] > corner[1, 1], "red"
    assert torch.equal(drawn[:, :, 5, 5], batch(2).images[:, :, 5, 5])
    with pytest.raises(ConfigError, match="give it images"):
        method.sample(torch.zeros(2, 1), torch.tensor([0, 1]))


def test_an_odd_resolution_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 8"):
        Classifier(ClassifierConfig(architecture="basic-cnn"), DataShape(30, ("a", "b")))
