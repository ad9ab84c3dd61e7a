"""torchvision beside a CPU build of torch, where its compiled library cannot be loaded.

torchvision's wheel from the default index is linked against CUDA. Beside a CPU torch its library does not
load, and `import torchvision` then fails with `operator torchvision::nms does not exist`, although models and
transforms need none of those operators. Declaring the two schemas that the import looks up is enough.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def prepare_torchvision() -> torch.library.Library | None:
    """Make `import torchvision` work; call it before the first import of torchvision or timm.

    Where the compiled library loads, or torchvision is absent, nothing is declared.

    Returns:
        The library that holds the declared schemas (it must stay alive), or None where none were needed.
    """
    if _compiled_library_loads() or _declared("torchvision::nms"):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _compiled_library_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    folder = Path(spec.origin).parent
    compiled = [path for path in sorted(folder.glob("_C*")) if path.suffix in {".so", ".pyd", ".dylib"}]
    try:
        for path in compiled:
            torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return bool(compiled)


def _declared(operator: str) -> bool:
    return bool(torch._C._dispatch_has_kernel(operator))
