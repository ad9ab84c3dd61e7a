"""ONNX files as functions."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cytoforge.core.errors import ConfigError


def open_session(path: Path) -> Any:
    """ONNX Runtime's session of a network file, see `session_of`.

    Args:
        path: file that holds its weights itself.

    Raises:
        ConfigError: ONNX Runtime is missing, or the file cannot be used or would read others.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the ONNX file {path}: {error.strerror}.") from error
    if b"\x0a\x08location" in content:
        raise ConfigError(f"{path} keeps weights in other files, which is refused; save it as a single file.")
    return session_of(content, str(path))


def session_of(content: bytes, name: str) -> Any:
    """ONNX Runtime's session of a network, on the processor, with as many threads as torch.

    Args:
        content: of the file.
        name: what a message calls it.

    Raises:
        ConfigError: ONNX Runtime is missing, or the network cannot be used.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "ONNX networks need onnxruntime: pip install 'cytoforge[onnx]', or [export] to write them too."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        with TemporaryDirectory() as empty:  # whatever the network says, it finds no other file
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", empty)
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigError(f"{name} is not a usable ONNX network: {error}.") from error
