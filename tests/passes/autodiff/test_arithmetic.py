"""Gradients of arithmetic, with broadcasting."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, model_of

RNG = np.random.default_rng(7)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2.0, shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Pow"])
@pytest.mark.parametrize(
    ("first", "second"),
    [((2, 3), (2, 3)), ((2, 3), (3,)), ((1, 3), (2, 1)), ((3,), ()), ((2, 1, 3), (4, 1))],
)
def test_binary_operators_sum_over_what_was_broadcast(
    kind: str, first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    shape = np.broadcast_shapes(first, second)
    inputs = f"float{list(first)} x, float{list(second)} y"
    text = f"g ({inputs}) => (float{list(shape)} z) {{ z = {kind}(x, y) }}"
    text = text.replace("float[]", "float")
    feeds = {"x": positive(*first), "y": positive(*second)}
    check_gradients(model_of(text), feeds, ["x", "y"])


@pytest.mark.parametrize("kind", ["Add", "Mul", "Where"])
def test_sizes_that_are_known_at_run_time_alone(kind: str) -> None:
    call = "Where(c, x, y)" if kind == "Where" else f"{kind}(x, y)"
    inputs = "float[n, 3] x, float[m, k] y, bool[n, 3] c"
    text = f"g ({inputs}) => (float[p, 3] z) {{ t = {call} z = Exp(t) }}"
    feeds = {
        "x": positive(2, 3),
        "y": positive(1, 3),
        "c": np.array([[True, False, True], [False, True, True]]),
    }
    check_gradients(model_of(text), feeds, ["x", "y"])


@pytest.mark.parametrize(
    "kind",
    ["Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Sin", "Cos", "Erf",
     "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Gelu"],
)  # fmt: skip
def test_functions_of_one_value(kind: str) -> None:
    text = f"g (float[2, 3] x) => (float[2, 3] z) {{ t = {kind}(x) z = Mul(t, t) }}"
    x = positive(2, 3)
    if kind not in ("Sqrt", "Log"):
        x *= np.array([[1, -1, 1], [-1, 1, -1]], np.float32)
    check_gradients(model_of(text), {"x": x}, ["x"])


def test_a_value_used_several_times_gets_the_sum() -> None:
    text = (
        "g (float[2] x) => (float[2] z) { a = Mul(x, x) b = Exp(x) c = Sum(a, b, x) z = Mul(c, a) }"
    )
    check_gradients(model_of(text), {"x": positive(2)}, ["x"])


def test_operators_without_a_rule_are_written_as_their_body() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] z) { z = Elu <alpha: float = 0.7> (x) }"
    x = positive(2, 3) * np.array([[1, -1, 1], [-1, 1, -1]], np.float32)
    check_gradients(model_of(text), {"x": x}, ["x"])
