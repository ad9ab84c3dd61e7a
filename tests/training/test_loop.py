import os
import signal
from functools import partial

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from cytoforge.core.batch import Batch, DataShape, to_float
from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import TrainingError
from cytoforge.core.method import Turn
from cytoforge.core.run import Run
from cytoforge.methods.wgan_gp import WGANGP, WGANGPConfig
from cytoforge.training.average import Average
from cytoforge.training.loop import Loop, LoopConfig, Until, spread

SHAPE = DataShape(32, ("red", "blue"))
SMALL = {"latent": 8, "generator_channels": 4, "critic_channels": 4, "most_channels": 8, "penalty_every": 2}
CONFIG = {
    "batch": 16,
    "log_every": 32,
    "measure_every": 64,
    "save_every": 32,
    "measure_images": 8,
    "average_half_life": 64,
    "precision": "32-true",
    "symmetry": "flip,rotate",
}


class Discs:
    """Coloured noise, one colour a class."""

    shape = SHAPE

    def __init__(self):
        generator = np.random.default_rng(0)
        self.labels = np.arange(40) % 2
        self.images = generator.integers(0, 255, (40, 32, 32, 3), np.uint8)
        self.images[self.labels == 0, ..., 0] = 255
        self.images[self.labels == 1, ..., 2] = 255

    def batch(self, indices, seeds):
        labels = torch.from_numpy(self.labels[indices])
        return Batch(to_float(self.images[indices]), labels, torch.from_numpy(seeds))


def make(path, kind=WGANGP, measure=None, method=None, **loop):
    torch.manual_seed(0)
    run = Run.open(path) if path.exists() else Run.create(path, {})
    model = kind(WGANGPConfig(**{**SMALL, "augment": "color", **(method or {})}), SHAPE)
    fabric = Fabric(accelerator="cpu", devices=1)
    return Loop(model, Discs(), LoopConfig(**{**CONFIG, **loop}), run, 3, fabric, measure)


def tensors(path):
    return load_checkpoint(path / "checkpoints").tensors


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_resumed_run_equals_the_unbroken_one_bit_for_bit(resumed, precision):
    again = resumed(partial(make, precision=precision), images=192)
    saved = tensors(again.run.path)
    assert {name.split("/")[0] for name in saved} == {"network", "average", "optimizer"}


def records(path, kind):
    return [record for record in Run.open(path).read_log() if record["kind"] == kind]


def test_damaged_checkpoint_is_passed_over_and_the_run_ends_the_same(tmp_path):
    """The newest intact checkpoint loads and says so; the repeated steps give the same weights."""
    make(tmp_path / "whole").train(Until(images=128))
    make(tmp_path / "hurt").train(Until(images=96))
    newest = load_checkpoint(tmp_path / "hurt" / "checkpoints").path / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    again = make(tmp_path / "hurt")
    skipped = again.resume()
    assert len(skipped) == 1
    assert again.seen == 64
    again.train(Until(images=128))
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "hurt"))
    losses = [
        [record["losses"] for record in records(tmp_path / name, "losses")] for name in ("whole", "hurt")
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_goes_on_to_the_same_end(tmp_path, number):
    """R3."""
    make(tmp_path / "whole").train(Until(images=160))
    loop = make(tmp_path / "stopped", save_every=10_000)
    take, taken = loop.step, []

    def step():
        take()
        taken.append(1)
        if len(taken) == 3:
            os.kill(os.getpid(), number)

    loop.step = step
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        loop.train(Until(images=160))
    assert signal.getsignal(number) == before
    assert load_checkpoint(tmp_path / "stopped" / "checkpoints").state["seen"] == 48
    assert Run.open(tmp_path / "stopped").last_event() == "interrupted"
    again = make(tmp_path / "stopped")
    again.resume()
    again.train(Until(images=160))
    assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "stopped"))


def test_a_signal_during_a_measurement_is_not_lost(tmp_path):
    """The step after it ends the training, and what was learned is saved."""

    def measure(images, labels):
        os.kill(os.getpid(), signal.SIGINT)
        return {"kid": 0.1}

    loop = make(tmp_path / "run", measure=measure, save_every=10_000)
    with pytest.raises(KeyboardInterrupt):
        loop.train(Until(images=160))
    kept = load_checkpoint(tmp_path / "run" / "checkpoints").state
    assert kept["seen"] == 80
    assert kept["score"] is None, "measured 16 images before"


