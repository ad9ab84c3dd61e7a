"""The whole way on simulated cells, from an empty folder to a report, in minutes on two cores.

```
demo/phantom -> demo/audit, demo/split.json -> demo/run -> demo/synthetic -> demo/evaluation/report.html
```

`demo.json` remembers the settings and the finished steps. A second call skips those and goes on where the
first was interrupted, in the middle of training too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from cytoforge.core.errors import ConfigError
from cytoforge.core.files import read_json, write_json
from cytoforge.core.record import Record
from cytoforge.core.run import ANOTHER_OUT, require_empty
from cytoforge.core.settings import checked


class DemoSettings(Record):
    """How large the demonstration is; the defaults take less than ten minutes on two cores."""

    per_class: int = Field(200, ge=20, description="simulated cells of each of the five classes")
    size: int = Field(96, ge=32, description="side of a simulated cell, in pixels")
    resolution: int = Field(64, description="side of the training images, in pixels")
    minutes: float = Field(6.0, gt=0, description="training time")
    images: int | None = Field(None, ge=1, description="training images; replaces the time")
    generated: int = Field(100, ge=2, description="generated cells of each class")
    seed: int = Field(0, ge=0, description="seed of everything")


Step = Callable[[Path, DemoSettings], None]


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration left.

    Attributes:
        report: the page to open.
        seconds: finished step -> how long it took, in this call or an earlier one.
        skipped: steps that an earlier call had finished.
    """

    report: Path
    seconds: dict[str, float]
    skipped: tuple[str, ...]


def demo(out: Path, settings: DemoSettings, tell: Callable[[str], None]) -> Demonstration:
    """Run every step that is not yet finished.

    Args:
        out: folder of the demonstration; new, empty, or left by an earlier call.
        settings: how large it is.
        tell: receives one line before each step.

    Raises:
        ConfigError: the folder holds something else, or a demonstration of other settings.
    """
    finished = _open(out, settings)
    skipped = tuple(name for name in STEPS if name in finished)
    for name, (line, step) in STEPS.items():
        if name in finished:
            tell(f"{name}: finished earlier")
            continue
        tell(f"{name}: {line}")
        start = time.monotonic()
        step(out, settings)
        finished[name] = round(time.monotonic() - start, 1)
        _remember(out, settings, finished)
    return Demonstration(out / "evaluation" / "report.html", finished, skipped)


def _open(out: Path, settings: DemoSettings) -> dict[str, float]:
    """Finished steps of an earlier call, in seconds."""
    state_path = out / "demo.json"
    if not state_path.is_file():
        require_empty(out, advice=f"It holds no demonstration. {ANOTHER_OUT}")
        _remember(out, settings, {})
        return {}
    state: dict[str, Any] = read_json(state_path)
    if checked(DemoSettings, state["settings"], str(state_path)) != settings:
        raise ConfigError(
            f"{out} holds a demonstration of other settings; choose another --out or delete it."
        )
    return dict(state["finished"])


def _remember(out: Path, settings: DemoSettings, finished: dict[str, float]) -> None:
    write_json(out / "demo.json", {"format": 1, "settings": settings.model_dump(), "finished": finished})


def _phantom(out: Path, settings: DemoSettings) -> None:
    from cytoforge.stages.phantom import phantom

    phantom(out / "phantom", settings.per_class, settings.size, settings.seed)


def _audit(out: Path, settings: DemoSettings) -> None:
    from cytoforge.stages.audit import audit

    audit(out / "phantom", out / "audit")


def _split(out: Path, settings: DemoSettings) -> None:
    from cytoforge.stages.split import split

    split(out / "phantom", out / "split.json", seed=settings.seed)


def _train(out: Path, settings: DemoSettings) -> None:
    from cytoforge.stages.train import train

    train(
        "wgan-gp",
        out / "phantom",
        out / "run",
        resolution=settings.resolution,
        images=settings.images,
        minutes=None if settings.images else settings.minutes,
        seed=settings.seed,
        preset="cpu",
        settings=_CURVE,
        resume=True,
        split=out / "split.json",
    )


def _generate(out: Path, settings: DemoSettings) -> None:
    from cytoforge.stages.generate import generate

    generate(out / "run", out / "synthetic", per_class=settings.generated)


def _evaluate(out: Path, settings: DemoSettings) -> None:
    from cytoforge.stages.evaluate import evaluate

    evaluate(out / "synthetic", out / "phantom", out / "evaluation", audit=out / "audit")


# A short training still shows a curve, and a killed one loses little.
_CURVE = {"measure_every": 5_000, "measure_images": 100, "save_every": 5_000}

STEPS: dict[str, tuple[str, Step]] = {
    "phantom": ("simulating cells whose truth is known", _phantom),
    "audit": ("looking for faults in them", _audit),
    "split": ("dividing the photos into training, validation and test", _split),
    "train": ("training wgan-gp", _train),
    "generate": ("generating cells of each class", _generate),
    "evaluate": ("comparing them with cells that training never saw", _evaluate),
}
