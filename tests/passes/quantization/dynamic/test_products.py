# ruff: noqa: E501 - a graph is easier read in one line
"""Matrix products with activations quantized as they come."""

from collections.abc import Callable

import numpy as np
import pytest
from tests.passes.quantization.dynamic.reference import Array, activation, weight

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.integer_weight import REDUCED_RANGE
from onnxsmith.passes.quantization.quantize_dynamic import QuantizeDynamic
from onnxsmith.runtime.census import runtime_census
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

Load = Callable[..., Artifact]
RNG = np.random.default_rng(3)


def normal(*shape: int) -> Array:
    """Return numbers whose last dimension is of very different sizes."""
    return (RNG.standard_normal(shape) * np.geomspace(0.01, 10, shape[-1])).astype(np.float32)


W, B = normal(16, 8), normal(8)
X = (RNG.standard_normal((2, 5, 16)) + 0.3).astype(np.float32)
INTEGER = ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul"]


def quantized(
    artifact: Artifact, rule: QuantizeDynamic | None = None
) -> tuple[Artifact, list[dict[str, str]]]:
    """Return the quantized artifact and what was left in float."""
    result = (rule or QuantizeDynamic()).apply(artifact.model.clone(), PassContext())
    return Artifact(result.model), result.details["left_float"]


def run(artifact: Artifact, x: Array, output: str = "y") -> Array:
    with Session(artifact, optimize=False) as session:
        return np.asarray(session.run({"x": x})[output])


def ops(artifact: Artifact) -> list[str]:
    return [node.op_type for node in artifact.model.graph]


