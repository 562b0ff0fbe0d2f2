"""Weights reach the runtime without a copy, of any type and in any place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from onnxsmith.artifact import Artifact
from onnxsmith.runtime.session import Session

Parse = Callable[..., onnx.ModelProto]

SIZE = 50_000


@pytest.fixture
def spill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "spill"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def in_memory(parse: Parse, text: str, **weights: np.ndarray[Any, Any]) -> Artifact:
    return Artifact.from_proto(parse(text, weights))


def test_weights_in_memory_are_shared_where_the_graph_runs_as_it_stands(
    parse_model: Parse, spill: Path
) -> None:
    w = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    text = f"g (float[{SIZE}] x) => (float[{SIZE}] y) {{ a = Add(x, w) y = Sub(a, v) }}"
    artifact = in_memory(parse_model, text, w=w, v=3 * w)
    with Session(artifact, optimize=False) as session:
        assert [path.stat().st_size for path in spill.iterdir()] == [0]
        found = session.run({"x": np.ones(SIZE, np.float32)})["y"]
    np.testing.assert_array_equal(found, 1 + w - 3 * w)
    assert list(spill.iterdir()) == []


def test_more_than_a_gigabyte_is_written_to_a_file(
    parse_model: Parse, spill: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxsmith.runtime.weights._SHARED_LIMIT", 5 * SIZE)
    w = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    text = f"g (float[{SIZE}] x) => (float[{SIZE}] y) {{ a = Add(x, w) y = Sub(a, v) }}"
    artifact = in_memory(parse_model, text, w=w, v=3 * w)
    with Session(artifact, optimize=False) as session:
        assert sorted(path.stat().st_size for path in spill.iterdir()) == [0, 4 * SIZE]
        found = session.run({"x": np.ones(SIZE, np.float32)})["y"]
    np.testing.assert_array_equal(found, 1 + w - 3 * w)


@pytest.mark.parametrize(
    ("code", "written"),
    [
        (TensorProto.FLOAT16, 0),
        (TensorProto.BFLOAT16, 0),
        (TensorProto.DOUBLE, 0),
        (TensorProto.INT8, 0),
        (TensorProto.UINT64, 0),
        (TensorProto.BOOL, 0),
        (TensorProto.INT4, 100_000),  # packed: the runtime cannot read numpy's one a byte
    ],
)
def test_every_type_arrives(spill: Path, code: int, written: int) -> None:
    size = 4 * SIZE
    integers = np.random.default_rng(0).integers(0, 7, size)
    dtype = ir.DataType(code)
    tensor = ir.Tensor(integers.astype(dtype.numpy()), dtype, name="w")
    value = ir.Value(name="w", type=ir.TensorType(dtype), shape=ir.Shape([size]))
    value.const_value = tensor
    cast = ir.node("Cast", [value], {"to": TensorProto.FLOAT})
    cast.outputs[0].name = "y"
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), value.shape
    graph = ir.Graph(
        [], cast.outputs, nodes=[cast], initializers=[value], opset_imports={"": 21}, name="g"
    )
    with Session(Artifact(ir.Model(graph, ir_version=10)), optimize=False) as session:
        assert [path.stat().st_size for path in spill.iterdir()] == [written]
        found = session.run({})["y"]
    expected = integers != 0 if code == TensorProto.BOOL else integers
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_shared_weights_serve_bodies_and_outputs(parse_model: Parse, spill: Path) -> None:
    w = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    text = f"""g (bool c) => (float[{SIZE}] y, float[{SIZE}] w) {{
      y = If (c) <then_branch = t () => (float[{SIZE}] a) {{ a = Neg(w) }},
                  else_branch = e () => (float[{SIZE}] b) {{ b = Identity(w) }}>
    }}"""
    artifact = in_memory(parse_model, text, w=w)
    with Session(artifact, optimize=False) as session:
        assert [path.stat().st_size for path in spill.iterdir()] == [0]
        taken = session.run({"c": np.array(True)})
        other = session.run({"c": np.array(False)})
    np.testing.assert_array_equal(taken["y"], -w)
    np.testing.assert_array_equal(other["y"], w)
    np.testing.assert_array_equal(taken["w"], w)


def test_weights_that_do_not_lie_in_order(parse_model: Parse, tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    text = "g (float[N,300] x) => (float[N,200] y) { y = MatMul(x, w) }"
    artifact = in_memory(parse_model, text, w=w)
    value = artifact.model.graph.initializers["w"]
    value.const_value = ir.Tensor(np.asfortranarray(w), name="w")
    x = np.eye(300, dtype=np.float32)
    with Session(artifact, optimize=False) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], w)
    artifact.save(tmp_path / "m.onnx")
    tensor = onnx.load(tmp_path / "m.onnx").graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), w)


def resident() -> int:
    """Return the anonymous memory of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    match = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' accounting")
def test_a_kept_output_does_not_keep_the_memory_of_the_run() -> None:
    """The runtime's pool would: its outputs are part of it."""
    rows = 16_000_000
    node = helper.make_node
    graph = helper.make_graph(
        [node("Expand", ["x", "n"], ["a"]), node("Neg", ["a"], ["b"]),
         node("ReduceSum", ["b"], ["y"], keepdims=0)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [helper.make_tensor("n", TensorProto.INT64, [1], [rows])],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 20)]
    artifact = Artifact.from_proto(helper.make_model(graph, ir_version=10, opset_imports=opset))
    before = resident()
    with Session(artifact, optimize=False) as session:
        kept = session.run({"x": np.ones(1, np.float32)})
    assert float(kept["y"]) == -rows
    assert resident() - before < 4 * rows / 4
