from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.flatten_biases import FlattenBiases
from onnxsmith.passes.quantization.quantize_dynamic import QuantizeDynamic
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(3)
# Channels of very different size: one scale for all of them would lose the small ones.
WEIGHT = (RNG.standard_normal((16, 8)) * np.geomspace(0.01, 10, 8)).astype(np.float32)
BIAS = RNG.standard_normal((1, 8)).astype(np.float32)
X = RNG.standard_normal((64, 16)).astype(np.float32)


def gemm() -> Artifact:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>'
        "g (float[N,16] x) => (float[N,8] y) { y = Gemm(x, w, b) }"
    )
    proto.graph.initializer.extend(
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")]
    )
    return Artifact.from_proto(proto)


def samples() -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, 64, 8):
        yield {"x": X[start : start + 8]}


def run(model: ir.Model, x: np.ndarray = X) -> np.ndarray:
    with Session(Artifact(model)) as session:
        return session.run({"x": x})["y"]


EXACT = X @ WEIGHT + BIAS


def channel_snr_db(found: np.ndarray) -> np.ndarray:
    noise = np.square(found - EXACT).sum(axis=0)
    return 10 * np.log10(np.square(EXACT).sum(axis=0) / noise)


def test_flattening_a_bias_changes_nothing_else() -> None:
    model = gemm().model
    result = FlattenBiases().apply(model, PassContext())
    assert result.modified
    assert list(result.model.graph.initializers["b_flat"].shape) == [8]
    assert "b" not in result.model.graph.initializers
    np.testing.assert_allclose(run(result.model), EXACT, rtol=1e-5, atol=1e-5)
    assert not FlattenBiases().apply(result.model, PassContext()).modified


@pytest.mark.parametrize("per_channel", [True, False])
def test_static_int8_is_near_and_per_channel_keeps_small_channels(per_channel: bool) -> None:
    model = FlattenBiases().apply(gemm().model, PassContext()).model
    quantize = QuantizeStatic(per_channel=per_channel)
    result = quantize.apply(model, PassContext(samples=samples))
    assert result.details["calibration_samples"] == 64
    ops = {node.op_type for node in result.model.graph}
    assert {"QuantizeLinear", "DequantizeLinear"} <= ops
    assert channel_snr_db(run(result.model)).max() > 30
    stored = {name: v.const_value.numpy() for name, v in result.model.graph.initializers.items()}
    assert stored["w_quantized"].dtype == np.int8
    scale = stored["w_scale"]
    assert scale.size == (8 if per_channel else 1)
    error = np.abs(stored["w_quantized"] * scale - WEIGHT).max(axis=0) / np.abs(WEIGHT).max(axis=0)
    # One scale a channel keeps each within half a step of 127; a common one loses the smallest.
    assert (error.max() < 0.6 / 127) == per_channel


def test_dynamic_int8_is_near() -> None:
    result = QuantizeDynamic().apply(gemm().model, PassContext())
    assert result.details["quantized"] == 1
    assert channel_snr_db(run(result.model)).min() > 25


def test_the_input_is_not_touched() -> None:
    artifact = gemm()
    QuantizeDynamic().apply(artifact.model.clone(), PassContext())
    np.testing.assert_array_equal(artifact.model.graph.initializers["w"].const_value, WEIGHT)


def test_a_quantized_model_is_refused() -> None:
    once = QuantizeDynamic().apply(gemm().model, PassContext()).model
    with pytest.raises(SmithError, match="quantized already"):
        QuantizeDynamic().apply(once, PassContext())


def test_a_model_without_products_is_refused() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[4] x) => (float[4] y) { y = Sin(x) }'
    )
    with pytest.raises(SmithError, match="nothing in the model"):
        QuantizeDynamic().apply(ir.from_proto(proto), PassContext())


def test_nan_in_calibration_data_is_refused() -> None:
    def bad() -> Iterator[dict[str, np.ndarray]]:
        yield {"x": np.full((32, 16), np.nan, np.float32)}

    with pytest.raises(SmithError, match="NaN or infinity"):
        QuantizeStatic().apply(flat(), PassContext(samples=bad))


def test_empty_calibration_data_is_refused() -> None:
    with pytest.raises(SmithError):
        QuantizeStatic().apply(gemm().model, PassContext(samples=lambda: iter(())))


def test_static_without_data_says_which_option_is_missing() -> None:
    with pytest.raises(SmithError) as caught:
        QuantizeStatic().check_context(PassContext())
    assert "--data" in caught.value.hint


def test_random_data_is_refused_unless_asked_for_and_marked() -> None:
    made_up = PassContext(samples=samples, synthetic=True)
    with pytest.raises(SmithError, match="random data says nothing"):
        QuantizeStatic().apply(gemm().model, made_up)
    details = QuantizeStatic(allow_poor_data=True).apply(flat(), made_up).details
    assert details["calibration_data"] == "random"
    assert "random" in details["warnings"][0]


def test_few_samples_are_refused_unless_asked_for_and_marked() -> None:
    few = PassContext(samples=lambda: iter([{"x": X[:31]}]))
    with pytest.raises(SmithError, match="31 samples only"):
        QuantizeStatic().apply(gemm().model, few)
    details = QuantizeStatic(allow_poor_data=True).apply(flat(), few).details
    assert details["calibration_data"] == "few samples"
    enough = PassContext(samples=lambda: iter([{"x": X[:31]}, {"x": X[31:32]}]))
    assert "calibration_data" not in QuantizeStatic().apply(flat(), enough).details


def flat() -> ir.Model:
    return FlattenBiases().apply(gemm().model, PassContext()).model
