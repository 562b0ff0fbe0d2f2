"""Gradients of functions of one value, over shapes and far from zero."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(11)
SHAPES: tuple[tuple[int, ...], ...] = ((), (5,), (2, 3), (1, 4), (2, 1, 3), (2, 2, 1, 2))

UNARY = {
    "Neg": (-2, 2), "Abs": (-2, 2), "Sqrt": (0.5, 2), "Reciprocal": (0.5, 2), "Exp": (-2, 2),
    "Log": (0.5, 2), "Sin": (-2, 2), "Cos": (-2, 2), "Erf": (-2, 2), "Tan": (-1, 1),
    "Asin": (-0.9, 0.9), "Acos": (-0.9, 0.9), "Atan": (-2, 2), "Sinh": (-2, 2), "Cosh": (-2, 2),
    "Asinh": (-2, 2), "Acosh": (1.2, 3), "Atanh": (-0.9, 0.9), "Relu": (-2, 2),
    "LeakyRelu <alpha = 0.3>": (-2, 2), "Sigmoid": (-4, 4), "Tanh": (-2, 2), "Gelu": (-3, 3),
    'Gelu <approximate = "tanh">': (-3, 3), "Softplus": (-3, 3), "Softsign": (-3, 3),
    "Mish": (-3, 3), "Elu <alpha = 0.7>": (-2, 2), "Celu <alpha = 0.6>": (-2, 2),
    "Selu <alpha = 1.5, gamma = 1.1>": (-2, 2), "HardSigmoid <alpha = 0.3, beta = 0.4>": (-3, 3),
    "HardSwish": (-4, 4), "ThresholdedRelu <alpha = 0.5>": (-2, 2),
    "Shrink <lambd = 0.6, bias = 0.2>": (-2, 2), "Identity": (-2, 2),
}  # fmt: skip
FLOAT_ONLY = {
    "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Elu", "Celu",
    "Selu", "HardSigmoid", "HardSwish", "ThresholdedRelu", "Softplus", "Softsign", "Mish", "Gelu",
    "LeakyRelu", "Erf",
}  # fmt: skip
"""What the runtime has no kernel in float64 for."""


def sizes(shape: tuple[int, ...], result: bool = False) -> str:
    """Return a type; all sizes but the last are known when it runs alone."""
    if not shape:
        return "float"
    names = [*(f"{'r' if result else 'd'}{i}" for i in range(len(shape) - 1)), str(shape[-1])]
    return f"float[{', '.join(names)}]"


def away_from(values: np.ndarray, corners: tuple[float, ...]) -> np.ndarray:
    """Move values off the corners, where there is no derivative to compare with."""
    for corner in corners:
        near = np.abs(values - corner) < 0.02
        values = np.where(near, corner + 0.05, values)
    return values.astype(np.float32)


@pytest.mark.parametrize("call", UNARY)
def test_functions_of_one_value(call: str) -> None:
    kind, _, options = call.partition(" ")
    low, high = UNARY[call]
    for count, shape in enumerate(SHAPES[1:4] if kind in FLOAT_ONLY else SHAPES):
        text = f"g ({sizes(shape)} x) => ({sizes(shape)} z) {{ t = {kind} {options} (x)"
        values = RNG.uniform(low, high, shape) if shape else np.array(RNG.uniform(low, high))
        corners = (0, 0.5, -0.6, 0.6, -3, 3, -4 / 3, 2)
        feeds = {"x": away_from(values, corners) if high >= 2 else values.astype(np.float32)}
        double = (kind not in FLOAT_ONLY or call.startswith("Gelu <")) and count == 2
        check_gradients(model_of(f"{text} z = Exp(t) }}"), feeds, ["x"], double=double)


@pytest.mark.parametrize(
    ("call", "low", "high"),
    [
        ("Softplus", 0.0, 1.0),
        ("Mish", 0.0, 1.0),
        ("Elu", 0.0, 1.0),
        ("Celu", 0.0, 1.0),
        ("Softsign", 1 / 101**2, 1 / 101**2),
        ("Selu", 0.0, 1.0507010),
        ("Gelu", 0.0, 1.0),
        ("Swish", 0.0, 1.0),
        ("Sigmoid", 0.0, 0.0),
    ],
)
def test_nothing_overflows_far_from_zero(call: str, low: float, high: float) -> None:
    text = f"g (float[2] x) => (float[2] y) {{ y = {call} (x) }}"
    made = gradients(Artifact.from_proto(model_of(text, 24)), "y", ["x"])
    with Session(made) as session:
        slopes = session.run({"x": np.array([-100, 100], np.float32)})["x_gradient"]
    np.testing.assert_allclose(slopes, [low, high], rtol=1e-6, atol=1e-30)


def test_swish_with_a_factor() -> None:
    text = "g (float[2, n] x) => (float[2, n] y) { t = Swish <alpha = 1.7> (x) y = Mul(t, t) }"
    x = RNG.normal(size=(2, 5)).astype(np.float32)
    made = gradients(Artifact.from_proto(model_of(text, 24)), "y", ["x"])
    gate = 1 / (1 + np.exp(-1.7 * x.astype(np.float64)))
    slope = 2 * x * gate * (gate + 1.7 * x * gate * (1 - gate))
    with Session(made) as session:
        np.testing.assert_allclose(session.run({"x": x})["x_gradient"], slope, rtol=1e-5)


@pytest.mark.parametrize("slope", [(3,), (2, 1), (1,), (2, 3)])
def test_prelu(slope: tuple[int, ...]) -> None:
    text = (
        f"g (float[2, 3] x, {sizes(slope)} s) => (float[2, 3] y){{ t = PRelu(x, s) y = Mul(t, t) }}"
    )
    x = away_from(RNG.normal(size=(2, 3)), (0,))
    feeds = {"x": x, "s": RNG.uniform(0.1, 0.9, slope).astype(np.float32)}
    check_gradients(model_of(text), feeds, ["x", "s"])


@pytest.mark.parametrize("kind", ["Min", "Max", "Mean", "Sum"])
@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 3)), ((2, 3), (3,), (2, 1)), ((4, 1), (1,), ()), ((3,),)]
)
def test_operators_of_many_values(kind: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    names = "abc"[: len(shapes)]
    given = ", ".join(f"{sizes(s)} {n}" for s, n in zip(shapes, names, strict=True))
    result = sizes(np.broadcast_shapes(*shapes), result=True)
    text = f"g ({given}) => ({result} y) {{ t = {kind}({', '.join(names)}) y = Exp(t) }}"
    feeds = {n: RNG.normal(size=s).astype(np.float32) for s, n in zip(shapes, names, strict=True)}
    feeds = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
    check_gradients(model_of(text), feeds, list(names), double=kind != "Mean")


def test_remainder() -> None:
    text = (
        "g (float[2, 4] x, float[4] d) => (float[2, 4] y)"
        "{ t = Mod <fmod = 1> (x, d) y = Mul(t, t) }"
    )
    x = np.array([[7.3, -7.3, 0.4, 9.1], [5.2, -0.4, 3.3, 8.8]], np.float32)
    d = np.array([2.0, 3.0, 1.5, -2.5], np.float32)
    check_gradients(model_of(text), {"x": x, "d": d}, ["x", "d"])


@pytest.mark.parametrize("call", ["Floor", "Ceil", "Round", "Sign", "Hardmax"])
def test_steps_have_no_slope(call: str) -> None:
    text = f"g (float[2, 3] x) => (float[2, 3] y) {{ s = {call}(x) y = Mul(s, x) }}"
    x = away_from(RNG.normal(size=(2, 3)), (0, 0.5, -0.5, 1, -1))
    check_gradients(model_of(text), {"x": x}, ["x"])


@pytest.mark.parametrize("call", ["IsNaN", "IsInf"])
def test_questions_pass_no_gradient(call: str) -> None:
    text = (
        f"g (float[3] x) => (float[3] y) {{ q = {call}(x) h = Exp(x) t = Mul(x, x)"
        "y = Where(q, h, t) }"
    )
    check_gradients(model_of(text), {"x": np.array([1, -2, 3], np.float32)}, ["x"])


def test_ranges_and_one_hot_values_have_gradients() -> None:
    text = (
        "g (float a, float b, float d, int64[3] i, float[2] v) => (float[n] y, float[3, 4] z) {"
        "t = Range(a, b, d) y = Mul(t, t) k = Constant <value_int = 4> ()"
        "o = OneHot(i, k, v) z = Exp(o) }"
    )
    feeds = {
        "a": np.array(0.5, np.float32),
        "b": np.array(4.2, np.float32),
        "d": np.array(1.1, np.float32),
        "i": np.array([0, 3, 1]),
        "v": np.array([-0.5, 0.7], np.float32),
    }
    check_gradients(model_of(text), feeds, ["a", "d"], of="y")
    check_gradients(model_of(text), feeds, ["v"], of="z")
