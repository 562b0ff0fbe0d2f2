# ruff: noqa: E501 - a graph is easier read in one line
"""Weights are rounded so that outputs come out near, on the grid that a quantizer will choose."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.passes.quantization.round_weights import RoundWeights
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(2)
Array = np.ndarray[Any, Any]
Load = Callable[..., Artifact]


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def smooth(*shape: int) -> Array:
    """Return inputs whose neighbours are alike, as those of real layers are."""
    return (0.3 * normal(*shape) + normal(*shape[:-1], 1) + 1).astype(np.float32)


IMAGES, ROWS = smooth(32, 4, 7, 7), smooth(64, 24)
# Text, weight, inputs, and the axis of the weight's output channels.
NETS: dict[str, tuple[str, Array, Array, int]] = {
    "conv": ("g (float[N,4,7,7] x) => (float[N,6,A,B] y) { y = Conv<pads = [1,2,0,1], strides = [2,1], dilations = [1,2]>(x, w) }", normal(6, 4, 3, 2), IMAGES, 0),
    "grouped": ("g (float[N,4,7,7] x) => (float[N,6,A,B] y) { y = Conv<group = 2>(x, w) }", normal(6, 2, 3, 3), IMAGES, 0),
    "depthwise": ("g (float[N,4,7,7] x) => (float[N,4,A,B] y) { y = Conv<group = 4, auto_pad = \"VALID\">(x, w) }", normal(4, 1, 3, 3), IMAGES, 0),
    "gemm": ("g (float[N,24] x) => (float[N,9] y) { y = Gemm<transB = 1>(x, w) }", normal(9, 24), ROWS, 0),
    "matmul": ("g (float[N,24] x) => (float[N,9] y) { y = MatMul(x, w) }", normal(24, 9), ROWS, 1),
}  # fmt: skip


def context(x: Array) -> PassContext:
    def samples() -> Iterator[dict[str, Array]]:
        for start in range(0, len(x), 8):
            yield {"x": x[start : start + 8]}

    return PassContext(samples=samples)


def rounded(artifact: Artifact, pass_: RoundWeights, x: Array) -> PassResult:
    return pass_.apply(artifact.model.clone(), context(x))


def run(model: ir.Model, x: Array) -> Array:
    with Session(Artifact(model), optimize=False) as session:
        return session.run({"x": x})["y"]


def weight(result: PassResult) -> Array:
    value = next(iter(result.model.graph)).inputs[1]
    assert value is not None and value.const_value is not None  # noqa: PT018
    return value.const_value.numpy()


def nearest(w: Array, axis: int, limit: int = 127) -> tuple[Array, Array]:
    others = tuple(i for i in range(w.ndim) if i != axis)
    scale = np.abs(w).max(axis=others, keepdims=True) / limit
    return (np.rint(w / scale) * scale).astype(np.float32), scale


def error(artifact: Artifact, w: Array, x: Array) -> float:
    """Return the mean square of the outputs' error with these weights."""
    copy = artifact.clone()
    copy.model.graph.initializers["w"].const_value = ir.Tensor(w, name="w")
    return float(np.square(run(copy.model, x) - run(artifact.model, x)).mean())


@pytest.mark.parametrize("bits", ["8", "4"])
@pytest.mark.parametrize("name", NETS)
def test_outputs_are_nearer_than_with_the_nearest_weights(
    load_text: Load, name: str, bits: Any
) -> None:
    text, w, x, axis = NETS[name]
    artifact = load_text(text, {"w": w})
    result = rounded(artifact, RoundWeights(bits=bits), x)
    limit = 127 if bits == "8" else 7
    plain, scale = nearest(w, axis, limit)
    found = weight(result)
    steps = found / scale
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert np.abs(steps - w / scale).max() < 1 + 1e-3
    assert np.abs(np.rint(steps)).max() == limit
    before, after = error(artifact, plain, x), error(artifact, found, x)
    # The shared part of the inputs is what a good choice cancels.
    assert after < 0.6 * before
    # It has seen every position of these: what it says of itself is so.
    assert result.details["error"] == pytest.approx(after / before, rel=0.35)


@pytest.mark.parametrize("name", ["gemm", "grouped"])
def test_the_error_that_is_told_is_that_of_the_outputs(load_text: Load, name: str) -> None:
    """All batches are of one size and all positions are read, so the two have to agree."""
    text, w, x, axis = NETS[name]
    artifact = load_text(text, {"w": w})
    result = rounded(artifact, RoundWeights(samples=8), x)
    before = error(artifact, nearest(w, axis)[0], x[:64])
    after = error(artifact, weight(result), x[:64])
    assert result.details["error"] == pytest.approx(after / before, rel=2e-2)


def test_a_quantizer_stores_these_weights_without_another_error(load_text: Load) -> None:
    text, w, x, axis = NETS["conv"]
    result = rounded(load_text(text, {"w": w}), RoundWeights(), x)
    found, (_, scale) = weight(result), nearest(w, axis)
    model = QuantizeStatic().apply(result.model.clone(), context(x)).model
    stored = [
        v.const_value.numpy()
        for v in model.graph.initializers.values()
        if v.const_value is not None and v.const_value.dtype == ir.DataType.INT8
    ]
    (integers,) = [array for array in stored if array.shape == w.shape]
    np.testing.assert_array_equal(integers, np.rint(found / scale))


def test_one_scale_for_all_channels(load_text: Load) -> None:
    text, w, x, _ = NETS["gemm"]
    w = w * np.geomspace(0.1, 10, 9, dtype=np.float32)[:, None]
    found = weight(rounded(load_text(text, {"w": w}), RoundWeights(per_channel=False), x))
    steps = found / (np.abs(w).max() / 127)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


def test_what_is_left_says_why(load_text: Load) -> None:
    text = "g (float[N,24] x) => (float[N,9] y, float[N,N] z, float[N,9] a) { y = MatMul(x, w) t = Transpose(x) z = MatMul(x, t) a = Gemm(x, w) }"
    artifact = load_text(text, {"w": NETS["matmul"][1]})
    result = rounded(artifact, RoundWeights(exclude=("Gemm",)), ROWS)
    assert result.details["layers"] == 1
    reasons = [entry["reason"] for entry in result.details["left_float"]]
    assert reasons == ["its weights are not constant float32", "excluded by 'Gemm'"]


def test_the_same_every_time_and_the_input_stays(load_text: Load) -> None:
    text, w, x, _ = NETS["conv"]
    artifact = load_text(text, {"w": w})
    first = weight(rounded(artifact, RoundWeights(), x))
    np.testing.assert_array_equal(weight(rounded(artifact, RoundWeights(), x)), first)
    kept = artifact.model.graph.initializers["w"].const_value
    assert kept is not None
    np.testing.assert_array_equal(kept.numpy(), w)


def test_bad_data_has_clear_words(load_text: Load) -> None:
    text, w, x, _ = NETS["gemm"]
    artifact = load_text(text, {"w": w})
    with pytest.raises(SmithError, match="data is empty"):
        RoundWeights().apply(artifact.model.clone(), PassContext(samples=lambda: iter(())))
    with pytest.raises(SmithError, match="not finite"):
        rounded(artifact, RoundWeights(), np.full_like(x, 3e38))  # finite, its square is not
