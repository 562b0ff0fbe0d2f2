# ruff: noqa: E501 - a graph is easier read in one line
"""Half precision where it is allowed, float32 where it is needed, and one signature."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.precision.half import BFLOAT16, FLOAT16, converted
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(8)
Arrays = dict[str, np.ndarray[Any, Any]]
NET = "g (float[N,16] x) => (float[N,8] y) { a = Gemm(x, w, b) r = Relu(a) y = Gemm(r, u) }"
WEIGHTS: Arrays = {
    "w": RNG.standard_normal((16, 32)).astype(np.float32),
    "b": RNG.standard_normal(32).astype(np.float32),
    "u": RNG.standard_normal((32, 8)).astype(np.float32),
}


def convert(artifact: Artifact, spec: str = "to-float16") -> PassResult:
    (pass_,) = PassPipeline.parse(spec).passes
    return pass_.apply(artifact.model.clone(), PassContext())


def outputs(model: ir.Model, feeds: Arrays) -> Arrays:
    with Session(Artifact(model), optimize=False) as session:
        return session.run(feeds)


def test_weights_are_halved_and_the_signature_stays(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(NET, WEIGHTS, opset=18)
    result = convert(artifact)
    model = result.model
    assert census(model) == {"Cast": 2, "Gemm": 2, "Relu": 1}
    assert {v.dtype for v in model.graph.initializers.values()} == {ir.DataType.FLOAT16}
    assert Artifact(model).size_bytes * 2 == artifact.size_bytes
    assert Artifact(model).spec == artifact.spec
    assert result.details["converted"] == 3
    assert 1e-5 < result.details["error"] < 1e-2
    feeds = {"x": RNG.standard_normal((5, 16)).astype(np.float32)}
    expected, found = outputs(artifact.model, feeds)["y"], outputs(model, feeds)["y"]
    difference = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 1e-5 < difference < 5e-3
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_what_overflows_stays_float32(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[N,16] x) => (float[N,32] y) <float k = {1e6}, float l = {1e-6}> { a = MatMul(x, w) h = Mul(a, k) s = Sigmoid(a) t = Mul(h, l) y = Add(s, t) }"
    result = convert(load_text(text, {"w": WEIGHTS["w"]}, opset=18))
    types = {
        node.op_type: node.outputs[0].dtype for node in result.model.graph if node.op_type != "Mul"
    }
    products = [n for n in result.model.graph if n.op_type == "Mul"]
    assert types["MatMul"] == types["Sigmoid"] == ir.DataType.FLOAT16
    assert products[0].outputs[0].dtype == ir.DataType.FLOAT
    assert result.details["kept_operators"] == ["Mul"]


def test_named_operators_and_nodes_stay(load_text: Callable[..., Artifact]) -> None:
    result = convert(load_text(NET, WEIGHTS, opset=18), "to-float16:keep=Relu")
    assert result.details["converted"] == 2
    relu = next(n for n in result.model.graph if n.op_type == "Relu")
    assert relu.outputs[0].dtype == ir.DataType.FLOAT


def test_an_error_that_cannot_be_met_converts_nothing(load_text: Callable[..., Artifact]) -> None:
    result = convert(load_text(NET, WEIGHTS, opset=18), "to-float16:max-error=1e-9")
    assert not result.modified
    assert census(result.model) == {"Gemm": 2, "Relu": 1}
    assert result.details == {"converted": 0, "kept": 3}


ODD = [
    # An inner value that is an output, an input that is an output, and one value twice.
    "g (float[N,16] x) => (float[N,32] a, float[N,16] x, float[N,32] y) { a = MatMul(x, w) y = Relu(a) }",
    "g (float[N,16] x) => (float[N,32] y, float[N,32] z) { a = MatMul(x, w) y = Add(a, a) z = Neg(y) }",
    # A body that reads a value of half precision, and a cast.
    """g (float[2,16] x, bool c) => (float[2,32] y) { a = MatMul(x, w) b = Relu(a)
       y = If(c) <then_branch = t () => (float[2,32] p) { p = Exp(b) }, else_branch = e () => (float[2,32] q) { q = Neg(b) }> }""",
    "g (int64[N,16] x) => (float[N,32] y, int64[N,32] i) { f = Cast<to = 1>(x) a = MatMul(f, w) y = Relu(a) i = Cast<to = 7>(y) }",
    # Operators without a form of half precision, and a float32 operand that must stay.
    "g (float[1,1,4,4] x) => (float[1,1,8,8] y) <float[4] s = {1, 1, 2, 2}> { a = Relu(x) b = Resize(a, , s) y = Sigmoid(b) }",
    "g (float[N,16] x) => (float[N,4] v, int64[N,4] i) <int64[1] k = {4}> { a = Sigmoid(x) v, i = TopK(a, k) }",
]


@pytest.mark.parametrize("text", ODD)
def test_odd_graphs_stay_valid_and_near(text: str, load_text: Callable[..., Artifact]) -> None:
    arrays = {"w": WEIGHTS["w"]} if "w)" in text else {}
    artifact = load_text(text, arrays, opset=18)
    result = convert(artifact)
    assert result.modified
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    assert Artifact(result.model).spec == artifact.spec
    feeds: Arrays = {}
    for value in artifact.spec.inputs:
        shape = [d if isinstance(d, int) else 2 for d in value.shape or ()]
        feeds[value.name] = np.asarray(RNG.standard_normal(shape) * 2).astype(value.dtype)
    expected, found = outputs(artifact.model, feeds), outputs(result.model, feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(
            found[name].astype(float),
            array.astype(float),
            rtol=2e-2,
            atol=1 if array.dtype == np.int64 else 2e-2,
        )


def test_numbers_beyond_the_range_become_the_largest() -> None:
    array = np.array([1e30, -1e30, np.inf, 1.0, np.nan], np.float32)
    found = converted(ir.Tensor(array, name="w"), FLOAT16, "h").numpy()
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, np.array([65504, -65504, np.inf, 1, np.nan], np.float16))


def test_bfloat16_has_another_type_and_limit(load_text: Callable[..., Artifact]) -> None:
    result = convert(load_text(NET, WEIGHTS, opset=18), "to-bfloat16")
    assert {v.dtype for v in result.model.graph.initializers.values()} == {BFLOAT16.dtype}
    assert 1e-3 < result.details["error"] < 5e-2
