# ruff: noqa: E501 - a graph is easier read in one line
"""GRU and RNN layers as Scans of quantized products, against numpy."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from tests.passes.quantization.dynamic.reference import Array, activation, weight

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.dynamic import scans
from onnxsmith.passes.quantization.quantize_dynamic import QuantizeDynamic
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]
RNG = np.random.default_rng(4)
HIDDEN, WIDTH, BATCH, TURNS = 8, 5, 2, 4
GATES = {"GRU": 3, "RNN": 1}
TEXT = 'g (float[T,N,5] x, float[D,N,8] h0) => (float[T,{d},N,8] y, float[{d},N,8] h) {{ y, h = {op}<hidden_size = 8, direction = "{direction}"{more}>(x, w, r{inputs}) }}'


@pytest.fixture(autouse=True)
def small_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "LEAST_HIDDEN", {"GRU": 1, "RNN": 1})


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def tensors(op: str, directions: int) -> dict[str, Array]:
    width = GATES[op] * HIDDEN
    w, r = normal(directions, width, WIDTH), normal(directions, width, HIDDEN)
    w[:, ::3] *= 5  # units of another size
    return {"w": w, "r": r, "b": normal(directions, 2 * width)}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def turn(op: str, given: Array, kept: Array, state: Array) -> Array:
    if op == "RNN":
        return np.tanh(given + kept)
    z, r = (sigmoid(given[:, p : p + HIDDEN] + kept[:, p : p + HIDDEN]) for p in (0, HIDDEN))
    new = np.tanh(given[:, 2 * HIDDEN :] + r * kept[:, 2 * HIDDEN :])
    return (1 - z) * new + z * state


def expected(
    op: str,
    x: Array,
    start: Array,
    found: dict[str, Array],
    backwards: list[bool],
    per_channel: bool,
) -> tuple[Array, Array]:
    """Return both outputs, with rounding where the layer rounds."""
    width = GATES[op] * HIDDEN
    ys, ends = [], []
    for d, turned in enumerate(backwards):
        w, r = (weight(found[n][d], (1,), per_channel=per_channel) for n in "wr")
        bias = found["b"][d]
        given = activation(x) @ w.T + bias[:width]
        state, states = start[d], np.zeros((len(x), x.shape[1], HIDDEN))
        for t in reversed(range(len(x))) if turned else range(len(x)):
            seen = activation(state.astype(np.float32)) if state.any() else state
            kept = seen @ r.T + bias[width:]
            state = turn(op, given[t], kept, state)
            states[t] = state
        ys.append(states)
        ends.append(state)
    return np.stack(ys, 1), np.stack(ends)


def quantized(artifact: Artifact, **options: bool) -> Artifact:
    rule = QuantizeDynamic(**options)
    return Artifact(rule.apply(artifact.model.clone(), PassContext()).model)


def layer(op: str, direction: str, inputs: str, load_text: Load, more: str = "") -> Artifact:
    count = 2 if direction == "bidirectional" else 1
    more += ", linear_before_reset = 1" if op == "GRU" else ""
    text = TEXT.format(op=op, direction=direction, d=count, more=more, inputs=inputs)
    return load_text(text, tensors(op, count), opset=20)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["GRU", "RNN"])
def test_layers(op: str, direction: str, per_channel: bool, load_text: Load) -> None:
    artifact = layer(op, direction, ", b, , h0", load_text)
    found = quantized(artifact, per_channel=per_channel)
    onnx.checker.check_model(found.to_proto(), full_check=True)
    ops = [node.op_type for node in found.model.graph.all_nodes()]
    count = 2 if direction == "bidirectional" else 1
    assert (ops.count("Scan"), ops.count("MatMulInteger"), ops.count("MatMul")) == (
        count,
        2 * count,
        0,
    )
    assert ops.count("DynamicQuantizeLinear") == 1 + count  # the sequence, and each state
    x, start = normal(TURNS, BATCH, WIDTH), normal(count, BATCH, HIDDEN)
    constants = {
        name: artifact.model.graph.initializers[name].const_value.numpy() for name in "wrb"
    }
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    y, h = expected(op, x, start, constants, backwards, per_channel)
    for optimize in (False, True):
        with Session(found, optimize=optimize) as session:
            got = session.run({"x": x, "h0": start})
        np.testing.assert_allclose(got["y"], y, atol=2e-5)
        np.testing.assert_allclose(got["h"], h, atol=2e-5)


@pytest.mark.parametrize("op", ["GRU", "RNN"])
def test_layers_start_from_zero_without_biases(op: str, load_text: Load) -> None:
    artifact = layer(op, "forward", "", load_text)
    constants = {name: artifact.model.graph.initializers[name].const_value.numpy() for name in "wr"}
    constants["b"] = np.zeros((1, 2 * GATES[op] * HIDDEN))
    x, zeros = normal(TURNS, 3, WIDTH), np.zeros((1, 3, HIDDEN), np.float32)
    y, _ = expected(op, x, zeros, constants, [False], True)
    with Session(quantized(artifact), optimize=False) as session:
        np.testing.assert_allclose(session.run({"x": x, "h0": zeros})["y"], y, atol=2e-5)


def test_results_that_nobody_reads_are_left_out(load_text: Load) -> None:
    text = "g (float[T,N,5] x) => (float[1,N,8] h) { , h = RNN<hidden_size = 8>(x, w, r, b) }"
    found = quantized(load_text(text, tensors("RNN", 1), opset=20))
    unsqueezed = [n for n in found.model.graph if n.op_type == "Unsqueeze"]
    assert [n.outputs[0].name for n in unsqueezed] == ["h"]


@pytest.mark.parametrize(
    ("op", "inputs", "more", "reason"),
    [
        ("RNN", ", b, n", "", "lengths of their own"),
        ("RNN", ", b", ", layout = 1", "batch comes first"),
        ("RNN", ", b", ', activations = ["Relu"]', "activations of its own"),
        ("RNN", ", b", ", clip = 3.0", "settings that few"),
        ("RNN", ", c", "", "biases are computed"),
        ("GRU", ", b", "", "reset gate comes before"),
    ],
)
def test_refusals(op: str, inputs: str, more: str, reason: str, load_text: Load) -> None:
    body = f"y = {op}<hidden_size = 8{more}>(x, w, r{inputs})"
    text = f"g (float[T,N,5] x, int32[N] n, float[1,16] c) => (float y) {{ {body} }}"
    with pytest.raises(SmithError) as caught:
        quantized(load_text(text, tensors(op, 1), opset=20))
    assert reason in caught.value.hint


def test_small_states_stay_in_float(load_text: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "LEAST_HIDDEN", {"GRU": 9, "RNN": 9})
    for op in ("GRU", "RNN"):
        with pytest.raises(SmithError) as caught:
            quantized(layer(op, "forward", ", b, , h0", load_text))
        assert "smaller than 9" in caught.value.hint


def test_two_layers_have_values_of_their_own(load_text: Load) -> None:
    text = """g (float[T,N,5] x) => (float[T,1,N,8] y) {
        a = RNN<hidden_size = 8>(x, w, r, b) axes = Constant<value_ints = [1]>() s = Squeeze(a, axes)
        y = RNN<hidden_size = 8>(s, v, r, b) }"""
    weights = tensors("RNN", 1) | {"v": normal(1, 8, 8)}
    found = quantized(load_text(text, weights, opset=20))
    names = [
        v.name for n in ir.traversal.RecursiveGraphIterator(found.model.graph) for v in n.outputs
    ]
    assert len(names) == len(set(names))
    onnx.checker.check_model(found.to_proto(), full_check=True)