def close(found: Array, expected: Array) -> None:
    """The integers are exact; what is left is the rounding of scales in float32."""
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("reduce_range", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_product_is_that_of_rounded_numbers(
    per_channel: bool, reduce_range: bool, load_text: Load
) -> None:
    artifact = load_text(
        "g (float[N,5,16] x) => (float[N,5,8] y) { y = MatMul(x, w) }", {"w": W}, opset=20
    )
    found, left = quantized(artifact, QuantizeDynamic(per_channel, reduce_range))
    assert sorted(ops(found)) == sorted(INTEGER)
    assert left == []
    limit = REDUCED_RANGE if reduce_range else 127
    close(run(found, X), activation(X) @ weight(W, (0,), limit, per_channel=per_channel))
    stored = {v.name: v.const_value for v in found.model.graph.initializers.values()}
    assert {name: t.nbytes for name, t in stored.items() if t is not None} == {
        "w_quantized": 16 * 8,
        "w_scale": 4 * (8 if per_channel else 1),
    }


def test_products_of_one_value_share_its_integers(load_text: Load) -> None:
    artifact = load_text(
        "g (float[N,5,16] x) => (float[N,5,8] y, float[N,5,8] z) { a = Relu(x) y = MatMul(a, w) z = MatMul(a, v) }",
        {"w": W, "v": normal(16, 8)},
        opset=20,
    )
    found, _ = quantized(artifact)
    assert ops(found)[:2] == ["Relu", "DynamicQuantizeLinear"]
    assert ops(found).count("DynamicQuantizeLinear") == 1
    close(run(found, X), activation(np.maximum(X, 0)) @ weight(W, (0,)))
    fused = runtime_census(found, TARGETS["cpu"])
    assert fused["com.microsoft.MatMulIntegerToFloat"] == 2


def test_the_runtime_fuses_a_product_and_its_bias_into_one_kernel(load_text: Load) -> None:
    artifact = load_text(
        "g (float[N,5,16] x) => (float[N,5,8] y) { a = MatMul(x, w) y = Add(a, b) }",
        {"w": W, "b": B},
        opset=20,
    )
    found, _ = quantized(artifact)
    assert runtime_census(found, TARGETS["cpu"]) == {"com.microsoft.DynamicQuantizeMatMul": 1}
    close(run(found, X), activation(X) @ weight(W, (0,)) + B)


def test_a_stack_of_matrices_has_a_scale_for_each_column_of_each(load_text: Load) -> None:
    stack = normal(3, 16, 8) * np.array([1, 10, 0.1], np.float32).reshape(3, 1, 1)
    artifact = load_text(
        "g (float[3,5,16] x) => (float[3,5,8] y) { y = MatMul(x, w) }", {"w": stack}, opset=20
    )
    found, _ = quantized(artifact)
    x = RNG.standard_normal((3, 5, 16)).astype(np.float32)
    close(run(found, x), activation(x) @ weight(stack, (1,)))


def test_weights_behind_a_transpose_are_turned_once(load_text: Load) -> None:
    artifact = load_text(
        "g (float[N,5,16] x) => (float[N,5,8] y) { t = Transpose<perm = [1,0]>(w) y = MatMul(x, t) }",
        {"w": np.ascontiguousarray(W.T)},
        opset=20,
    )
    found, _ = quantized(artifact)
    assert "Transpose" not in ops(found)
    assert "w" not in found.model.graph.initializers
    close(run(found, X), activation(X) @ weight(W, (0,)))


GEMMS = {
    "plain": ("y = Gemm(x, w, b)", W, 1.0, B),
    "without bias": ("y = Gemm(x, w)", W, 1.0, 0 * B),
    "turned": ("y = Gemm<transB = 1>(x, w, b)", np.ascontiguousarray(W.T), 1.0, B),
    "scaled": ("y = Gemm<alpha = 0.5, beta = 3.0>(x, w, b)", W, 0.5, 3 * B),
    "bias off": ("y = Gemm<beta = 0.0>(x, w, b)", W, 1.0, 0 * B),
    "turned twice": ("t = Transpose(w) y = Gemm<transB = 1>(x, t, b)", W, 1.0, B),
}


@pytest.mark.parametrize("name", GEMMS)
def test_gemm(name: str, load_text: Load) -> None:
    body, w, alpha, b = GEMMS[name]
    artifact = load_text(
        f"g (float[N,16] x) => (float[N,8] y) {{ {body} }}", {"w": w, "b": B}, opset=20
    )
    found, left = quantized(artifact)
    assert left == []
    assert "Gemm" not in ops(found)
    assert ("Add" in ops(found)) == bool(b.any())
    plain = w if w.shape == W.shape else w.T
    close(run(found, X[0]), alpha * (activation(X[0]) @ weight(plain, (0,))) + b)


HALF = W.astype(np.float16)
HOLE = np.where(np.arange(128).reshape(16, 8) == 5, np.nan, W).astype(np.float32)
LEFT = {
    "two computed operands": ("t = Transpose<perm = [0,2,1]>(x) y = MatMul(x, t)", "its weights are computed"),
    "a constant first": ("c = Transpose<perm = [0,2,1]>(x) y = MatMul(c, x)", "its weights are computed"),
    "first operand constant": ("y = MatMul(u, x)", "its first operand is constant, or both are"),
    "weights a vector": ("y = MatMul(x, v)", "its weights are a vector"),
    "halves": ("h = Cast<to = 10>(x) z = MatMul(h, half) y = Cast<to = 1>(z)", "its input is float16, not float32"),
    "not finite": ("y = MatMul(x, hole)", "its weights hold NaN or infinity"),
    "first operand turned": ("r = Reshape(x, two) y = Gemm<transA = 1>(r, wide)", "its first operand is transposed"),
    "excluded": ("y = MatMul(x, w)", "excluded by 'MatMul'"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_stays_in_float_is_said(name: str, load_text: Load) -> None:
    body, reason = LEFT[name]
    weights = {"w": W, "half": HALF, "hole": HOLE, "u": normal(3, 5), "v": normal(16)}
    weights |= {"wide": normal(10, 8), "two": np.array([-1, 16])}
    artifact = load_text(f"g (float[2,5,16] x) => (float y) {{ {body} }}", weights, opset=20)
    artifact.model.graph.outputs[0].shape = None
    rule = QuantizeDynamic(exclude=("MatMul",)) if name == "excluded" else QuantizeDynamic()
    with pytest.raises(SmithError, match="nothing in the model") as caught:
        quantized(artifact, rule)
    assert reason in caught.value.hint


def test_one_node_may_stay(load_text: Load) -> None:
    artifact = load_text(
        "g (float[N,5,16] x) => (float[N,5,4] y) { a = MatMul(x, w) y = MatMul(a, v) }",
        {"w": W, "v": normal(8, 4)},
        opset=20,
    )
    artifact.model.graph[1].name = "last"
    found, left = quantized(artifact, QuantizeDynamic(exclude=("last",)))
    assert left == [{"node": "last", "op": "MatMul", "reason": "excluded by 'last'"}]
    assert ops(found) == [*INTEGER, "MatMul"]
