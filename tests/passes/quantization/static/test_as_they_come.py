# ruff: noqa: E501 - a graph is easier read in one line
"""Recurrent layers and attention inside static models."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.quantization.dynamic import scans
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

Load = Callable[..., Artifact]
Array = np.ndarray
RNG = np.random.default_rng(6)
HEADER = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>'
NET = "g (float[N,5,12] x) => (float[5,{d},N,8] y) {{ m = MatMul(x, m1) t = Transpose<perm = [1,0,2]>(m) {layer} }}"
LAYERS = {
    "LSTM": "y = LSTM<hidden_size = 8>(t, lw, lr, lb)",
    "GRU": "y = GRU<hidden_size = 8, linear_before_reset = 1>(t, gw, gr, gb)",
    "RNN": "y = RNN<hidden_size = 8>(t, rw, rr, rb)",
}
ATTENTION = "g (float[N,5,12] x) => (float[N,5,12] y) { m = MatMul(x, m1) y = com.microsoft.Attention<num_heads = 3>(m, aw, ab) }"


def normal(*shape: int) -> Array:
    return (RNG.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


TENSORS = {"m1": normal(12, 12), "aw": normal(12, 36), "ab": normal(36)}
for letter, gates in (("l", 4), ("g", 3), ("r", 1)):
    TENSORS |= {
        f"{letter}w": normal(1, gates * 8, 12),
        f"{letter}r": normal(1, gates * 8, 8),
        f"{letter}b": normal(1, 2 * gates * 8),
    }
X = RNG.uniform(-1, 2, (40, 5, 12)).astype(np.float32)


def samples() -> Iterator[dict[str, Array]]:
    for start in range(0, 40, 8):
        yield {"x": X[start : start + 8]}


def quantize(artifact: Artifact, target: str = "cpu", exclude: tuple[str, ...] = ()) -> PassResult:
    context = PassContext(target=TARGETS[target], samples=samples)
    return QuantizeStatic(exclude=exclude).apply(artifact.model.clone(), context)


def run(artifact: Artifact) -> Array:
    with Session(artifact) as session:
        return session.run({"x": X})["y"]


def snr_db(found: Array, wanted: Array) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


@pytest.mark.parametrize(
    ("op", "made"),
    [
        ("LSTM", "DynamicQuantizeLSTM"),
        ("GRU", "MatMulInteger"),
        ("RNN", "MatMulInteger"),
        ("Attention", "QAttention"),
    ],
)
def test_layers_without_a_kernel_of_known_ranges(
    op: str, made: str, load_text: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "LEAST_HIDDEN", {"GRU": 1, "RNN": 1})
    text = ATTENTION if op == "Attention" else NET.format(d=1, layer=LAYERS[op])
    artifact = load_text(text, TENSORS, header=HEADER)
    result = quantize(artifact)
    ops = [node.op_type for node in result.model.graph.all_nodes()]
    assert made in ops
    assert op not in ops
    assert "QuantizeLinear" in ops  # the product has a known range
    assert result.details["left_float"] == []
    assert result.details["as_they_come"] == 1
    assert snr_db(run(Artifact(result.model)), run(artifact)) > 28


def test_what_the_user_excludes_stays(load_text: Load) -> None:
    artifact = load_text(NET.format(d=1, layer=LAYERS["LSTM"]), TENSORS, header=HEADER)
    result = quantize(artifact, exclude=("LSTM",))
    assert "LSTM" in {node.op_type for node in result.model.graph}
    (entry,) = result.details["left_float"]
    assert entry["reason"] == "excluded by 'LSTM'"


def test_small_layers_say_why_they_stay(load_text: Load) -> None:
    artifact = load_text(NET.format(d=1, layer=LAYERS["GRU"]), TENSORS, header=HEADER)
    (entry,) = quantize(artifact).details["left_float"]
    assert "no faster where its state is smaller than 512" in entry["reason"]


def test_other_targets_keep_them_in_float(load_text: Load) -> None:
    artifact = load_text(NET.format(d=1, layer=LAYERS["LSTM"]), TENSORS, header=HEADER)
    result = quantize(artifact, target="tensorrt")
    assert "LSTM" in {node.op_type for node in result.model.graph}
    (entry,) = result.details["left_float"]
    assert entry["reason"] == "it has no kernel for known ranges"
