# ruff: noqa: E501 - a graph is easier read in one line
"""Both sides of a channel get one range, and the model computes what it did."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.quantization.equalize_layers import EqualizeLayers
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(4)
Array = np.ndarray[Any, Any]
Load = Callable[..., Artifact]


def normal(*shape: int, uneven: int | None = None) -> Array:
    """Return weights; channels of the axis ``uneven`` differ by four orders of magnitude."""
    array = RNG.standard_normal(shape)
    if uneven is not None:
        size = [1] * len(shape)
        size[uneven] = -1
        array *= RNG.permutation(np.geomspace(0.01, 100, shape[uneven])).reshape(size)
    return array.astype(np.float32)


# Text, weights, and for each pair the weights and axes (group first) of the channels between.
NETS: dict[str, tuple[str, dict[str, Array]]] = {
    "conv": (
        "g (float[2,3,8,8] x) => (float[2,4,8,8] y) { a = Conv<pads = [1,1,1,1]>(x, w, b) r = Relu(a) y = Conv<pads = [1,1,1,1]>(r, v, c) }",
        {"w": normal(6, 3, 3, 3, uneven=0), "b": normal(6), "v": normal(4, 6, 3, 3), "c": normal(4)},
    ),
    "depthwise": (
        "g (float[2,3,8,8] x) => (float[2,4,8,8] y) { a = Conv(x, w, b) r = LeakyRelu<alpha = 0.1>(a) d = Conv<group = 6, pads = [1,1,1,1]>(r, u, e) s = PRelu(d, p) y = Conv(s, v) }",
        {"w": normal(6, 3, 1, 1, uneven=0), "b": normal(6), "u": normal(6, 1, 3, 3, uneven=0), "e": normal(6), "p": np.array([0.2], np.float32), "v": normal(4, 6, 1, 1)},
    ),
    "grouped": (
        "g (float[2,4,8,8] x) => (float[2,6,3,3] y) { a = Conv<group = 2>(x, w) m = MaxPool<kernel_shape = [2,2], strides = [2,2]>(a) y = Conv<group = 2>(m, v) }",
        {"w": normal(8, 2, 1, 1, uneven=0), "v": normal(6, 4, 2, 2)},
    ),
    "transposed": (
        "g (float[2,4,5,5] x) => (float[2,6,9,9] y) { a = ConvTranspose<group = 2>(x, w, b) r = Relu(a) y = ConvTranspose<group = 2>(r, v) }",
        {"w": normal(4, 3, 3, 3, uneven=1), "b": normal(6), "v": normal(6, 3, 3, 3)},
    ),
    "gemm": (
        "g (float[N,5] x) => (float[N,3] y) { a = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b) r = Relu(a) y = Gemm(r, v, c) }",
        {"w": normal(7, 5, uneven=0), "b": normal(1, 7), "v": normal(7, 3), "c": normal(3)},
    ),
    "matmul": (
        "g (float[N,4,5] x) => (float[N,4,3] y) { m = MatMul(x, w) a = Add(b, m) r = Relu(a) n = MatMul(r, v) y = Add(n, c) }",
        {"w": normal(5, 7, uneven=1), "b": normal(7), "v": normal(7, 3), "c": normal(3)},
    ),
}  # fmt: skip


def equalize(artifact: Artifact) -> PassResult:
    return EqualizeLayers().apply(artifact.model.clone(), PassContext())


def run(model: ir.Model, seed: int = 0) -> Array:
    shape = [d if isinstance(d, int) else 3 for d in model.graph.inputs[0].shape or ()]
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    with Session(Artifact(model), optimize=False) as session:
        return session.run({"x": x})["y"]


def weights(model: ir.Model) -> list[Array]:
    """Return the weights of the layers in order."""
    kinds = ("Conv", "ConvTranspose", "Gemm", "MatMul")
    found = [node.inputs[1] for node in model.graph if node.op_type in kinds]
    return [value.const_value.numpy() for value in found if value is not None and value.const_value]


@pytest.mark.parametrize("name", NETS)
def test_the_model_computes_what_it_did(load_text: Load, name: str) -> None:
    artifact = load_text(*NETS[name])
    before = run(artifact.model)
    result = equalize(artifact)
    assert result.modified
    assert result.details["pairs"] == (2 if name == "depthwise" else 1)
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    np.testing.assert_allclose(
        run(result.model), before, rtol=1e-5, atol=3e-6 * np.abs(before).max()
    )
    # The pass reached its fixed point, and what it left no one reads.
    assert not equalize(Artifact(result.model)).modified
    read = {v.name for node in result.model.graph for v in node.inputs if v is not None}
    assert set(result.model.graph.initializers) <= read


def ranges(name: str, model: ir.Model) -> list[tuple[Array, Array]]:
    """Return the largest weight of each channel on both sides of each pair."""

    def peak(array: Array, *axes: int) -> Array:
        return np.abs(array).max(axis=axes).reshape(-1)

    w, *rest = weights(model)
    if name == "conv":
        return [(peak(w, 1, 2, 3), peak(rest[0], 0, 2, 3))]
    if name == "depthwise":
        return [(peak(w, 1, 2, 3), peak(rest[0], 1, 2, 3)), (peak(rest[0], 1, 2, 3), peak(rest[1], 0, 2, 3))]  # fmt: skip
    if name == "grouped":
        return [(peak(w, 1, 2, 3), peak(rest[0].reshape(2, 3, 4, 2, 2), 1, 3, 4))]
    if name == "transposed":
        return [(peak(w.reshape(2, 2, 3, 3, 3), 1, 3, 4), peak(rest[0], 1, 2, 3))]
    return [(peak(w, 1 if name == "gemm" else 0), peak(rest[0], 1))]


@pytest.mark.parametrize("name", NETS)
def test_both_sides_of_a_channel_get_one_range(load_text: Load, name: str) -> None:
    artifact = load_text(*NETS[name])
    for first, second in ranges(name, artifact.model):
        assert np.abs(np.log(first / second)).max() > 1
    for first, second in ranges(name, equalize(artifact).model):
        np.testing.assert_allclose(first, second, rtol=5e-3)


def test_biases_are_scaled_with_their_channels(load_text: Load) -> None:
    artifact = load_text(*NETS["conv"])
    result = equalize(artifact)
    old, new = NETS["conv"][1]["w"], weights(result.model)[0]
    factors = (new / old).reshape(6, -1)
    bias = next(node for node in result.model.graph).inputs[2]
    assert bias is not None and bias.const_value is not None  # noqa: PT018
    np.testing.assert_allclose(
        bias.const_value.numpy(), NETS["conv"][1]["b"] * factors[:, 0], rtol=1e-6
    )
    # The last layer's own bias stays.
    assert "c" in result.model.graph.initializers


@pytest.mark.parametrize(("pads", "moved"), [("", 1), ("<pads = [1,1,1,1]>", 0)])
def test_a_bias_moves_where_nothing_is_between_nor_padded(
    load_text: Load, pads: str, moved: int
) -> None:
    text = f"g (float[2,3,6,6] x) => (float[2,4,N,M] y) {{ a = Conv(x, w, b) y = Conv{pads}(a, v, c) }}"
    arrays = {
        "w": normal(5, 3, 1, 1, uneven=0),
        "b": normal(5),
        "v": normal(4, 5, 3, 3),
        "c": normal(4),
    }
    artifact = load_text(text, arrays)
    result = equalize(artifact)
    assert result.details["moved_biases"] == moved
    before = run(artifact.model)
    np.testing.assert_allclose(
        run(result.model), before, rtol=1e-5, atol=3e-6 * np.abs(before).max()
    )
    bias = next(node for node in result.model.graph).inputs[2]
    assert bias is not None and bias.const_value is not None  # noqa: PT018
    assert bool(bias.const_value.numpy().any()) == (moved == 0)


def test_a_bias_moves_through_alpha(load_text: Load) -> None:
    text = "g (float[N,5] x) => (float[N,3] y) { a = Gemm(x, w, b) y = Gemm<alpha = 0.5>(a, v) }"
    artifact = load_text(text, {"w": normal(5, 4, uneven=1), "b": normal(4), "v": normal(4, 3)})
    result = equalize(artifact)
    assert result.details["moved_biases"] == 1
    before = run(artifact.model)
    np.testing.assert_allclose(
        run(result.model), before, rtol=1e-5, atol=3e-6 * np.abs(before).max()
    )


def test_dead_channels_stay(load_text: Load) -> None:
    text, arrays = NETS["conv"]
    w, v = arrays["w"].copy(), arrays["v"].copy()
    w[1], v[:, 2] = 0, 0
    artifact = load_text(text, {**arrays, "w": w, "v": v})
    result = equalize(artifact)
    first, second = weights(result.model)
    np.testing.assert_array_equal(first[1], w[1])
    np.testing.assert_array_equal(first[2], w[2])
    assert np.isfinite(second).all()
    np.testing.assert_array_equal(second[:, 1], v[:, 1])


CONV = {"w": normal(6, 3, 1, 1, uneven=0), "v": normal(4, 6, 1, 1)}
REFUSED = {
    "Clip between": ("g (float[2,3,8,8] x) => (float[2,4,8,8] y) <float l = {0.0}, float h = {6.0}> { a = Conv(x, w) r = Clip(a, l, h) y = Conv(r, v) }", CONV),
    "Sigmoid between": ("g (float[2,3,8,8] x) => (float[2,4,8,8] y) { a = Conv(x, w) r = Sigmoid(a) y = Conv(r, v) }", CONV),
    "Add between": ("g (float[2,3,8,8] x) => (float[2,4,8,8] y) { a = Conv(x, w) r = Add(a, a) y = Conv(r, v) }", CONV),
    "others read the value between": ("g (float[2,3,8,8] x) => (float[2,4,8,8] y, float[2,6,8,8] r) { a = Conv(x, w) r = Relu(a) y = Conv(r, v) }", CONV),
    "weights are not constant": ("g (float[2,3,8,8] x, float[6,3,1,1] w) => (float[2,4,8,8] y) { a = Conv(x, w) r = Relu(a) y = Conv(r, v) }", {"v": CONV["v"]}),
    "channels change their axis": ("g (float[2,3,8,5] x) => (float[2,6,8,4] y) { a = Conv(x, w) r = Relu(a) y = MatMul(r, v) }", {"w": CONV["w"], "v": normal(5, 4)}),
    "Flatten between": ("g (float[2,3,1,1] x) => (float[2,4] y) { a = Conv(x, w) r = Flatten(a) y = Gemm(r, v) }", {"w": CONV["w"], "v": normal(6, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_other_pairs_are_left_alone_for_a_reason(load_text: Load, reason: str) -> None:
    artifact = load_text(*REFUSED[reason])
    result = equalize(artifact)
    assert not result.modified
    assert reason in result.details["left"]
    assert set(result.model.graph.initializers) == set(artifact.model.graph.initializers)


def test_the_input_is_not_touched(load_text: Load) -> None:
    artifact = load_text(*NETS["gemm"])
    equalize(artifact)
    np.testing.assert_array_equal(weights(artifact.model)[0], NETS["gemm"][1]["w"])


def test_half_precision_is_left_alone(load_text: Load) -> None:
    text = "g (float16[N,5] x) => (float16[N,3] y) { a = Gemm(x, w) r = Relu(a) y = Gemm(r, v) }"
    arrays = {"w": normal(5, 7).astype(np.float16), "v": normal(7, 3).astype(np.float16)}
    assert not equalize(load_text(text, arrays)).modified
