"""A quantized model in trainable form: it computes the same, and has the gradients of LSQ."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.quantization.fake_quantize import make_trainable
from onnxsmith.pipeline.training.graphs import gradient_graph
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(6)
HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
# An asymmetric activation, weights with a scale a channel, a bias, and a pool that shares a grid.
MODEL = f"""{HEAD} g (float[n,2,6,6] x) => (float[n,12] y) {{
  q = QuantizeLinear(x, xs, xz)  d = DequantizeLinear(q, xs, xz)
  wd = DequantizeLinear <axis = 0> (w_quantized, ws, wz)
  bd = DequantizeLinear <axis = 0> (b_quantized, bs)
  c = Conv(d, wd, bd)
  cq = QuantizeLinear(c, cs, cz)  cd = DequantizeLinear(cq, cs, cz)
  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (cd)
  pq = QuantizeLinear(p, ps, cz)  pd = DequantizeLinear(pq, ps, cz)
  y = Flatten(pd)
}}"""
WS = np.array([0.02, 0.03, 0.05], np.float32)
CONTENT = {
    "xs": np.float32(0.02), "xz": np.uint8(120),
    "w_quantized": RNG.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8),
    "ws": WS, "wz": np.zeros(3, np.int8),
    "b_quantized": RNG.integers(-300, 300, 3).astype(np.int32), "bs": np.float32(0.02) * WS,
    "cs": np.float32(0.11), "cz": np.uint8(100), "ps": np.float32(0.11),
}  # fmt: skip


def quantized(text: str = MODEL) -> Artifact:
    proto = onnx.parser.parse_model(text)
    for name, array in CONTENT.items():
        if f"{name})" in text or f"{name}," in text:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return Artifact.from_proto(proto)


def computed(artifact: Artifact, x: np.ndarray) -> np.ndarray:
    with Session(artifact, optimize=False) as session:
        (found,) = session.run({"x": x}).values()
    return found


def image() -> np.ndarray:
    """Some values lie outside of the range on either side."""
    return RNG.normal(0, 1.5, size=(4, 2, 6, 6)).astype(np.float32)


def test_it_computes_what_the_quantized_model_does_and_says_what_is_trained() -> None:
    plain = quantized()
    made = plain.clone()
    found = make_trainable(made.model)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {n.op_type for n in made.model.graph}
    assert {w.trained: w.integers for w in found.weights} == {
        "w": "w_quantized", "b": "b_quantized",
    }  # fmt: skip
    assert set(found.scales) == {"xs", "ws", "cs"}
    assert found.tied == {"ps": "cs"}
    assert str(made.spec) == str(plain.spec)
    x = image()
    np.testing.assert_allclose(computed(made, x), computed(plain, x), rtol=0, atol=0.111)
    # All but what lies between two steps is the same.
    same = np.isclose(computed(made, x), computed(plain, x), rtol=1e-6, atol=1e-6)
    assert same.mean() > 0.95


def test_what_was_trained_is_written_back_in_integers() -> None:
    plain, made = quantized(), quantized()
    found = make_trainable(made.model)
    held = made.model.graph.initializers
    moved = {
        "w": held["w"].const_value.numpy() * 0.7 + 0.1,
        "b": held["b"].const_value.numpy() - 1.0,
        "xs": np.float32(0.03), "ws": WS * 1.1, "cs": np.float32(0.2),
    }  # fmt: skip
    for name, array in moved.items():
        held[name].const_value = ir.Tensor(np.asarray(array, np.float32), name=name)
    found.write_back(plain.model, moved)
    after = {n: v.const_value.numpy() for n, v in plain.model.graph.initializers.items()}
    assert after["ps"] == after["cs"] == np.float32(0.2)
    np.testing.assert_allclose(after["bs"], np.float32(0.03) * WS * np.float32(1.1), rtol=1e-6)
    wanted = np.rint(moved["w"] / (WS * np.float32(1.1)).reshape(3, 1, 1, 1)).clip(-128, 127)
    np.testing.assert_array_equal(after["w_quantized"], wanted)
    assert after["w_quantized"].dtype == np.int8
    x = image()
    same = np.isclose(computed(made, x), computed(plain, x), rtol=1e-5, atol=1e-3)
    assert same.mean() > 0.95
    found.write_back(plain.model, {"cs": np.float32(-1)})
    assert plain.model.graph.initializers["cs"].const_value.numpy() > 0


def test_originals_are_taken_where_they_round_to_the_same() -> None:
    near = CONTENT["w_quantized"] * WS.reshape(3, 1, 1, 1) + np.float32(0.004)
    for start, taken in ((near, True), (near + 0.1, False), (near.reshape(-1), False)):
        made = quantized()
        make_trainable(made.model, {"w": start.astype(np.float32)})
        held = made.model.graph.initializers["w"].const_value.numpy()
        assert (held.shape == start.shape and np.allclose(held, start)) is taken


SMALL = f"""{HEAD} g (float[n,5] x) => (float[n,5] y) {{
  wd = DequantizeLinear(w_quantized, ws, wz)  m = Mul(x, wd)
  q = QuantizeLinear(m, xs, xz)  y = DequantizeLinear(q, xs, xz) }}"""


def test_gradients_are_those_of_learned_step_size_quantization(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = {
        "w_quantized": np.array([20, -50, 3, 127, -128], np.int8), "ws": np.float32(0.02),
        "wz": np.int8(0), "xs": np.float32(0.01), "xz": np.uint8(100),
    }  # fmt: skip
    for name, array in content.items():
        monkeypatch.setitem(CONTENT, name, array)
    made = quantized(SMALL)
    weight = np.array([0.409, -1.004, 0.065, 3.9, -2.561], np.float32)  # two are out of range
    make_trainable(made.model)
    made.model.graph.initializers["w"].const_value = ir.Tensor(weight, name="w")
    x, goal = RNG.normal(size=(2, 6, 5)).astype(np.float32)
    graph = gradient_graph(Artifact(made.model), ["w", "ws", "xs"], make_loss("mse"))
    feeds = {"x": x, "labels": goal, "w": weight, "ws": content["ws"], "xs": content["xs"]}
    with Session(graph.artifact) as session:
        found = session.run({k: np.asarray(v) for k, v in feeds.items()})

    def lsq(v: np.ndarray, s: float, low: int, high: int, count: int) -> tuple[np.ndarray, ...]:
        """The value, and its slopes by ``v`` and by ``s``; equations 1 to 3 of the source."""
        z = v.astype(np.float64) / s
        inside = (z > low) & (z < high)
        value = s * np.rint(np.clip(z, low, high))
        by_s = np.where(inside, np.rint(z) - z, np.clip(z, low, high)) / np.sqrt(count * high)
        return value, inside.astype(float), by_s

    w, w_by_v, w_by_s = lsq(weight, 0.02, -128, 127, 5)
    y, y_by_m, y_by_s = lsq(x * w, 0.01, -100, 155, 5)
    assert 0 < y_by_m.mean() < 1
    grad = 2 * (y - goal) / y.size
    through = (grad * y_by_m * x).sum(0)
    expected = {
        "w": through * w_by_v, "ws": (through * w_by_s).sum(), "xs": (grad * y_by_s).sum(),
    }  # fmt: skip
    for name, array in expected.items():
        np.testing.assert_allclose(found[graph.gradients[name]], array, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("y = Relu(x)", "has no QuantizeLinear"),
        (
            "q = QuantizeLinear(x, xs, xz) y = DequantizeLinear(q, cs, xz)",
            "both of a pair share",
        ),
        (
            "t = Abs(xs) q = QuantizeLinear(x, t, xz) y = DequantizeLinear(q, t, xz)",
            "not a constant",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(body: str, words: str) -> None:
    text = f"{HEAD} g (float[n,5] x) => (float[n,5] y) {{ {body} }}"
    with pytest.raises(SmithError, match=words):
        make_trainable(quantized(text).model)
