"""The front door: requests, modes, data that is refused, what stays in float."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxsmith
from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.modes import MODES, NEED_DATA
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize

RNG = np.random.default_rng(2)


@pytest.fixture
def artifact() -> Artifact:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>'
        "g (float[N,16] x) => (float[N,4] y) {"
        "  [first] h = MatMul(x, v) r = Relu(h) [second] y = MatMul(r, w) }"
    )
    for name, shape in (("v", (16, 8)), ("w", (8, 4))):
        weight = RNG.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weight, name))
    return Artifact.from_proto(proto)


@pytest.mark.parametrize("name", list(MODES))
def test_each_mode_is_a_class_that_says_what_it_is(name: str) -> None:
    mode = MODES[name]
    assert issubclass(mode, Mode)
    assert mode.__doc__
    assert mode.needs_data == (name in NEED_DATA)


def test_the_package_offers_it_all(artifact: Artifact) -> None:
    result = onnxsmith.quantize(artifact, onnxsmith.QuantizeRequest())
    assert result.artifact.size_bytes < artifact.size_bytes


def test_random_data_has_to_be_asked_for_and_is_marked(artifact: Artifact) -> None:
    request = QuantizeRequest(mode="static", data="random")
    with pytest.raises(SmithError, match="random data"):
        quantize(artifact, request)
    insisting = QuantizeRequest(mode="static", data="random", allow_poor_data=True)
    result = quantize(artifact, insisting)
    assert any("random data" in warning for warning in result.warnings)
    steps = {step.name: step for step in result.artifact.history}
    assert steps["quantize-static"].result["calibration_data"] == "random"


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_what_is_excluded_stays_in_float_and_is_named(
    artifact: Artifact, tmp_path: Path, mode: str
) -> None:
    np.savez(tmp_path / "x.npz", x=RNG.standard_normal((40, 16)).astype(np.float32))
    data = f"npz:{tmp_path / 'x.npz'}"
    result = quantize(artifact, QuantizeRequest(mode=mode, data=data, exclude=("second",)))
    left = {entry["node"]: entry["reason"] for entry in result.left_float}
    assert left["second"] == "excluded by 'second'"
    assert "first" not in left
    weights = result.artifact.model.graph.initializers
    assert "w" in weights, "the excluded weight is still there in float32"
    assert "v" not in weights
    assert result.to_json()["left_float"] == list(result.left_float)


def test_a_mode_that_is_not_there_is_refused(artifact: Artifact) -> None:
    with pytest.raises(UsageError, match="unknown quantization mode 'statik'") as caught:
        quantize(artifact, QuantizeRequest(mode="statik"))
    assert "'static'" in caught.value.hint


def test_static_starts_from_the_optimized_model_and_keeps_swish_in_float(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 12]>'
        "g (float[N,3,8,8] x) => (float[N,4] y) {"
        "  c = Conv(x, w) n = BatchNormalization(c, s, b, m, v) g = Sigmoid(n) a = Mul(n, g)"
        "  p = ReduceMean<axes = [2, 3], keepdims = 0>(a) y = MatMul(p, k) }"
    )
    shapes = {"w": (6, 3, 3, 3), "s": 6, "b": 6, "m": 6, "v": 6, "k": (6, 4)}
    for name, shape in shapes.items():
        weight = RNG.uniform(0.1, 1, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weight, name))
    np.savez(tmp_path / "x.npz", x=RNG.standard_normal((40, 3, 8, 8)).astype(np.float32))
    request = QuantizeRequest(mode="static", data=f"npz:{tmp_path / 'x.npz'}", qoperator=True)
    result = quantize(Artifact.from_proto(proto), request)
    ops = [node.op_type for node in result.artifact.model.graph]
    # The batch normalization is folded, Swish is one node, and the mean is a pool.
    assert {"QLinearConv", "QuickGelu", "GlobalAveragePool"} <= set(ops)
    assert not {"BatchNormalization", "Sigmoid", "ReduceMean"} & set(ops)
    assert result.pipeline.differences[-1].snr_db > 30
    assert not result.left_float
