# ruff: noqa: E501 - a graph is easier read in one line
"""Products of 8-bit floating point."""

from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.quantization.quantize_fp8 import QuantizeFp8
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]
RNG = np.random.default_rng(9)
W = RNG.standard_normal((6, 4)).astype(np.float32)
X = (3 * RNG.standard_normal((40, 6))).astype(np.float32)


def samples() -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, 40, 8):
        yield {"x": X[start : start + 8]}


def apply(artifact: Artifact, rule: QuantizeFp8 | None = None) -> PassResult:
    context = PassContext(samples=samples)
    return (rule or QuantizeFp8()).apply(artifact.model.clone(), context)


def rounded(array: np.ndarray, largest: float | None = None) -> np.ndarray:
    """Return what E4M3 leaves of an array that is scaled to its range."""
    scale = np.float32((np.abs(array).max() if largest is None else largest) / 448)
    return (array / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


def ops(result: PassResult) -> list[str]:
    return [node.op_type for node in result.model.graph]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = MatMul(x, w)", W),
        ("y = Gemm<transB = 1>(x, w)", W.T.copy()),
        ("t = Transpose(w) y = MatMul(x, t)", W.T.copy()),
    ],
)
def test_both_operands_are_rounded(body: str, weights: np.ndarray, load_text: Load) -> None:
    artifact = load_text(
        f"g (float[N,6] x) => (float[N,4] y) {{ {body} }}", {"w": weights}, opset=19
    )
    result = apply(artifact)
    assert ops(result).count("QuantizeLinear") == 1
    assert ops(result).count("DequantizeLinear") == 2
    stored = result.model.graph.initializers["w_float8"].const_value
    assert stored is not None
    assert stored.dtype == ir.DataType.FLOAT8E4M3FN
    with Session(Artifact(result.model), optimize=False) as session:
        found = session.run({"x": X})["y"]
    expected = rounded(X) @ rounded(W)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert result.details["calibration_samples"] == 40


def test_a_value_and_a_weight_are_rounded_once(load_text: Load) -> None:
    artifact = load_text(
        "g (float[N,6] x) => (float[N,4] y) { a = Neg(x) b = MatMul(a, w) c = MatMul(a, w) y = Add(b, c) }",
        {"w": W},
        opset=19,
    )
    found = ops(apply(artifact))
    assert found.count("QuantizeLinear") == 1
    assert found.count("DequantizeLinear") == 2


LEFT = {
    "two computed values": ("t = Transpose(x) y = MatMul(x, t)", "its weights are computed"),
    "always 0": ("a = Sub(x, x) y = MatMul(a, w)", "'a' is always 0"),
    "not finite": ("n = Sub(x, x) a = Div(x, n) y = MatMul(a, w)", "'a' is NaN, infinite"),
    "in a body": ("c = Constant<value = bool {1}>() y = If(c) <then_branch = t () => (float[N,4] u) { a = Neg(x) u = MatMul(a, w) }, else_branch = e () => (float[N,4] v) { b = Abs(x) v = MatMul(b, w) }>", "values of bodies"),
    "excluded": ("a = Neg(x) y = MatMul(a, w)", "excluded"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_stays_in_float_is_said(name: str, load_text: Load) -> None:
    body, reason = LEFT[name]
    text = f"g (float[N,6] x) => (float y) {{ {body} }}"
    artifact = load_text(text, {"w": W}, opset=19)
    artifact.model.graph.outputs[0].shape = None
    rule = QuantizeFp8(exclude=("MatMul",)) if name == "excluded" else QuantizeFp8()
    with pytest.raises(SmithError, match="nothing in the model") as caught:
        apply(artifact, rule)
    assert reason in caught.value.hint


def test_an_old_model_is_refused(load_text: Load) -> None:
    artifact = load_text(
        "g (float[N,6] x) => (float[N,4] y) { y = MatMul(x, w) }", {"w": W}, opset=18
    )
    with pytest.raises(SmithError, match="opset 18"):
        apply(artifact)
