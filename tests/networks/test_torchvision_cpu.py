from __future__ import annotations

import subprocess
import sys

from cytoforge.networks import torchvision_cpu


def test_torchvision_and_timm_import_in_a_fresh_process() -> None:
    code = (
        "from cytoforge.networks.torchvision_cpu import prepare_torchvision as p; p(); p();"
        "import torchvision.transforms, torchvision.models, timm; print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "ok", done.stderr


def test_nothing_is_declared_where_the_compiled_library_loads(monkeypatch) -> None:
    monkeypatch.setattr(torchvision_cpu, "_compiled_library_loads", lambda: True)
    assert torchvision_cpu.prepare_torchvision.__wrapped__() is None


def test_schemas_are_declared_once() -> None:
    torchvision_cpu.prepare_torchvision()
    assert torchvision_cpu.prepare_torchvision.__wrapped__() is None
