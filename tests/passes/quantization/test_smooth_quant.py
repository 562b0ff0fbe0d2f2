# ruff: noqa: E501 - a graph is easier read in one line
"""Outliers move from activations into weights; the model computes what it did."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.observers import census
from onnxsmith.passes.quantization.smooth_quant import SmoothQuant
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(6)
Array = np.ndarray[Any, Any]
Load = Callable[..., Artifact]


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def outliers(size: int) -> Array:
    return RNG.permutation(np.geomspace(0.02, 50, size)).astype(np.float32)


SCALE, SHIFT = outliers(8), normal(8)
W, V = normal(8, 6), normal(5, 8)
X = normal(40, 3, 8)
NETS: dict[str, tuple[str, dict[str, Array], int]] = {
    "layer norm": (
        "g (float[N,3,8] x) => (float[N,3,6] y, float[M,5] z) { n = LayerNormalization(x, s, t) y = MatMul(n, w) r = Reshape(n, d) z = Gemm<transB = 1>(r, v) }",
        {"s": SCALE, "t": SHIFT, "w": W, "v": V, "d": np.array([-1, 8])}, 18,
    ),
    "without shift": (
        "g (float[N,3,8] x) => (float[3,N,6] y) { n = LayerNormalization(x, s) p = Transpose<perm = [1,0,2]>(n) y = MatMul(p, w) }",
        {"s": SCALE, "w": W}, 17,
    ),
    "rms norm": (
        "g (float[N,3,8] x) => (float[N,3,6] y) { n = RMSNormalization(x, s) y = MatMul(n, w) }",
        {"s": SCALE, "w": W}, 23,
    ),
    "mul": (
        "g (float[N,3,8] x) => (float[N,3,6] y) { n = Mul(s, x) y = MatMul(n, w) }",
        {"s": SCALE, "w": W}, 18,
    ),
}  # fmt: skip
RESIDUAL = "g (float[N,3,8] x) => (float[N,3,6] y, float[N,3,6] z, float[N,3,8] r) { n = LayerNormalization(x, s, t) y = MatMul(n, w) z = MatMul(n, u) r = Add(n, x) }"
RESIDUAL_WEIGHTS = {"s": SCALE, "t": SHIFT, "w": W, "u": normal(8, 6)}


def samples() -> Iterator[dict[str, Array]]:
    for start in range(0, 40, 8):
        yield {"x": X[start : start + 8]}


def smooth(artifact: Artifact, pass_: SmoothQuant | None = None) -> PassResult:
    context = PassContext(samples=samples)
    return (pass_ or SmoothQuant()).apply(artifact.model.clone(), context)


def run(model: ir.Model, *names: str) -> dict[str, Array]:
    copy = model.clone()
    values = {v.name: v for node in copy.graph for v in node.outputs}
    copy.graph.outputs.extend(values[name] for name in names)
    with Session(Artifact(copy), optimize=False) as session:
        return session.run({"x": X})


def same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=3e-6 * np.abs(array).max())


@pytest.mark.parametrize("name", NETS)
def test_the_model_computes_what_it_did(load_text: Load, name: str) -> None:
    text, weights, opset = NETS[name]
    artifact = load_text(text, weights, opset=opset)
    result = smooth(artifact)
    assert result.details["folded"] == 1
    assert census(result.model) == census(artifact.model)
    same(run(result.model), run(artifact.model))
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    read = {v.name for node in result.model.graph for v in node.inputs if v is not None}
    assert set(result.model.graph.initializers) <= read


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_activations_and_weights_share_as_alpha_says(load_text: Load, alpha: float) -> None:
    text, weights, _ = NETS["layer norm"]
    artifact = load_text(text, weights)
    result = smooth(artifact, SmoothQuant(alpha=alpha))
    before = np.abs(run(artifact.model, "n")["n"]).max(axis=(0, 1))
    after = np.abs(run(result.model, "n")["n"]).max(axis=(0, 1))
    # Both products count: one holds its channels in rows, the other in columns.
    peaks = np.maximum(np.abs(W).max(axis=1), np.abs(V).max(axis=0))
    np.testing.assert_allclose(after, before ** (1 - alpha) * peaks ** (1 - alpha), rtol=1e-4)


def test_all_batches_count(load_text: Load) -> None:
    text, weights, _ = NETS["layer norm"]
    all_of_them = smooth(load_text(text, weights)).model.graph.initializers
    first = smooth(load_text(text, weights), SmoothQuant(samples=1)).model.graph.initializers
    some = [all_of_them["s_smoothed"].const_value, first["s_smoothed"].const_value]
    assert some[0] is not None and some[1] is not None  # noqa: PT018
    assert not np.allclose(some[0].numpy(), some[1].numpy())


def test_a_residual_keeps_the_products_as_they_are(load_text: Load) -> None:
    artifact = load_text(RESIDUAL, RESIDUAL_WEIGHTS)
    result = smooth(artifact)
    assert not result.modified
    assert result.details["left"] == ["others read the result of LayerNormalization too"]


def test_with_insert_one_mul_serves_the_products_of_a_value(load_text: Load) -> None:
    artifact = load_text(RESIDUAL, RESIDUAL_WEIGHTS)
    result = smooth(artifact, SmoothQuant(insert=True))
    assert result.details["inserted"] == 1
    assert census(result.model)["Mul"] == 1
    same(run(result.model), run(artifact.model))
    factors = result.model.graph.initializers["n/smoothing"].const_value
    assert factors is not None
    peaks = np.abs(run(artifact.model, "n")["n"]).max(axis=(0, 1))
    weights = np.maximum(np.abs(W), np.abs(RESIDUAL_WEIGHTS["u"])).max(axis=1)
    np.testing.assert_allclose(factors.numpy(), np.sqrt(weights / peaks), rtol=1e-5)


def test_dead_channels_are_not_scaled(load_text: Load) -> None:
    text = NETS["mul"][0]
    scale, weight = SCALE.copy(), W.copy()
    scale[2], weight[5] = 0, 0
    artifact = load_text(text, {"s": scale, "w": weight})
    result = smooth(artifact)
    same(run(result.model), run(artifact.model))
    found = result.model.graph.initializers["s_smoothed"].const_value
    assert found is not None
    assert found.numpy()[5] == scale[5]


LEFT = {
    "Sin before": ("g (float[N,3,8] x) => (float[N,3,6] y) { n = Sin(x) y = MatMul(n, w) }", {"w": W}),
    "input of the graph": ("g (float[N,3,8] x) => (float[N,3,6] y) { y = MatMul(x, w) }", {"w": W}),
    # The channels leave the last axis.
    "Transpose before": ("g (float[3,8,8] x) => (float[3,8,6] y) { n = LayerNormalization(x, s, t) p = Transpose<perm = [0,2,1]>(n) y = MatMul(p, w) }", {"s": SCALE, "t": SHIFT, "w": W}),
    "Reshape before": ("g (float[N,3,8] x) => (float[M,5] y) { n = LayerNormalization(x, s, t) p = Reshape(n, d) y = MatMul(p, w) }", {"s": SCALE, "t": SHIFT, "w": normal(4, 5), "d": np.array([-1, 4])}),
    "others read the result of Mul too": ("g (float[N,3,8] x) => (float[N,3,6] y) <float k = {2.0}> { n = Mul(x, k) y = MatMul(n, w) }", {"w": W}),
    "others read the result of LayerNormalization too": ("g (float[N,3,8] x) => (float[N,3,6] y, float[N,3,8] n) { n = LayerNormalization(x, s, t) y = MatMul(n, w) }", {"s": SCALE, "t": SHIFT, "w": W}),
}  # fmt: skip


@pytest.mark.parametrize("reason", LEFT)
def test_what_cannot_be_folded_is_left_for_a_reason(load_text: Load, reason: str) -> None:
    result = smooth(load_text(*LEFT[reason]))
    assert not result.modified
    assert result.details["left"] == [reason]


def test_bad_requests_have_clear_words(load_text: Load) -> None:
    text, weights, _ = NETS["mul"]
    artifact = load_text(text, weights)
    with pytest.raises(UsageError, match=r"alpha is 1\.5"):
        smooth(artifact, SmoothQuant(alpha=1.5))
    with pytest.raises(SmithError, match="data is empty"):
        SmoothQuant().apply(artifact.model, PassContext(samples=lambda: iter(())))
    for number, name in ((np.nan, "x"), (3e38, "n")):  # the scale makes the second infinite
        feeds = {"x": np.full((1, 3, 8), number, np.float32)}
        bad = PassContext(samples=lambda feeds=feeds: iter([feeds]))
        with pytest.raises(SmithError, match=f"'{name}' holds NaN or infinity"):
            SmoothQuant().apply(artifact.model, bad)
