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
NAMESAKES = graph(node("Exp", ["x"], "a", "same"), node("Neg", ["a"], "y", "same"))
HEADER = '<ir_version: 10, opset_import: ["": 18, "own": 1]>'


def text(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEADER} g (float[2] x) => (float[2] y) {body}")


def with_attribute(kind: str, **attributes: Any) -> onnx.ModelProto:
    return graph(helper.make_node(kind, ["x"], ["y"], name="odd", **attributes))


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
    "names of nodes": (NAMESAKES, "Neg node 'same'"),
    "unknown operator": (graph(node("Exxp", ["x"], "y", "typo")), "'typo' is of no operator"),
    "later operator": (graph(node("Swish", ["x"], "y", "early")), "'early' is of no operator"),
    "kind of attribute": (with_attribute("LeakyRelu", alpha=3), "'odd' has an attribute 'alpha'"),
    "unknown attribute": (with_attribute("LeakyRelu", alfa=0.1), "'odd' has an attribute 'alfa'"),
    "missing attribute": (with_attribute("Concat"), "'odd' lacks the attribute 'axis'"),
    "number of inputs": (
        graph(node("Add", ["x"], "y", "half")),
        "'half' has 1 inputs, and needs 2",
    ),
    "number of outputs": (
        graph(helper.make_node("Exp", ["x"], ["y", "z"], name="two")),
        "'two' has 2 outputs, and may have 1",
    ),
    "recursion": (
        text("""{ y = own.F(x) } <domain: "own", opset_import: ["own": 1]> F (a) => (b)
            { b = own.G(a) } <domain: "own", opset_import: ["own": 1]> G (a) => (b) { b = own.F(a) }
            """),
        "functions call themselves: own.F -> own.G -> own.F",
    ),
    "a call": (
        text("""{ y = own.F(x, x) }
            <domain: "own", opset_import: ["": 18]> F (a) => (b) { b = Exp(a) }"""),
        "more inputs or outputs than its function",
    ),
    "body": (
        text("""{ c = Constant<value = bool {1}>() y = If(c) <
            then_branch = a () => (float[2] p) { p = Neg(nowhere) },
            else_branch = b () => (float[2] q) { q = Exp(x) }> }"""),
        "the input 'nowhere' of the Neg node that makes 'p'",
    ),
    "operator in a body": (
        text("""{ c = Constant<value = bool {1}>() y = If(c) <
            then_branch = a () => (float[2] p) { p = Nope(x) },
            else_branch = b () => (float[2] q) { q = Exp(x) }> }"""),
        "the Nope node that makes 'p' is of no operator",
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
    assert ended.err.count("\n") == 2, ended.err  # what, and how to mend it
    assert optimize(model, "--verify", "off").code == (0 if name == "mixed" else 1)
    (tmp_path / "out.onnx").unlink(missing_ok=True)
    assert optimize(model).code == 1
    assert not (tmp_path / "out.onnx").exists()


def test_a_name_given_twice_is_repaired(optimize: Callable[..., Any], tmp_path: Path) -> None:
    ended = optimize(TWICE, "--repair")
    assert ended.code == 0, ended.err
    assert "renamed the output 'a' of the Exp node 'first'" in ended.out
    feeds = {"x": np.array([-1, 2], np.float32)}
    with Session(Artifact.load(tmp_path / "out.onnx")) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], np.exp(feeds["x"]), rtol=1e-5)


def test_names_of_nodes_are_repaired(optimize: Callable[..., Any], tmp_path: Path) -> None:
    ended = optimize(NAMESAKES, "--repair")
    assert ended.code == 0, ended.err
    assert "renamed the Neg node 'same' to 'same_1'" in ended.out
    names = [n.name for n in onnx.load(tmp_path / "out.onnx").graph.node]
    assert names == ["same", "same_1"]


def test_training_information_is_removed_where_that_is_asked_for(
    optimize: Callable[..., Any],
) -> None:
    model = graph(node("Exp", ["x"], "y", "n"))
    model.training_info.add().algorithm.name = "sgd"
    assert optimize(model).code == 1
    ended = optimize(model, "--repair")
    assert ended.code == 0, ended.err
    assert "removed the training information" in ended.out


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"\xff" * 4096, b"PK\x03\x04", b"\x08\x0a" * 9])
def test_what_is_no_model(data: bytes, run_cli: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    source.write_bytes(data)
    ended = run_cli("optimize", source, "-o", tmp_path / "out.onnx")
    assert ended.code == 1
    assert ended.err.count("\n") == 2, ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out.onnx").exists()


def test_a_file_cut_anywhere_is_an_error_or_a_smaller_model(
    run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    source, data = tmp_path / "in.onnx", TWICE.SerializeToString()
    for size in range(0, len(data), 7):
        source.write_bytes(data[:size])
        ended = run_cli("optimize", source, "-o", tmp_path / "out.onnx", "--verify", "off")
        assert ended.code == 1, size
        assert "Traceback" not in ended.err


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
