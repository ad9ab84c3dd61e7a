"""Which device and number format this machine trains fastest on, and with how many threads it computes."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from torch import nn


@cache
def gains_from_bf16() -> bool:
    """Whether a convolution runs at least 1.3 times as fast in bfloat16, channels last, as in plain float32.

    Measured here in about a tenth of a second, alternating, fastest of each; processors without bf16
    instructions emulate them and lose.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    candidates = []
    for dtype, layout in ((torch.float32, torch.contiguous_format), (torch.bfloat16, torch.channels_last)):
        convolution = nn.Conv2d(64, 64, 3, padding=1).to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
        images = torch.ones(8, 64, 32, 32, dtype=dtype).to(memory_format=layout)
        candidates.append((convolution, images))
    fastest = [float("inf")] * 2
    with torch.no_grad():
        for _ in range(6):
            for index, (convolution, images) in enumerate(candidates):
                start = time.perf_counter()
                convolution(images)
                fastest[index] = min(fastest[index], time.perf_counter() - start)
    return fastest[0] > 1.3 * fastest[1]


def fastest_precision() -> str:
    """Lightning Fabric's name of the number format that this machine gains from."""
    return "bf16-mixed" if gains_from_bf16() else "32-true"


def has_bf16_instructions(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself: what it says, not what a clock measures."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def peak_memory(device: torch.device) -> float | None:
    """The most memory that tensors of this process have held on a graphics card, in GiB; None elsewhere."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def native_precision() -> str:
    """Lightning Fabric's name of bf16 where this machine has instructions for it, else of float32.

    As it is not measured, it is the same whatever else the machine does: for trainings that are compared.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16-mixed" if has_bf16_instructions(device) else "32-true"


@contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Compute with so many threads; another number gives other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def surroundings() -> dict[str, Any]:
    """Device, threads and versions that a run is computed with, for its configuration."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "versions": {
            "cytoforge": version("cytoforge"),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }
