"""Invalid graphs: an error that names the node, or a repair that says what it did."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxsmith.artifact import Artifact
from onnxsmith.passes.observers import census
from onnxsmith.runtime.session import Session

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
OPSET = (helper.make_opsetid("", 18),)


def node(kind: str, inputs: list[str], output: str, name: str, domain: str = "") -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=name, domain=domain)


def graph(*nodes: onnx.NodeProto, imports: Any = OPSET) -> onnx.ModelProto:
    inner = helper.make_graph(list(nodes), "g", [X], [Y])
    return helper.make_model(inner, opset_imports=list(imports), ir_version=10)


TWICE = graph(
    node("Exp", ["x"], "a", "first"),
    node("Neg", ["a"], "b", "between"),
    node("Abs", ["b"], "a", "second"),
    node("Relu", ["a"], "y", "last"),
)
OWN = graph(node("F", ["x"], "y", "strange", "own"))
BAD = {
    "cycle": (graph(node("Add", ["x", "b"], "y", "one"), node("Neg", ["y"], "b", "two")), "one"),
    "dangling": (graph(node("Add", ["x", "nowhere"], "y", "lost")), "lost"),
    "twice": (TWICE, "second"),
    "not imported": (OWN, "strange"),
    "nothing imported": (
        graph(node("Relu", ["x"], "y", "bare"), imports=[helper.make_opsetid("own", 1)]),
        "bare",
    ),
    "type": (
        graph(
            helper.make_node("Cast", ["x"], ["i"], name="cast", to=TensorProto.INT64),
            node("Add", ["x", "i"], "y", "mixed"),
        ),
        "mixed",
    ),
}


@pytest.fixture
def optimize(run_cli: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def run(model: onnx.ModelProto, *options: str) -> Any:
        source = tmp_path / "in.onnx"
        source.write_bytes(model.SerializeToString())
        return run_cli("optimize", source, "-o", tmp_path / "out.onnx", "--allow-slower", *options)

    return run


@pytest.mark.parametrize(("model", "name"), BAD.values(), ids=BAD)
def test_the_error_names_the_node(
    model: onnx.ModelProto, name: str, optimize: Callable[..., Any], tmp_path: Path
) -> None:
    ended = optimize(model)
    assert ended.code == 1, ended.err
    assert name in ended.err
    assert not (tmp_path / "out.onnx").exists()


def test_a_name_given_twice_is_repaired(optimize: Callable[..., Any], tmp_path: Path) -> None:
    ended = optimize(TWICE, "--repair")
    assert ended.code == 0, ended.err
    assert "renamed the output 'a' of the Exp node 'first'" in ended.out
    feeds = {"x": np.array([-1, 2], np.float32)}
    with Session(Artifact.load(tmp_path / "out.onnx")) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], np.exp(feeds["x"]), rtol=1e-5)


def test_an_import_is_repaired(optimize: Callable[..., Any], tmp_path: Path) -> None:
    ended = optimize(OWN, "--repair")
    assert ended.code == 0, ended.err
    assert "imported version 1 of the operators of 'own'" in ended.out
    assert onnx.load(tmp_path / "out.onnx").graph.node[0].op_type == "F"


def test_unsorted_nodes_are_sorted(optimize: Callable[..., Any], tmp_path: Path) -> None:
    model = graph(node("Relu", ["a"], "y", "last"), node("Exp", ["x"], "a", "first"))
    assert optimize(model).code == 0
    assert [n.op_type for n in onnx.load(tmp_path / "out.onnx").graph.node] == ["Exp", "Relu"]


def test_of_constants_with_one_name_the_last_counts(
    optimize: Callable[..., Any], tmp_path: Path
) -> None:
    def constant(value: float) -> onnx.NodeProto:
        return helper.make_node("Constant", [], ["c"], value_float=value)

    assert (
        optimize(graph(constant(1.0), node("Mul", ["x", "c"], "y", "m"), constant(3.0))).code == 0
    )
    with Session(Artifact.load(tmp_path / "out.onnx")) as session:
        np.testing.assert_array_equal(session.run({"x": np.ones(2, np.float32)})["y"], [3, 3])


def test_unknown_operators_are_left_alone_also_in_bodies(
    optimize: Callable[..., Any], tmp_path: Path
) -> None:
    text = """<ir_version: 10, opset_import: ["": 18, "own": 3]>
        g (bool c, float[2] x) => (float[2] y) {
        a = own.F <k = 3>(x)
        y = If(c) <then_branch = t () => (float[2] p) { i = Identity(a) p = own.G(i) },
                   else_branch = e () => (float[2] q) { q = own.F <k = 4>(x) }> }"""
    ended = optimize(onnx.parser.parse_model(text))
    assert ended.code == 0, ended.err
    assert census(Artifact.load(tmp_path / "out.onnx").model) == {"own.F": 2, "If": 1, "own.G": 1}
