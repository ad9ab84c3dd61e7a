"""The only training loop. It knows data, turns and time, and no model by name."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import FrameType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from cytoforge.core.batch import Batch, DataShape, to_uint8
from cytoforge.core.checkpoint import load_checkpoint, save_checkpoint
from cytoforge.core.device import peak_memory
from cytoforge.core.errors import TrainingError
from cytoforge.core.files import write_atomic
from cytoforge.core.grid import grid
from cytoforge.core.method import Method, Turn
from cytoforge.core.png import encode_png
from cytoforge.core.progress import progress
from cytoforge.core.randomness import derive, image_seeds
from cytoforge.core.record import Record
from cytoforge.core.run import Run
from cytoforge.data.augment import Policy, augment, augment_masks
from cytoforge.data.sampler import Sampler
from cytoforge.training.average import Average
from cytoforge.training.state import load_modules, load_optimizers, pack

COLUMNS = 8
"""Cells of each class in the sample grid."""

COLLAPSED = 0.05
"""Images of one class that differ less than this share of what real ones do have collapsed."""


class LoopConfig(Record):
    """Settings of the loop; every duration is a number of images seen."""

    batch: int = Field(64, ge=1, description="images in one step, over all processes")
    accumulate: int = Field(1, ge=1, description="parts in which a step's images are worked through")
    clip: float | None = Field(None, gt=0, description="largest gradient norm of each network")
    balanced: bool = Field(True, description="show each class equally often")
    symmetry: Policy = Field("flip,rotate", description="augmentation of real cells; empty for none")
    average_half_life: int = Field(10_000, ge=1, description="images; half-life of the moving average")
    log_every: int = Field(1_000, ge=1, description="images between lines of losses")
    measure_every: int = Field(20_000, ge=1, description="images between sample grids and measurements")
    measure_images: int = Field(250, ge=2, description="images generated for a measurement")
    save_every: int = Field(20_000, ge=1, description="images between checkpoints")
    divergence: float = Field(1e5, gt=0, description="a loss beyond this stops the training")
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="number format; auto measures which one this machine gains from"
    )


class TrainingData(Protocol):
    """What the loop needs of a data set; `data.cache.CachedCells` is one."""

    @property
    def shape(self) -> DataShape: ...  # noqa: D102
    @property
    def labels(self) -> NDArray[np.int64]: ...  # noqa: D102
    def batch(self, indices: NDArray[np.int64], seeds: NDArray[np.int64]) -> Batch: ...  # noqa: D102


Measure = Callable[[NDArray[np.uint8], NDArray[np.int64]], Mapping[str, float]]
"""Generated images (N, R, R, 3) and labels (N,) -> named numbers, see `checkpoint_score`."""


@dataclass(frozen=True)
class Until:
    """When to stop: after so many images or minutes of training, whichever comes first."""

    images: int | None = None
    minutes: float | None = None

    def share(self, seen: int, seconds: float) -> float:
        """How much is done, 1 at the end."""
        shares = [
            0.0 if self.images is None else seen / self.images,
            0.0 if self.minutes is None else seconds / 60 / self.minutes,
        ]
        return max(shares)


_ONE_WISH = 1.0
"""Seconds."""


class Interruption:
    """Ctrl-C and SIGTERM while training: remembered, so that the step ends and the state is saved.

    A second one ends it at once, but not within a second: launchers send several signals for one wish.
    """

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Catch both signals inside the block; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._since > _ONE_WISH:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._since = True, time.monotonic()


class Loop:
    """Takes turns until enough images have been seen and leaves a run folder.

    Args:
        method: what is trained; its networks are wrapped and moved to the device.
        data: training cells.
        config: settings.
        run: where log, pictures and checkpoints go.
        seed: of order, noise and augmentation.
        fabric: device, precision and processes.
        measure: numbers for the curve and for the choice of the best checkpoint, or None.
        frozen: `<network>/<parameter>` that training leaves as they are.
    """

    def __init__(
        self,
        method: Method,
        data: TrainingData,
        config: LoopConfig,
        run: Run,
        seed: int,
        fabric: Fabric,
        measure: Measure | None = None,
        frozen: frozenset[str] = frozenset(),
    ) -> None:
        self.method, self.data, self.config, self.run = method, data, config, run
        self.seed, self.fabric, self.measure, self.frozen = seed, fabric, measure, frozen
        self.sampler = Sampler(data.labels, seed, config.balanced)
        self.modules = dict(method.networks)
        for module in self.modules.values():
            module.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(
            {name: self.modules[name] for name in method.averaged if name in self.modules},
            config.average_half_life,
        )
        self.wrapped: dict[str, Any] = {}
        self.optimizers: dict[str, Any] = {}
        for name, module in self.modules.items():
            for key, parameter in module.named_parameters():
                if f"{name}/{key}" in frozen:
                    parameter.requires_grad = False
        for name, optimizer in method.optimizers().items():
            self.wrapped[name], self.optimizers[name] = fabric.setup(self.modules[name], optimizer)
        self.seen = self.steps = 0
        self.seconds = 0.0
        self.score: float | None = None
        self.spread_before: float | None = None
        self.sums: dict[str, Tensor] = {}

    def resume(self) -> tuple[str, ...]:
        """Go on from the newest intact checkpoint; returns what was passed over because it was damaged."""
        checkpoint = load_checkpoint(self.run.checkpoints)
        load_modules(checkpoint.tensors, "network", self.modules)
        load_modules(checkpoint.tensors, "average", self.average.networks)
        load_optimizers(checkpoint.tensors, self.optimizers)
        state = checkpoint.state
        self.seen, self.steps, self.seconds = state["seen"], state["steps"], state["seconds"]
        self.spread_before = state["spread"]
        for damage in checkpoint.skipped:
            self._log("event", event="damaged checkpoint", message=damage)
        return checkpoint.skipped

    def train(self, until: Until) -> None:
        """Take steps until the end; measures, draws and saves on the way.

        Raises:
            TrainingError: NaN, divergence or collapse; the last good checkpoint is kept.
            KeyboardInterrupt: asked to stop; the state is saved.
        """
        interruption = Interruption()
        if self.fabric.is_global_zero:
            self.run.rewind_log(self.seen)
        start = time.monotonic() - self.seconds
        done = share = until.share(self.seen, self.seconds)
        asked = False
        with interruption.watched(), progress("training", 1000) as advance:
            advance(round(1000 * done))
            while share < 1:
                self.step()
                self.seconds = time.monotonic() - start
                stop = until.share(self.seen, self.seconds) >= 1 or interruption.asked
                share, asked = self._agree(until, stop, interruption.asked)
                self._checks(last=share >= 1, hurried=asked)
                advance(round(1000 * share) - round(1000 * done))
                done = share
        if asked or interruption.asked:
            self._log("event", event="interrupted")
            raise KeyboardInterrupt

    def draw(self, labels: NDArray[np.int64], seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of the averaged networks: (N, R, R, 3), one for each label and seed."""
        method = self.method.replaced({**self.modules, **self.average.networks})
        images = []
        with torch.no_grad():
            for part in np.array_split(np.arange(len(labels)), math.ceil(len(labels) / 32)):
                noise = method.noise(seeds[part]).to(self.fabric.device)
                chosen = torch.from_numpy(labels[part]).to(self.fabric.device)
                condition = self._condition(method, noise, chosen, seeds[part])
                images.append(to_uint8(method.sample(noise, chosen, condition)))
        return np.concatenate(images)

    def step(self) -> None:
        """Show the next images to every network whose turn it is."""
        self.score = None
        torch.manual_seed(derive(self.seed, self.seen, self.fabric.global_rank))
        batch = self._batch()
        for turn in self.method.turns():
            if (self.steps + 1) % turn.every == 0:
                self._take(turn, batch)
        self.steps += 1
        self.seen += self.config.batch
        self.average.update(self.modules, self.config.batch, self.seen)

    def _condition(
        self, method: Method, noise: Tensor, labels: Tensor, seeds: NDArray[np.int64]
    ) -> Tensor | None:
        """What to draw from: the method's own masks, else what it takes from training cells."""
        drawn, sources = method.masks(noise, labels), method.source_labels(labels)
        if drawn is not None:
            return drawn
        cells = self._cells(labels if sources is None else sources, seeds)
        return method.condition(cells.to(self.fabric.device))

    def _cells(self, labels: Tensor, seeds: NDArray[np.int64]) -> Batch:
        """A training cell of each class, chosen by seed."""
        members = [np.flatnonzero(self.data.labels == label) for label in labels.cpu().numpy()]
        chosen = [derive("mask", int(seed)) % len(own) for own, seed in zip(members, seeds, strict=True)]
        cells = np.array([own[place] for own, place in zip(members, chosen, strict=True)])
        return self.data.batch(cells, seeds)

    def _batch(self) -> Batch:
        """This process's share of the next images."""
        share = self.config.batch // self.fabric.world_size
        first = self.seen + self.fabric.global_rank * share
        indices = self.sampler.indices(first, share)
        seeds = image_seeds(self.seed, np.arange(first, first + share))
        batch = self.data.batch(indices, seeds)
        if self.config.symmetry:
            policy, masks = self.config.symmetry, batch.masks
            if masks is not None:
                masks = augment_masks(masks, policy, batch.seeds, "symmetry")
            images = augment(batch.images, policy, batch.seeds, "symmetry")
            batch = Batch(images, batch.labels, batch.seeds, masks)
        return batch.to(self.fabric.device)

    def _take(self, turn: Turn, batch: Batch) -> None:
        """One network's move; only it gets gradients."""
        network, optimizer = self.wrapped[turn.network], self.optimizers[turn.network]
        self.method.networks = {**self.modules, turn.network: network}
        for name in self.modules:
            self._require_gradients(name, name == turn.network)
        optimizer.zero_grad()
        size = len(batch) // self.config.accumulate
        for part in range(self.config.accumulate):
            waits = part + 1 < self.config.accumulate
            with self.fabric.no_backward_sync(network, enabled=waits):
                with self._autocast():
                    losses = turn.losses(batch.part(part * size, (part + 1) * size))
                self.fabric.backward(torch.stack(list(losses.values())).sum() / self.config.accumulate)
            self._add(losses)
        if self.config.clip is not None:
            self.fabric.clip_gradients(network, optimizer, max_norm=self.config.clip)
        optimizer.step()
        self.method.networks = dict(self.modules)

    def _require_gradients(self, name: str, moves: bool) -> None:
        for key, parameter in self.modules[name].named_parameters():
            parameter.requires_grad_(moves and f"{name}/{key}" not in self.frozen)

    def _autocast(self) -> torch.autocast:
        """Our own: under Fabric's, a gradient inside a loss (a penalty) is refused."""
        enabled = self.config.precision == "bf16-mixed"
        return torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=enabled)

    def _add(self, losses: Mapping[str, Tensor]) -> None:
        for name, loss in losses.items():
            total, count = self.sums.get(name, torch.zeros(2, device=loss.device))
            self.sums[name] = torch.stack([total + loss.detach().float(), count + 1])

    def _agree(self, until: Until, stop: bool, asked: bool) -> tuple[float, bool]:
        """What all processes do next: stop together when one wants to."""
        if self.fabric.world_size > 1:
            votes = self._over_processes(torch.tensor([float(stop), float(asked)]))
            stop, asked = bool(votes[0] > 0), bool(votes[1] > 0)
        return (1.0 if stop else until.share(self.seen, self.seconds)), asked

    def _over_processes(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes."""
        total = self.fabric.all_reduce(values.to(self.fabric.device), reduce_op="sum")
        assert isinstance(total, Tensor)
        return total

    def _checks(self, last: bool, hurried: bool) -> None:
        """What is due now; a user who asked to stop does not wait for a measurement.

        Losses are looked at before every save, so that no checkpoint is written from NaN.
        """
        config = self.config
        if last or self._passed(config.log_every) or self._passed(config.save_every):
            self._log_losses()
        if self._passed(config.measure_every) or (last and not hurried):
            self._look()
        if last or self._passed(config.save_every):
            self._save()

    def _passed(self, every: int) -> bool:
        """Whether this step went past a multiple of `every` images."""
        return self.seen // every > (self.seen - self.config.batch) // every

    def _log_losses(self) -> None:
        """Write mean losses since the last line; stop on NaN or divergence, in every process alike."""
        losses = {}
        for name, (total, count) in self.sums.items():
            losses[name] = float(self._over_processes(total / count)) / self.fabric.world_size
        self.sums = {}
        bad = {name: loss for name, loss in losses.items() if not abs(loss) <= self.config.divergence}
        if bad:
            shown = ", ".join(f"{name} = {loss:g}" for name, loss in bad.items())
            kind = "diverged" if all(math.isfinite(loss) for loss in bad.values()) else "met NaN or infinity"
            self._alarm(f"training {kind}: {shown}. Lower its learning rate")
        memory = peak_memory(self.fabric.device)
        self._log("losses", losses=losses, **({} if memory is None else {"device_gib": round(memory, 3)}))

    def _look(self) -> None:
        """Draw the sample grid, measure, and stop when the images of a class have become one image."""
        alarm = None
        if self.fabric.is_global_zero:
            labels = np.repeat(self._present, COLUMNS)
            images = self.draw(labels, np.arange(len(labels)))
            marks = {"Synthetic": "true", "Generator": self.method.name}
            sheet = encode_png(grid(images, COLUMNS), marks)
            write_atomic(self.run.samples / f"{self.seen:012d}.png", sheet)
            alarm = self._collapse(images, labels)
            numbers = self._numbers()
            self.score = checkpoint_score(numbers)
            self._log("measure", **numbers, spread=self.spread_before)
        if float(self._over_processes(torch.tensor(float(alarm is not None)))) > 0:
            self._alarm(alarm or "another process stopped")

    @property
    def _present(self) -> NDArray[np.int64]:
        """The classes that have cells."""
        return np.unique(self.data.labels)

    def _numbers(self) -> dict[str, float]:
        if self.measure is None:
            return {}
        labels = np.resize(self._present, self.config.measure_images)
        numbers = self.measure(self.draw(labels, np.arange(len(labels))), labels)
        return {name: float(number) for name, number in numbers.items() if math.isfinite(number)}

    def _collapse(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str | None:
        """A message where spread fell below `COLLAPSED` twice running after it had been above."""
        if not self._real_spread:
            return None
        before, now = self.spread_before, spread(images, labels) / self._real_spread
        self.spread_before = now
        started = any(record.get("spread", 0) > 2 * COLLAPSED for record in self.run.read_log())
        if started and before is not None and max(before, now) < COLLAPSED:
            return (
                f"the generator collapsed: images of a class differ {now:.3f} times as much as real ones. "
                "Restart with another seed, a larger penalty or differentiable augmentation"
            )
        return None

    @cached_property
    def _real_spread(self) -> float:
        """What real cells of a class differ by; the same throughout a run."""
        count = COLUMNS * len(self.data.shape.classes)
        indices = Sampler(self.data.labels, self.seed, balanced=True).indices(0, count)
        real = self.data.batch(indices, indices)
        return spread(to_uint8(real.images), real.labels.numpy())

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            state = {
                "seen": self.seen,
                "steps": self.steps,
                "seconds": self.seconds,
                "score": self.score,
                "spread": self.spread_before,
                "threads": torch.get_num_threads(),
            }
            tensors = pack(self.modules, self.average.networks, self.optimizers)
            save_checkpoint(self.run.checkpoints, tensors, state)
        self.fabric.barrier()

    def _log(self, kind: str, **values: Any) -> None:
        if self.fabric.is_global_zero:
            self.run.log({"kind": kind, "seen": self.seen, "seconds": round(self.seconds, 2), **values})

    def _alarm(self, message: str) -> None:
        self._log("event", event="alarm", message=message)
        raise TrainingError(f"{message}. The last good checkpoint is kept in {self.run.checkpoints}.")


def checkpoint_score(numbers: Mapping[str, float]) -> float | None:
    """What chooses the best checkpoint, lower is better: kernel distance over diversity.

    The distance alone prefers early generators, whose blurred cells are alike.

    Args:
        numbers: "kid", and "diversity" as a share of real cells' (1 where it was not measured).

    Returns:
        None where there is no kernel distance.

    Example:
        >>> checkpoint_score({"kid": 0.6, "diversity": 0.5}), checkpoint_score({"kid": 0.3})
        (1.2, 0.3)
    """
    if "kid" not in numbers:
        return None
    return max(numbers["kid"], 0.0) / min(max(numbers.get("diversity", 1.0), 1e-3), 1.0)


def spread(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """How much images of one class differ: standard deviation over images, averaged over pixels and classes.

    Args:
        images: (N, H, W, 3).
        labels: (N,).

    Returns:
        Grey levels, 0 where each class is one image.

    Example:
        >>> cells = np.array([0, 2, 5, 5], np.uint8).reshape(4, 1, 1, 1).repeat(3, axis=3)
        >>> spread(cells, np.array([0, 0, 1, 1]))
        0.5
    """
    each = [images[labels == label].std(axis=0).mean() for label in np.unique(labels)]
    return float(np.mean(each))
