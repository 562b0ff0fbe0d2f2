# ruff: noqa: E501 - a graph is easier read in one line
"""Embeddings, convolutions, recurrent layers, attention, and bodies."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from tests.passes.quantization.dynamic.reference import Array, activation, weight

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.quantize_dynamic import QuantizeDynamic
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]
RNG = np.random.default_rng(8)
CONTRIB = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>'


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def quantized(artifact: Artifact, rule: QuantizeDynamic | None = None) -> Artifact:
    return Artifact((rule or QuantizeDynamic()).apply(artifact.model.clone(), PassContext()).model)


def run(artifact: Artifact, **feeds: Array) -> dict[str, Array]:
    with Session(artifact, optimize=False) as session:
        return session.run(feeds)


def ops(artifact: Artifact) -> list[str]:
    return [node.op_type for node in artifact.model.graph.all_nodes()]


def close(found: Array, expected: Array, rtol: float = 2e-6) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


TABLE = (normal(600, 30) * np.geomspace(0.01, 10, 30)).astype(np.float32)


@pytest.mark.parametrize("per_channel", [True, False])
def test_rows_of_a_table_are_scaled_once_taken(per_channel: bool, load_text: Load) -> None:
    artifact = load_text(
        "g (int64[N,3] i) => (float[N,3,30] y) { y = Gather(t, i) }", {"t": TABLE}, opset=20
    )
    found = quantized(artifact, QuantizeDynamic(per_channel))
    assert ops(found) == ["Gather", "DequantizeLinear"]
    i = np.array([[0, 599, 3], [-1, 7, 7]])
    close(run(found, i=i)["y"], weight(TABLE, (0,), per_channel=per_channel)[i])


@pytest.mark.parametrize(
    "body",
    ["y = Gather<axis = 1>(t, i)", "y = Gather(s, i)", "h = Cast<to = 10>(t) y = Gather(h, i)"],
)
def test_what_is_no_large_table_stays(body: str, load_text: Load) -> None:
    artifact = load_text(
        f"g (int64[2] i) => (float y) {{ {body} }}", {"t": TABLE, "s": TABLE[:9]}, opset=20
    )
    with pytest.raises(SmithError, match="nothing in the model"):
        quantized(artifact)


KERNEL = (normal(6, 2, 3, 3) * np.geomspace(0.01, 10, 6).reshape(-1, 1, 1, 1)).astype(np.float32)
CONV = "g (float[2,4,7,7] x) => (float[2,6,3,3] y) { y = Conv<group = 2, strides = [2,2], dilations = [1,1]>(x, w, b) }"


def test_convolutions_are_quantized_when_asked_for(load_text: Load) -> None:
    bias = normal(6)
    artifact = load_text(CONV, {"w": KERNEL, "b": bias}, opset=20)
    with pytest.raises(SmithError) as caught:
        quantized(artifact)
    assert "static is fast" in caught.value.hint
    found = quantized(artifact, QuantizeDynamic(conv=True))
    assert "ConvInteger" in ops(found)
    x = normal(2, 4, 7, 7) + 0.5
    rounded = load_text(
        CONV, {"w": weight(KERNEL, (1, 2, 3)).astype(np.float32), "b": bias}, opset=20
    )
    expected = run(rounded, x=activation(x).astype(np.float32))["y"]
    close(run(found, x=x)["y"], expected, 1e-5)


LSTM = "g (float[7,2,5] x) => (float[7,D,2,8] y, float[D,2,8] h) {{ y, h = LSTM<hidden_size = 8, direction = {}>(x, w, r, b) }}"


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("direction", "count"), [("forward", 1), ("bidirectional", 2)])
def test_lstm(direction: str, count: int, per_channel: bool, load_text: Load) -> None:
    w, r, b = normal(count, 32, 5), normal(count, 32, 8), normal(count, 64)
    w[:, 3] *= 20  # a gate's unit of another size
    text = LSTM.format(f'"{direction}"')
    artifact = load_text(text, {"w": w, "r": r, "b": b}, opset=20)
    found = quantized(artifact, QuantizeDynamic(per_channel))
    assert ops(found) == ["DynamicQuantizeLSTM"]
    x = np.round(normal(7, 2, 5) * 8) / 8
    rounded = {
        "w": weight(w, (2,), per_channel=per_channel).astype(np.float32),
        "r": weight(r, (2,), per_channel=per_channel).astype(np.float32),
        "b": b,
    }
    near, far = run(load_text(text, rounded, opset=20), x=x), run(artifact, x=x)
    got = run(found, x=x)
    # The kernel rounds x and h in each step in its own way; the weights are ours.
    assert np.abs(got["y"] - near["y"]).max() < 0.05
    assert np.abs(got["h"] - near["h"]).max() < 0.05
    if per_channel:  # one scale for all loses the small gates
        assert np.abs(got["y"] - far["y"]).max() < 0.06
    assert [v.name for v in found.model.graph.outputs] == ["y", "h"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y, h = LSTM<hidden_size = 8, layout = 1>(x, w, r)", "batch comes first"),
        ("y, h = GRU<hidden_size = 8, linear_before_reset = 1>(x, g, s)", "smaller than 512"),
    ],
)
def test_recurrent_layers_without_a_kernel_stay(body: str, reason: str, load_text: Load) -> None:
    weights = {"w": normal(1, 32, 5), "r": normal(1, 32, 8)}
    weights |= {"g": normal(1, 24, 5), "s": normal(1, 24, 8)}
    artifact = load_text(f"g (float[7,2,5] x) => (float y) {{ {body} }}", weights, opset=20)
    with pytest.raises(SmithError, match="nothing in the model") as caught:
        quantized(artifact)
    assert reason in caught.value.hint


ATTENTION = "g (float[2,5,12] x, float[2,1,5,5] m) => (float[2,5,12] y) {{ y = com.microsoft.Attention<num_heads = 3, {}>(x, w, b, , , m) }}"


@pytest.mark.parametrize("attribute", ["scale = 0.3", "unidirectional = 1"])
def test_projections_of_attention_are_quantized(attribute: str, load_text: Load) -> None:
    w, b = normal(12, 36), normal(36)
    text = ATTENTION.format(attribute)
    artifact = load_text(text, {"w": w, "b": b}, header=CONTRIB)
    found = quantized(artifact)
    assert "MatMulInteger" in ops(found)
    assert ops(found)[-3:] == ["Add", "Split", "MultiHeadAttention"]
    feeds = {"x": normal(2, 5, 12), "m": normal(2, 1, 5, 5)}
    rounded = load_text(text, {"w": weight(w, (0,)).astype(np.float32), "b": b}, header=CONTRIB)
    expected = run(rounded, x=activation(feeds["x"]).astype(np.float32), m=feeds["m"])["y"]
    close(run(found, **feeds)["y"], expected, 2e-5)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    ("inputs", "attributes", "ends"),
    [
        ("x, w, b", "scale = 0.3", "QAttention"),
        ("x, w, b, k", "unidirectional = 1", "QAttention"),
        ("x, v, c", "qkv_hidden_sizes = [12, 12, 6]", "MultiHeadAttention"),
    ],
)
def test_attention_without_a_bias_on_the_scores(
    inputs: str, attributes: str, ends: str, per_channel: bool, load_text: Load
) -> None:
    width = 6 if "v" in inputs else 12
    text = f"g (float[2,5,12] x, int32[2,5] k) => (float[2,5,{width}] y) {{ y = com.microsoft.Attention<num_heads = 3, {attributes}>({inputs}) }}"
    weights = {"w": normal(12, 36), "b": normal(36), "v": normal(12, 30), "c": normal(30)}
    weights["w"][:, ::5] *= 10  # columns of another size
    artifact = load_text(text, weights, header=CONTRIB)
    found = quantized(artifact, QuantizeDynamic(per_channel))
    assert ops(found)[-1] == ends
    x, k = normal(2, 5, 12), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    rounded = {
        name: weight(array, (0,), per_channel=per_channel).astype(np.float32)
        if name in "wv"
        else array
        for name, array in weights.items()
    }
    expected = run(
        load_text(text, rounded, header=CONTRIB), x=activation(x).astype(np.float32), k=k
    )["y"]
    close(run(found, x=x, k=k)["y"], expected, 2e-5)


def test_attention_with_a_past_stays(load_text: Load) -> None:
    artifact = load_text(
        "g (float[2,5,12] x, float[2,2,3,4,4] p) => (float[2,5,12] y) { y = com.microsoft.Attention<num_heads = 3>(x, w, b, , p) }",
        {"w": normal(12, 36), "b": normal(36)},
        header=CONTRIB,
    )
    with pytest.raises(SmithError) as caught:
        quantized(artifact)
    assert "keys of earlier runs" in caught.value.hint


W = normal(6, 6)


def test_bodies_of_ifs_and_loops_are_quantized(load_text: Load) -> None:
    artifact = load_text(
        """g (float[2,6] x, bool c, int64 n) => (float[2,6] y) {
            a = If (c) <
                then_branch = t () => (float[2,6] u) { u = MatMul(x, w) },
                else_branch = e () => (float[2,6] v) { v = Neg(x) }
            >
            i = Constant<value = bool {1}>()
            y = Loop (n, i, a) <body = l (int64 k, bool p, float[2,6] s) => (bool q, float[2,6] z) {
                q = Identity(p)
                z = MatMul(s, w)
            }>
        }""",
        {"w": W},
        opset=20,
    )
    found = quantized(artifact)
    assert ops(found).count("MatMulInteger") == 2
    assert set(found.model.graph.initializers) == {"w_quantized", "w_scale", "w_scale_1"}
    assert found.model.graph[0].op_type == "DynamicQuantizeLinear"  # x is known outside
    x = normal(2, 6)
    expected = x
    for _ in range(3):
        expected = (activation(expected) @ weight(W, (0,))).astype(np.float32)
    got = run(found, x=x, c=np.array(True), n=np.array(2))["y"]
    close(got, expected, 1e-5)


FUNCTION = """<ir_version: 10, opset_import: ["": 20, "own": 1]>
g (float[2,6] x) => (float[2,6] y) {{ {} }}
<domain: "own", opset_import: ["": 20]> {}"""


def test_functions_are_quantized_and_those_given_weights_inlined() -> None:
    constant = onnx.helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(W))
    inner = onnx.parser.parse_model(
        FUNCTION.format("y = own.f(x)", "f (a) => (b) { b = MatMul(a, w) }")
    )
    inner.functions[0].node.insert(0, constant)
    given = onnx.parser.parse_model(
        FUNCTION.format("y = own.f(x, w)", "f (a, w) => (b) { b = MatMul(a, w) }")
    )
    given.graph.initializer.append(onnx.numpy_helper.from_array(W, "w"))
    x = normal(2, 6)
    for proto, functions in ((inner, 1), (given, 0)):
        found = quantized(Artifact.from_proto(proto))
        assert len(found.model.functions) == functions
        for function in found.model.functions.values():
            assert sum(node.op_type == "Constant" for node in function) == 2  # weights and scale
        close(run(found, x=x)["y"], activation(x) @ weight(W, (0,)))


def test_old_models_say_how_to_go_on(load_text: Load) -> None:
    artifact = load_text(
        "g (float[2,6] x) => (float[2,6] y) { y = MatMul(x, w) }", {"w": W}, opset=11
    )
    with pytest.raises(SmithError, match="opset 11") as caught:
        quantized(artifact)
    assert "convert-opset:version=13" in caught.value.hint
