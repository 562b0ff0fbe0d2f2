"""Sparse tensors, which onnx_ir lacks, become dense ones; what is declared sparse stays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.runtime.session import Session

Parse = Callable[..., onnx.ModelProto]
DENSE = np.array([[3, 0], [0, 4]], np.float32)
X = np.ones((2, 2), np.float32)


def sparse(name: str = "sv", places: tuple[int, ...] = (0, 3)) -> onnx.SparseTensorProto:
    values = helper.make_tensor(name, TensorProto.FLOAT, [len(places)], [3.0, 4.0][: len(places)])
    indices = helper.make_tensor("i", TensorProto.INT64, [len(places)], places)
    return helper.make_sparse_tensor(values, indices, [2, 2])


def run(model: onnx.ModelProto, folder: Path) -> dict[str, np.ndarray]:
    """Load the model from a file, write it, load it again and run it."""
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    Artifact.load(folder / "m.onnx").save(folder / "again.onnx")
    again = Artifact.load(folder / "again.onnx").clone()
    feeds = {"x": X, "c": np.array(True)}
    with Session(again, optimize=False) as session:
        return session.run({value.name: feeds[value.name] for value in again.spec.inputs})


def test_a_constant_of_a_sparse_value(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model("g (float[2,2] x) => (float[2,2] y) { y = Add(x, c) }")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], sparse_value=sparse()))
    np.testing.assert_array_equal(run(model, tmp_path)["y"], X + DENSE)
    kept = Artifact.from_proto(model)
    assert model.graph.node[0].attribute[0].name == "sparse_value"  # the caller's own
    assert "sparse_value" not in kept.model.graph[0].attributes


def test_a_sparse_initializer_of_a_branch(tmp_path: Path, parse_model: Parse) -> None:
    model = parse_model(
        """g (bool c, float[2,2] x) => (float[2,2] y) {
             y = If(c) <then_branch = a () => (float[2,2] p) { p = Neg(x) },
                        else_branch = b () => (float[2,2] q) { q = Abs(x) }> }"""
    )
    branch = model.graph.node[0].attribute[0].g
    branch.sparse_initializer.append(sparse())
    branch.node[0].CopyFrom(helper.make_node("Add", ["x", "sv"], ["p"]))
    np.testing.assert_array_equal(run(model, tmp_path)["y"], X + DENSE)
    assert Artifact.from_proto(model).to_proto().graph.node[0].attribute[0].g.initializer


def test_a_sparse_output_stays_sparse_and_comes_out_dense(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["y"], value=sparse())
    output = helper.make_sparse_tensor_value_info("y", TensorProto.FLOAT, [2, 2])
    graph = helper.make_graph([node], "g", [], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    np.testing.assert_array_equal(run(model, tmp_path)["y"], DENSE)
    written = onnx.load(tmp_path / "again.onnx")
    assert written.graph.node[0].attribute[0].sparse_tensor == sparse()
    assert written.graph.node[0].domain == ""


@pytest.mark.parametrize("places", [(0, 4), (-1, 0)])
def test_a_constant_that_lies_is_refused(
    tmp_path: Path, parse_model: Parse, places: tuple[int, ...]
) -> None:
    model = parse_model("g (float[2,2] x) => (float[2,2] y) { y = Add(x, c) }")
    lying = sparse(places=places)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], sparse_value=lying))
    with pytest.raises(SmithError, match="sparse tensor 'c' is not valid: an index lies outside"):
        run(model, tmp_path)
