"""How fast this machine trains: our step beside the same networks in plain PyTorch, alternating."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cytoforge.core.batch import Batch, DataShape, to_float
from cytoforge.core.device import fastest_precision
from cytoforge.core.progress import progress
from cytoforge.core.run import Run
from cytoforge.losses.penalty import gradient_penalty
from cytoforge.losses.sobolev import sobolev
from cytoforge.methods.wgan_gp import WGANGP, WGANGPConfig
from cytoforge.stages.train import plan
from cytoforge.training.loop import Loop

Result = TypeVar("Result")

CLASSES = ("a", "b", "c", "d", "e")


@dataclass(frozen=True)
class StepBench:
    """Training speed, median over the rounds.

    Attributes:
        ours: images per second of the loop's step.
        plain: images per second of the plain step.
        ratio: ours / plain.
        precision: number format of our step.
        threads: of the processor.
        peak_gflops: fastest convolution measured here in our number format, 1e9 multiply or add a second.
        step_gflops: what our step reaches, convolutions and matrix products counted.
        share_of_peak: step_gflops / peak_gflops.
    """

    ours: float
    plain: float
    ratio: float
    precision: str
    threads: int
    peak_gflops: float
    step_gflops: float
    share_of_peak: float


class RandomCells:
    """Noise in the shape of a data set: speed does not depend on what is in the pictures."""

    def __init__(self, count: int, resolution: int) -> None:
        generator = np.random.default_rng(0)
        self.shape = DataShape(resolution, CLASSES)
        self.images = generator.integers(0, 256, (count, resolution, resolution, 3), np.uint8)
        self.labels: NDArray[np.int64] = np.arange(count) % len(CLASSES)

    def batch(self, indices: NDArray[np.int64], seeds: NDArray[np.int64]) -> Batch:
        """The chosen pictures as a batch."""
        labels = torch.from_numpy(self.labels[indices])
        return Batch(to_float(self.images[indices]), labels, torch.from_numpy(seeds))


def bench_step(resolution: int = 64, batch: int = 64, rounds: int = 5) -> StepBench:
    """Time one training step of `wgan-gp` (preset cpu) against a plain one, alternating in one process.

    Both have the same networks, batch, critic steps and penalty, without augmentation. The plain one is
    what a tutorial writes: float32, NCHW, real and generated images scored one after the other, default Adam.

    Args:
        resolution: side of the images, in pixels.
        batch: images in a step.
        rounds: steps of each, of which the median counts; two more warm up.
    """
    chosen = plan("wgan-gp", "cpu", {"augment": "", "symmetry": "", "batch": batch})
    config, precision = chosen.settings, fastest_precision()
    assert isinstance(config, WGANGPConfig)
    with tempfile.TemporaryDirectory() as folder:
        cells = RandomCells(4 * batch, resolution)
        loop = Loop(
            WGANGP(config, cells.shape),
            cells,
            chosen.loop.model_copy(update={"precision": precision}),
            Run.create(Path(folder) / "run", {}),
            seed=0,
            fabric=Fabric(accelerator="cpu", devices=1),
        )
        plain = PlainStep(WGANGP(config, cells.shape), cells, batch)
        (ours_seconds, _), (plain_seconds, _) = alternate([loop.step, plain.step], rounds, 2, "timing steps")
        with OperationCounter() as counter:
            loop.step()
    peak = convolution_peak(torch.bfloat16 if precision == "bf16-mixed" else torch.float32)
    step = counter.operations / ours_seconds / 1e9
    return StepBench(
        ours=batch / ours_seconds,
        plain=batch / plain_seconds,
        ratio=plain_seconds / ours_seconds,
        precision=precision,
        threads=torch.get_num_threads(),
        peak_gflops=peak,
        step_gflops=step,
        share_of_peak=step / peak,
    )


class PlainStep:
    """WGAN-GP as a tutorial writes it."""

    def __init__(self, method: WGANGP, cells: RandomCells, batch: int) -> None:
        self.generator, self.critic = method.networks["generator"], method.networks["critic"]
        self.config, self.cells, self.batch = method.config, cells, batch
        self.noise_length = method.noise_length
        rate, betas = method.config.learning_rate, method.config.betas
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), rate, betas)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), rate, betas)
        self.taken = 0

    def step(self) -> None:
        """One critic step and, when its turn has come, one generator step."""
        chosen = np.arange(self.batch)
        real = (
            torch.from_numpy(self.cells.images[chosen]).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
        )
        labels = torch.from_numpy(self.cells.labels[chosen])
        real = sobolev(real, self.config.sobolev)
        fake = self._generated(labels).detach()
        every = self.config.penalty_every
        penalty = gradient_penalty(
            lambda images: self.critic(images, labels[::every]),
            real[::every],
            fake[::every],
            torch.rand(len(labels[::every])),
        )
        loss = (
            self.critic(fake, labels).mean()
            - self.critic(real, labels).mean()
            + self.config.penalty * penalty
        )
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        self.taken += 1
        if self.taken % self.config.critic_steps == 0:
            fake = self._generated(labels)
            self.generator_optimizer.zero_grad()
            (-self.critic(fake, labels).mean()).backward()
            self.generator_optimizer.step()

    def _generated(self, labels: Tensor) -> Tensor:
        images = self.generator(torch.randn(self.batch, self.noise_length), labels)
        return sobolev(images, self.config.sobolev)


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiplications and additions of convolutions and matrix products, second derivatives too.

    torch's own FlopCounterMode hooks modules and cannot be used around a gradient penalty.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=result)
        return result


def convolution_peak(dtype: torch.dtype) -> float:
    """Highest speed of a 3x3 convolution among sizes that occur in training, in 1e9 operations a second."""
    best = 0.0
    with torch.no_grad():
        for channels, side in ((64, 32), (128, 16), (256, 16), (256, 8)):
            layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(dtype)
            layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            images = torch.randn(64, channels, side, side).to(dtype).to(memory_format=torch.channels_last)
            operations = 2 * 9 * channels**2 * side**2 * len(images)
            for _ in range(6):
                start = time.perf_counter()
                layer(images)
                best = max(best, operations / (time.perf_counter() - start) / 1e9)
    return best


def alternate(
    calls: Sequence[Callable[[], Result]], rounds: int, warm_ups: int, title: str
) -> list[tuple[float, Result]]:
    """Median seconds and last result of each call, taken in turns so that a busy machine slows all of them.

    Args:
        calls: what is timed.
        rounds: timed turns, 1 or more.
        warm_ups: turns before them that are not timed.
        title: of the progress.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    results: list[list[Result]] = [[] for _ in calls]
    with progress(title, (rounds + warm_ups) * len(calls)) as advance:
        for turn in range(rounds + warm_ups):
            for index, call in enumerate(calls):
                start = time.perf_counter()
                results[index] = [call()]
                if turn >= warm_ups:
                    seconds[index].append(time.perf_counter() - start)
                advance(1)
    return [(median(taken), result) for taken, (result,) in zip(seconds, results, strict=True)]