def test_a_process_stops_where_another_was_asked_to(tmp_path):
    loop = make(tmp_path / "run")
    loop._agree = lambda until, stop, asked: (1.0, True)
    with pytest.raises(KeyboardInterrupt):
        loop.train(Until(images=160))
    assert Run.open(tmp_path / "run").last_event() == "interrupted"
    assert load_checkpoint(tmp_path / "run" / "checkpoints").state["seen"] == 16


def test_begun_anew_before_the_first_checkpoint_the_log_begins_anew(tmp_path):
    loop = make(tmp_path / "run", save_every=10_000)
    for _ in range(4):
        loop.step()
    loop.run.log({"kind": "losses", "seen": 32, "losses": {}})
    log = tmp_path / "run" / "log.jsonl"
    log.write_text(log.read_text() + '{"kind": "loss')
    make(tmp_path / "run", save_every=10_000).train(Until(images=64))
    assert [record["seen"] for record in records(tmp_path / "run", "losses")] == [32, 64]


def test_log_grid_measure_and_best(tmp_path):
    kids = iter([0.3, 0.1, float("nan"), 0.2])
    shapes = []

    def measure(images, labels):
        shapes.append((images.shape, images.dtype, labels.tolist()))
        return {"kid": next(kids)}

    make(tmp_path / "run", measure=measure).train(Until(images=256))
    assert shapes[0] == ((8, 32, 32, 3), np.uint8, [0, 1] * 4)
    assert [record.get("kid") for record in records(tmp_path / "run", "measure")] == [0.3, 0.1, None, 0.2]
    assert load_checkpoint(tmp_path / "run" / "checkpoints", "best").state["score"] == 0.1
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 4
    assert [record["seen"] for record in records(tmp_path / "run", "losses")] == list(range(32, 257, 32))
    named = {name for record in records(tmp_path / "run", "losses") for name in record["losses"]}
    assert named == {"wasserstein", "penalty", "generator"}


class Broken(WGANGP):
    """Its critic's loss becomes `worst` after 64 images."""

    worst = float("nan")

    def turns(self):
        _, generator = super().turns()
        return Turn("critic", self.breaking), generator

    def breaking(self, batch):
        losses = self.critic_losses(batch)
        self.count = getattr(self, "count", 0) + 1
        if self.count > 4:
            losses["wasserstein"] = losses["wasserstein"] * 0 + self.worst
        return losses


@pytest.mark.parametrize(("worst", "word"), [(float("nan"), "NaN"), (1e9, "diverged")])
def test_alarm_on_nan_and_divergence_keeps_the_last_good_checkpoint(tmp_path, worst, word):
    kind = type("Broken", (Broken,), {"worst": worst})
    with pytest.raises(TrainingError, match=word):
        make(tmp_path / "run", kind).train(Until(images=1000))
    found = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert found.state["seen"] == 64
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())
    assert Run.open(tmp_path / "run").last_event() == "alarm"


def test_a_save_between_two_log_lines_is_checked_too(tmp_path):
    """With saves more frequent than log lines, none is written after the first NaN."""
    with pytest.raises(TrainingError, match="NaN"):
        make(tmp_path / "run", Broken, log_every=10**6).train(Until(images=1000))
    assert load_checkpoint(tmp_path / "run" / "checkpoints").state["seen"] == 64


class Collapsing(WGANGP):
    """After a while every image of a class is the same."""

    drawn = 0

    def sample(self, noise, labels, condition=None):
        images = super().sample(noise, labels)
        if len(labels) == 16:
            type(self).drawn += not images.requires_grad
        varied = torch.randn(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(0))
        return images * 0 + (varied if type(self).drawn <= 10 else 0.5)


def test_alarm_on_collapse(tmp_path):
    with pytest.raises(TrainingError, match="collapsed"):
        make(tmp_path / "run", Collapsing, method={"augment": ""}).train(Until(images=2000))
    assert records(tmp_path / "run", "measure")[0]["spread"] > 0.1


def test_cells_without_any_spread_are_trained_on_to_the_end(tmp_path):
    """One cell of each class has nothing to collapse from; the training is saved all the same."""
    loop = make(tmp_path / "run")
    loop.data.images[:] = loop.data.images[:2][loop.data.labels]
    loop.train(Until(images=64))
    assert load_checkpoint(tmp_path / "run" / "checkpoints").state["seen"] == 64
    assert all(record["spread"] is None for record in records(tmp_path / "run", "measure"))


def test_accumulation_equals_one_large_step(tmp_path):
    for name, parts in (("one", 1), ("two", 2)):
        make(tmp_path / name, accumulate=parts, clip=1.0).train(Until(images=48))
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=2e-5, rtol=1e-3)


def test_clipping_bounds_the_gradient(tmp_path):
    loop = make(tmp_path / "run", clip=1e-3)
    loop.step()
    critic = loop.modules["critic"]
    critic_norm = torch.stack([p.grad.norm() for p in critic.parameters() if p.grad is not None]).norm()
    assert float(critic_norm) <= 1.01e-3


def test_generator_moves_every_nth_step(tmp_path):
    loop = make(tmp_path / "run", method={"critic_steps": 3})
    before = loop.modules["generator"].output.weight.clone()
    loop.step()
    loop.step()
    assert torch.equal(before, loop.modules["generator"].output.weight)
    loop.step()
    assert not torch.equal(before, loop.modules["generator"].output.weight)


def test_time_budget(tmp_path):
    loop = make(tmp_path / "run", save_every=10**9, measure_every=10**9)
    loop.train(Until(minutes=1 / 60))
    assert 1 <= loop.seconds < 20
    assert Until(images=100, minutes=2).share(50, 30) == 0.5
    assert Until(images=100, minutes=2).share(10, 60) == 0.5


def test_average_is_one_half_after_one_half_life():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    average = Average({"n": network}, half_life=1000)
    torch.nn.init.ones_(network.weight)
    for _ in range(10):
        average.update({"n": network}, count=100, seen=10**9)
    assert float(average.networks["n"].weight) == pytest.approx(0.5)


def test_spread_of_copies_is_zero():
    images = np.random.default_rng(0).integers(0, 255, (1, 4, 4, 3), np.uint8).repeat(3, axis=0)
    assert spread(images, np.zeros(3, int)) == 0


class Masked(Discs):
    """Discs whose mask is the class: cytoplasm everywhere in red cells, nucleus everywhere in blue ones."""

    shape = DataShape(32, ("red", "blue"), 2)

    def batch(self, indices, seeds):
        plain = super().batch(indices, seeds)
        masks = torch.stack([plain.labels == 0, plain.labels == 1], dim=1).float()
        return Batch(plain.images, plain.labels, plain.seeds, masks[:, :, None, None].repeat(1, 1, 32, 32))


class Painter(WGANGP):
    """Draws its condition: 1 where there is a nucleus, -1 elsewhere."""

    own = False

    def masks(self, noise, labels):
        return torch.zeros(len(noise), 2, 32, 32) if self.own else None

    def sample(self, noise, labels, condition=None):
        if condition is None:
            return super().sample(noise, labels)
        return (condition[:, 1:] * 2 - 1).repeat(1, 3, 1, 1)


def test_draws_with_masks_of_the_class_or_with_the_methods_own(tmp_path):
    torch.manual_seed(0)
    method = Painter(WGANGPConfig(**SMALL), SHAPE)
    loop = Loop(
        method,
        Masked(),
        LoopConfig(**CONFIG),
        Run.create(tmp_path / "run", {}),
        3,
        Fabric(accelerator="cpu", devices=1),
    )
    images = loop.draw(np.array([0, 1, 1]), np.arange(3))
    assert images.mean(axis=(1, 2, 3)).tolist() == [0, 255, 255]
    assert loop._batch().masks.shape == (16, 2, 32, 32)
    method.own = True
    assert loop.draw(np.array([0, 1, 1]), np.arange(3)).max() == 0
