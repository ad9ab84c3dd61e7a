from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.core.onnx_session import open_session, session_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def write_network(path: Path, *, apart: bool) -> None:
    """A network that adds 1,024 numbers, which are in the file or beside it."""
    tensor, place = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["images", "weights"], ["sums"])],
        "add",
        [place("images", tensor, [1024])],
        [place("sums", tensor, [1024])],
        [onnx.numpy_helper.from_array(np.ones(1024, np.float32), "weights")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, path, save_as_external_data=apart, location="weights.bin")


def test_a_network_in_one_file_runs(tmp_path: Path) -> None:
    write_network(tmp_path / "add.onnx", apart=False)
    (sums,) = open_session(tmp_path / "add.onnx").run(None, {"images": np.zeros(1024, np.float32)})
    assert (sums == 1).all()


def test_weights_in_other_files_are_refused_before_anything_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_network(tmp_path / "add.onnx", apart=True)
    assert (tmp_path / "weights.bin").is_file()
    monkeypatch.setattr("cytoforge.core.onnx_session.session_of", lambda *_: pytest.fail("opened"))
    with pytest.raises(ConfigError, match="keeps weights in other files"):
        open_session(tmp_path / "add.onnx")


def test_a_crafted_file_that_the_first_look_misses_reads_no_other_file_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same key with its length in two bytes, which protobuf allows."""
    write_network(tmp_path / "add.onnx", apart=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="not a usable ONNX network"):
        session_of((tmp_path / "add.onnx").read_bytes(), "crafted")


def test_what_is_no_network_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("weights")
    with pytest.raises(ConfigError, match="not a usable ONNX network"):
        open_session(tmp_path / "text.onnx")
    with pytest.raises(ConfigError, match="cannot read"):
        open_session(tmp_path / "none.onnx")
