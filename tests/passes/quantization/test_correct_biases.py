# ruff: noqa: E501 - a graph is easier read in one line
"""The mean error of rounded weights is gone from the outputs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.quantization.affine import fit_weight
from onnxsmith.passes.quantization.correct_biases import CorrectBiases
from onnxsmith.passes.quantization.round_weights import RoundWeights
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(9)
Array = np.ndarray[Any, Any]
Load = Callable[..., Artifact]


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


IMAGES, ROWS = np.abs(normal(16, 4, 7, 7)), np.abs(normal(32, 3, 24))
# Text, weights, inputs, the axis of the weight's channels, and those of the outputs to average.
NETS: dict[str, tuple[str, dict[str, Array], Array, int, tuple[int, ...]]] = {
    "conv": ("g (float[N,4,7,7] x) => (float[N,6,A,B] y) { y = Conv<pads = [1,2,0,1], strides = [2,1], dilations = [1,2]>(x, w, b) }", {"w": normal(6, 4, 3, 2), "b": normal(6)}, IMAGES, 0, (0, 2, 3)),
    "depthwise without bias": ("g (float[N,4,7,7] x) => (float[N,4,A,B] y) { y = Conv<group = 4>(x, w) }", {"w": normal(4, 1, 3, 3)}, IMAGES, 0, (0, 2, 3)),
    "gemm": ("g (float[N,24] x) => (float[N,9] y) { y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b) }", {"w": normal(9, 24), "b": normal(1, 9)}, ROWS[:, 0], 0, (0,)),
    "gemm without bias": ("g (float[N,24] x) => (float[N,9] y) { y = Gemm<beta = 3.0>(x, w) }", {"w": normal(24, 9)}, ROWS[:, 0], 1, (0,)),
    "matmul": ("g (float[N,3,24] x) => (float[N,3,9] y) { m = MatMul(x, w) y = Add(b, m) }", {"w": normal(24, 9), "b": normal(9)}, ROWS, 1, (0, 1)),
}  # fmt: skip


def context(x: Array) -> PassContext:
    def samples() -> Iterator[dict[str, Array]]:
        for start in range(0, len(x), 8):
            yield {"x": x[start : start + 8]}

    return PassContext(samples=samples)


def correct(artifact: Artifact, pass_: CorrectBiases, x: Array) -> PassResult:
    return pass_.apply(artifact.model.clone(), context(x))


def rounded(model: ir.Model, axis: int | None, dtype: ir.DataType = ir.DataType.INT8) -> ir.Model:
    """Return the model with weights as a quantizer stores them."""
    copy = model.clone()
    value = copy.graph.initializers["w"]
    assert value.const_value is not None
    array = value.const_value.numpy()
    affine = fit_weight(array, dtype, axis)
    value.const_value = ir.Tensor(affine.dequantize(affine.quantize(array)), name="w")
    return copy


def run(model: ir.Model, x: Array) -> Array:
    with Session(Artifact(model), optimize=False) as session:
        return session.run({"x": x})["y"]


@pytest.mark.parametrize(("bits", "dtype"), [("8", ir.DataType.INT8), ("4", ir.DataType.INT4)])
@pytest.mark.parametrize("name", NETS)
def test_the_mean_error_of_each_channel_is_gone(
    load_text: Load, name: str, bits: Any, dtype: ir.DataType
) -> None:
    text, weights, x, axis, axes = NETS[name]
    artifact = load_text(text, weights)
    result = correct(artifact, CorrectBiases(bits=bits), x)
    assert result.details["layers"] == 1
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    exact = run(artifact.model, x)
    before = run(rounded(artifact.model, axis, dtype), x) - exact
    after = run(rounded(result.model, axis, dtype), x) - exact
    assert np.abs(before.mean(axis=axes)).max() > 1e-4
    assert np.abs(after.mean(axis=axes)).max() < 2e-6
    # What is taken off is the same everywhere, and the weights are not touched.
    spread = (after - before).std(axis=axes)
    assert spread.max() < 1e-5
    kept = result.model.graph.initializers["w"].const_value
    assert kept is not None
    np.testing.assert_array_equal(kept.numpy(), weights["w"])


def test_one_scale_for_all_channels_makes_another_error(load_text: Load) -> None:
    text, weights, x, _, axes = NETS["conv"]
    artifact = load_text(text, weights)
    exact = run(artifact.model, x)
    result = correct(artifact, CorrectBiases(per_channel=False), x)
    after = run(rounded(result.model, None), x) - exact
    assert np.abs(after.mean(axis=axes)).max() < 2e-6


def test_all_batches_up_to_the_limit_count(load_text: Load) -> None:
    text, weights, x, axis, axes = NETS["conv"]
    artifact = load_text(text, weights)
    result = correct(artifact, CorrectBiases(samples=1), x)
    error = run(rounded(result.model, axis), x) - run(artifact.model, x)
    assert np.abs(error[:8].mean(axis=axes)).max() < 2e-6
    assert np.abs(error[8:].mean(axis=axes)).max() > 1e-5


def test_rounding_for_the_outputs_leaves_no_mean_either(load_text: Load) -> None:
    text, weights, x, _, axes = NETS["conv"]
    artifact = load_text(text, weights)
    exact = run(artifact.model, x)
    means = []
    for biases in (True, False):
        pass_ = RoundWeights(bits="4", biases=biases)
        model = pass_.apply(artifact.model.clone(), context(x)).model
        means.append(np.abs((run(model, x) - exact).mean(axis=axes)).max())
    assert means[0] < 5e-6
    assert means[1] > 1e-5


LEFT = {
    "it has no bias": ("g (float[N,24] x) => (float[N,9] y) { y = MatMul(x, w) }", {"w": normal(24, 9)}),
    "its weights are not constant float32": ("g (float[N,24] x) => (float[N,N] y) { t = Transpose(x) y = Gemm(x, t) }", {}),
    "its bias is computed": ("g (float[N,24] x) => (float[N,9] y) { m = MatMul(x, w) y = Gemm(x, w, m) }", {"w": normal(24, 9)}),
    "its bias is not one number a channel": ("g (float[N,24] x) => (float[N,9] y) { y = Gemm(x, w, b) }", {"w": normal(24, 9), "b": normal(1)}),
}  # fmt: skip


@pytest.mark.parametrize("reason", LEFT)
def test_what_is_left_says_why(load_text: Load, reason: str) -> None:
    result = correct(load_text(*LEFT[reason]), CorrectBiases(), ROWS[:, 0])
    assert not result.modified
    assert reason in [entry["reason"] for entry in result.details["left_float"]]


def test_empty_data_and_exclusions(load_text: Load) -> None:
    text, weights, x, _, _ = NETS["gemm"]
    artifact = load_text(text, weights)
    with pytest.raises(SmithError, match="data is empty"):
        CorrectBiases().apply(artifact.model.clone(), PassContext(samples=lambda: iter(())))
    assert not correct(artifact, CorrectBiases(exclude=("Gemm",)), x).modified
