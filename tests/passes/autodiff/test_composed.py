"""Gradients of operators that ONNX composes of others: they are written as their body first."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import close, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(97)
Array = np.ndarray


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def _both(
    first: str, second: str, inputs: str, result: str, feeds: dict[str, Array], wrt: list[str]
) -> None:
    """Assert that two bodies, one of the operator and one of plain ones, have equal gradients."""
    found = []
    for body in (first, second):
        text = f"g ({inputs}) => (float[{result}] y) {{ {body} }}"
        made = gradients(Artifact.from_proto(model_of(text, 23)), "y", wrt)
        with Session(made, threads=2) as session:
            found.append(session.run(feeds))
    for name in wrt:
        gradient = f"{name}_gradient"
        close(found[0][gradient], found[1][gradient].astype(np.float64), 3e-6, name)


@pytest.mark.parametrize("causal", [0, 1])
def test_attention(causal: int) -> None:
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1) if causal else np.zeros((3, 3))
    plain = (
        "s = Constant <value_float = 0.5> () kt = Transpose <perm = [0, 1, 3, 2]> (k)"
        "qk = MatMul(q, kt) a = Mul(qk, s) m = Add(a, z) p = Softmax(m) o = MatMul(p, v)"
        "y = Mul(o, w)"
    )
    fused = f"o = Attention <is_causal = {causal}, scale = 0.5> (q, k, v) y = Mul(o, w)"
    shape = "2, 2, 3, 4"
    inputs = ", ".join(f"float[{shape}] {name}" for name in "qkvw") + ", float[3, 3] z"
    feeds = {name: normal(2, 2, 3, 4) for name in "qkvw"} | {"z": mask.astype(np.float32)}
    _both(fused, plain, inputs, shape, feeds, ["q", "k", "v"])


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_scores_of_attention_while_the_present_is_left_out(mode: int) -> None:
    fused = f"o,,, p = Attention <qk_matmul_output_mode = {mode}> (q, k, v, z) y = Mul(p, w)"
    scale = "s = Constant <value_float = 0.5> () kt = Transpose <perm = [0, 1, 3, 2]> (k)"
    steps = ["qk = MatMul(q, kt) a = Mul(qk, s)", "m = Add(a, z)", "p = Softmax(m)"]
    # Without a soft limit, modes 1 and 2 differ in name only.
    last = {0: "a", 1: "m", 2: "m", 3: "p"}[mode]
    plain = f"{scale} {' '.join(steps)} y = Mul({last}, w)"
    shape = "2, 2, 3, 3"
    inputs = ", ".join(f"float[2, 2, 3, 4] {name}" for name in "qkv")
    inputs += f", float[3, 3] z, float[{shape}] w"
    feeds = {name: normal(2, 2, 3, 4) for name in "qkv"}
    feeds |= {"z": normal(3, 3), "w": normal(2, 2, 3, 3)}
    _both(fused, plain, inputs, shape, feeds, ["q", "k"])


@pytest.mark.parametrize("guard", ["c = IsNaN(p)", "c = Equal(b, low)"])
def test_rows_that_are_masked_as_a_whole_get_no_gradient(guard: str) -> None:
    text = (
        "g (float[3, 3] x, float[3, 3] z, float[3, 3] w) => (float[3, 3] y) {"
        "m = Add(x, z) p = Softmax(m) b = ReduceMax <keepdims = 1> (z, last)"
        f"{guard} o = Where(c, zero, p) y = Mul(o, w) }}"
    )
    text = text.replace(
        "m = Add",
        "last = Constant <value_ints = [1]> () zero = Constant <value_float = 0.0> ()"
        "low = Log(zero) m = Add",
    )
    mask = np.zeros((3, 3), np.float32)
    mask[1], mask[2, 0] = -np.inf, -np.inf
    x, w = normal(3, 3), normal(3, 3)
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    with Session(made) as session:
        found = session.run({"x": x, "z": mask, "w": w})["x_gradient"]
    shares = np.exp(x.astype(np.float64) + mask)
    shares[[0, 2]] /= shares[[0, 2]].sum(axis=1, keepdims=True)
    expected = shares * (w - (shares * w).sum(axis=1, keepdims=True))
    close(found, expected, 3e-6, "x")
    assert (found[1] == 0).all()


def test_rotary_embedding() -> None:
    plain = (
        "u = Constant <value_ints = [1]> () c1 = Unsqueeze(c, u) s1 = Unsqueeze(s, u)"
        "l, r = Split <axis = 3, num_outputs = 2> (x) lc = Mul(l, c1) rs = Mul(r, s1)"
        "a = Sub(lc, rs) ls = Mul(l, s1) rc = Mul(r, c1) b = Add(ls, rc)"
        "o = Concat <axis = 3> (a, b) y = Mul(o, w)"
    )
    inputs = "float[2, 2, 3, 4] x, float[2, 3, 2] c, float[2, 3, 2] s, float[2, 2, 3, 4] w"
    feeds = {"x": normal(2, 2, 3, 4), "w": normal(2, 2, 3, 4), "c": normal(2, 3, 2)}
    feeds["s"] = normal(2, 3, 2)
    fused = "o = RotaryEmbedding(x, c, s) y = Mul(o, w)"
    _both(fused, plain, inputs, "2, 2, 3, 4", feeds, ["x", "c", "s"])


def test_padding_and_cropping_to_a_size() -> None:
    fused = (
        "n = Constant <value_ints = [5, 2]> () o = CenterCropPad <axes = [0, 1]> (x, n)"
        "y = Mul(o, w)"
    )
    plain = "p = Constant <value_ints = [1, -1, 1, -1]> () o = Pad(x, p) y = Mul(o, w)"
    feeds = {"x": normal(3, 4), "w": normal(5, 2)}
    _both(fused, plain, "float[3, 4] x, float[5, 2] w", "5, 2", feeds, ["x"])
