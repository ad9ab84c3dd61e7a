"""What this machine offers, and whether everything the work needs is there."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_GIB = 1024**3
_NEEDED_DISK_GIB = 1.0


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        name: what was looked at.
        value: what was found.
        works: False where the work cannot be done like this, True where a needed thing is fine, None for a
            mere fact.
        advice: what to do about it, or empty.
    """

    name: str
    value: str
    works: bool | None = None
    advice: str = ""


def examine() -> list[Finding]:
    """Look at every part in turn; a part that breaks becomes a finding, never an error."""
    return [_guarded(name, look) for name, look in _EXAMINATIONS.items()]


def _guarded(name: str, look: Callable[[str], Finding]) -> Finding:
    try:
        return look(name)
    except Exception as error:  # whatever is broken here is what the user wants to be told
        return Finding(
            name, f"{type(error).__name__}: {error}", False, "reinstall cytoforge in a fresh environment"
        )


def _software(name: str) -> Finding:
    return Finding(
        name, f"{_version('cytoforge')} on Python {platform.python_version()}, {platform.platform()}"
    )


def _torch(name: str) -> Finding:
    import torch

    total = float((torch.ones(8, 8) @ torch.ones(8, 8)).sum())
    return Finding(name, f"{torch.__version__}, {torch.get_num_threads()} threads", total == 512.0)


def _processor(name: str) -> Finding:
    import torch

    flags = _processor_flags()
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
    found = ", ".join(flag for flag in known if flag in flags) or "unknown flags"
    speed = "bf16 in hardware" if {"avx512_bf16", "amx_bf16", "bf16"} & flags else "no bf16 in hardware: fp32"
    return Finding(
        name, f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()} ({found}); {speed}"
    )


def _processor_flags() -> set[str]:
    description = Path("/proc/cpuinfo")
    if not description.is_file():
        return set()
    lines = description.read_text(errors="replace").splitlines()
    return {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}


def _cuda(name: str) -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(name, "none; training runs on the processor")
    devices = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Finding(name, devices)


def _vision(name: str) -> Finding:
    from cytoforge.networks.torchvision_cpu import prepare_torchvision

    prepare_torchvision()
    import timm
    import torchvision

    return Finding(name, f"torchvision {torchvision.__version__}, timm {timm.__version__}", True)


def _weights(name: str) -> Finding:
    from cytoforge.evaluation.features import open_extractor

    extractor = open_extractor()
    return Finding(name, f"{extractor.name}, {extractor.dim} features, no download needed", True)


def _cache(name: str) -> Finding:
    from cytoforge.data.cache import cache_directory

    directory = cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        return Finding(name, str(directory), True)


def _disk(name: str) -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / _GIB
    enough = free >= _NEEDED_DISK_GIB
    advice = "" if enough else f"a run needs about {_NEEDED_DISK_GIB:g} GiB: free some space"
    return Finding(name, f"{free:.1f} GiB free here", enough, advice)


def _memory(name: str) -> Finding:
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return Finding(name, "unknown")
    page = os.sysconf("SC_PAGE_SIZE")
    free, total = (os.sysconf(key) * page / _GIB for key in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    return Finding(name, f"{free:.1f} GiB unused of {total:.1f} GiB")


def _terminal(name: str) -> Finding:
    shown = "yes" if sys.stderr.isatty() else "no, so that progress bars are off"
    return Finding(name, f"{shown}, {shutil.get_terminal_size().columns} columns, {sys.stdout.encoding}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


_EXAMINATIONS: dict[str, Callable[[str], Finding]] = {
    "cytoforge": _software,
    "torch": _torch,
    "processor": _processor,
    "CUDA": _cuda,
    "vision": _vision,
    "offline weights": _weights,
    "cache folder": _cache,
    "disk": _disk,
    "memory": _memory,
    "terminal": _terminal,
}
