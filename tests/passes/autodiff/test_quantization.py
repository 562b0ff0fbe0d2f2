"""Gradients through quantization: straight through, within the range; learned step sizes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import close, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(61)


def _slopes(text: str, feeds: dict[str, np.ndarray], wrt: list[str]) -> dict[str, np.ndarray]:
    made = gradients(Artifact.from_proto(model_of(text)), "y", wrt)
    with Session(made) as session:
        found = session.run(feeds)
    return {name: found[f"{name}_gradient"] for name in wrt}


def _learned(
    x: np.ndarray, k: np.ndarray, s: np.ndarray, zero: np.ndarray, low: int, high: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of the published rule, in float64; ``s`` broadcasts."""
    ratio = x.astype(np.float64) / s
    place = np.round(ratio) + zero
    inside = (place >= low) & (place <= high)
    level = np.clip(place, low, high) - zero
    return k * inside, k * np.where(inside, level - ratio, level)


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255), ("int16", -32768, 32767)]
)
def test_one_scale(kind: str, low: int, high: int) -> None:
    text = (
        f"g (float[n, 40] x, float s, {kind} z, float[n, 40] k) => (float[n, 40] y)"
        "{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Mul(d, k) }"
    )
    scale = 2.2 / (high - low)
    zero = 3 if low else 120
    feeds = {
        "x": RNG.normal(size=(3, 40)).astype(np.float32) * 1.2,
        "s": np.array(scale, np.float32),
        "z": np.array(zero, kind),
        "k": RNG.normal(size=(3, 40)).astype(np.float32),
    }
    straight, learned = _learned(feeds["x"], feeds["k"], feeds["s"], np.array(zero), low, high)
    assert 0 < (straight == 0).sum() < straight.size  # some are cut
    found = _slopes(text, feeds, ["x", "s"])
    close(found["x"], straight, 1e-6, "x")
    close(found["s"], np.array(learned.sum()), 1e-5, "s")


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("between", ["p = Identity(q)", "p = Transpose <perm = [0, 1]> (q)"])
def test_a_scale_a_channel(axis: int, between: str) -> None:
    count = 3 if axis == 0 else 5
    text = (
        f"g (float[3, 5] x, float[{count}] s, float[3, 5] k) => (float[3, 5] y)"
        f"{{ z = Constant <value = int8[{count}] {{{', '.join(['1'] * count)}}}> ()"
        f"q = QuantizeLinear <axis = {axis}> (x, s, z) {between}"
        f"d = DequantizeLinear <axis = {axis}> (p, s, z) y = Mul(d, k) }}"
    )
    feeds = {
        "x": RNG.normal(size=(3, 5)).astype(np.float32) * 2,
        "s": RNG.uniform(0.008, 0.02, count).astype(np.float32),
        "k": RNG.normal(size=(3, 5)).astype(np.float32),
    }
    column = feeds["s"][:, None] if axis == 0 else feeds["s"]
    straight, learned = _learned(feeds["x"], feeds["k"], column, np.array(1), -128, 127)
    found = _slopes(text, feeds, ["x", "s"])
    close(found["x"], straight, 1e-6, "x")
    close(found["s"], learned.sum(1 if axis == 0 else 0), 1e-5, "s")


def test_blocks_and_floats_of_eight_bits_are_refused() -> None:
    blocks = (
        "g (float[4, 6] x, float[4, 3] s) => (float[4, 6] y) {"
        "q = QuantizeLinear <axis = 1, block_size = 2, output_dtype = 3> (x, s)"
        "y = DequantizeLinear <axis = 1, block_size = 2> (q, s) }"
    )
    with pytest.raises(SmithError, match=r"DequantizeLinear.*scales are for blocks"):
        gradients(Artifact.from_proto(model_of(blocks)), "y", ["x"])
    eight = (
        "g (float[4] x, float s) => (float[4] y) {"
        "q = QuantizeLinear <output_dtype = 17> (x, s) y = DequantizeLinear(q, s) }"
    )
    with pytest.raises(SmithError, match=r"QuantizeLinear.*FLOAT8E4M3FN"):
        gradients(Artifact.from_proto(model_of(eight)), "y", ["x"])


@pytest.mark.parametrize(("kind", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255)])
def test_the_gradient_stops_right_behind_the_range(kind: str, low: int, high: int) -> None:
    text = (
        f"g (float[4] x, float s, {kind} z) => (float[4] y)"
        "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
    )
    levels = np.array([low - 1, low, high, high + 1])
    feeds = {
        "x": ((levels - 5) * 0.25).astype(np.float32),
        "s": np.array(0.25, np.float32),
        "z": np.array(5, kind),
    }
    found = _slopes(text, feeds, ["x"])["x"]
    np.testing.assert_array_equal(found, [0, 1, 1, 0])
