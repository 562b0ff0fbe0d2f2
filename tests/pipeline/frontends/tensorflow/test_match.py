"""What the frontend ``tensorflow`` takes for its own; TensorFlow is not needed for it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.table import FRONTENDS, choose_frontend
from onnxsmith.pipeline.frontends.tensorflow.frontend import TensorflowFrontend
from onnxsmith.pipeline.frontends.tensorflow.sniff import is_graph_file, saved_model_folder

# A GraphDef of one node: field 1, with the fields name = "x" and op = "Placeholder" in it.
NODE = b"\x0a\x01x\x12\x0bPlaceholder"
GRAPH = b"\x0a" + bytes([len(NODE)]) + NODE + b"\x22\x03\x08\xa3\x01"


def test_the_table_names_it() -> None:
    assert FRONTENDS["tensorflow"]().name == "tensorflow"


def test_folders_with_a_saved_model_are_its_own(tmp_path: Path) -> None:
    frontend = TensorflowFrontend()
    assert frontend.match(str(tmp_path)) is None
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert frontend.match(str(tmp_path)) is not None
    assert frontend.match(str(tmp_path / "saved_model.pb")) is not None
    assert saved_model_folder(str(tmp_path / "saved_model.pb")) == tmp_path


def test_graphs_are_its_own_by_their_suffix() -> None:
    assert choose_frontend("models/net.PB").name == "tensorflow"
    assert TensorflowFrontend().match("models/net.onnx") is None


def test_callables_are_its_own_where_their_module_imports_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tfnet.py").write_text("import tensorflow as tf\n")
    (tmp_path / "other.py").write_text("import math\n")
    frontend = TensorflowFrontend()
    found = frontend.match("tfnet:build")
    assert found is not None
    assert found.reason == "its module imports tensorflow"
    assert frontend.match("other:build") is None
    assert choose_frontend("tfnet:build").name == "tensorflow"


def test_nothing_of_ours_is_its_own() -> None:
    assert TensorflowFrontend().match_object(object()) is None


def test_a_graph_is_known_by_its_first_node(tmp_path: Path) -> None:
    path = tmp_path / "net.pb"
    path.write_bytes(GRAPH)
    assert is_graph_file(path)
    for length in range(len(NODE) + 2):
        path.write_bytes(GRAPH[:length])
        assert not is_graph_file(path), length
    for data in (
        b"\x08\x07" + GRAPH,  # an ONNX model begins with its version
        b"\x0a\xff\xff\xff\xff\x7f" + NODE,  # longer than the file
        b"\x0a\x10\x0a\x7fxxxxxxxxxxxxxxxxxxxxx",  # a name longer than its node
        b"\x0a\x10\x12\x0bPlaceholder000",  # a node without a name
        b"\x0a\x05\x0a\x03\x00\x01\x02",  # a name of control characters
        b"\xff" * 40,
        b"PK\x03\x04" + bytes(40),
    ):
        path.write_bytes(data)
        assert not is_graph_file(path), data
    assert not is_graph_file(tmp_path / "missing.pb")
    assert not is_graph_file(tmp_path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.binary(max_size=64), prefix=st.sampled_from([b"", b"\x0a", b"\x0a\x20\x0a", b"\x12"])
)
def test_any_bytes_are_told_apart_without_an_error(
    tmp_path: Path, data: bytes, prefix: bytes
) -> None:
    path = tmp_path / "any.pb"
    path.write_bytes(prefix + data)
    is_graph_file(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pb"
    with path.open("wb") as file:
        file.write(GRAPH)
        file.truncate(1 << 32)
    assert not is_graph_file(path)


def test_a_library_may_come_first(tmp_path: Path) -> None:
    path = tmp_path / "library.pb"
    library = b"\x12\x04" + struct.pack("<I", 0)
    path.write_bytes(library + GRAPH)
    assert is_graph_file(path)


def test_without_tensorflow_the_command_that_installs_it_is_told() -> None:
    with pytest.raises(SmithError, match="needs tensorflow and tf2onnx") as caught:
        TensorflowFrontend().open(ConvertRequest("net.pb"))
    assert caught.value.hint == "pip install 'onnxsmith[tensorflow]'"
