"""Gradients of reductions: which dimensions, whether they stay, zeros and large numbers."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, close, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(5)
KINDS = (
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd",
    "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
)  # fmt: skip
FLOAT_ONLY = ("ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum")
"""What the runtime has no kernel in float64 for."""


def values(*shape: int) -> np.ndarray:
    """Positive values of which no two are near."""
    count = int(np.prod(shape))
    return (RNG.permutation(count).reshape(shape) / count + 0.5).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", ["0", "-1, 0", "1", "computed", ""])
def test_reductions(kind: str, keep: int, axes: str) -> None:
    if axes == "computed":
        head, given = "a = Abs(i)", "x, a"
    elif axes:
        head, given = f"a = Constant <value_ints = [{axes}]> ()", "x, a"
    else:
        head, given = "", "x"
    fixed = "2, 3, 2" if keep else "n, 3, m"
    text = (
        f"g (float[{fixed}] x, int64[1] i) => (float y) {{ {head} t = {kind} <keepdims = {keep}>"
        f"({given}) u = Mul(t, t) y = ReduceSum <keepdims = 0> (u) }}"
    )
    feeds = {"x": values(2, 3, 2), "i": np.array([1])}
    double = axes == "-1, 0" and kind not in FLOAT_ONLY
    check_gradients(model_of(text), feeds, ["x"], double=double)


@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"])
def test_reductions_over_nothing_pass_the_gradient(kind: str) -> None:
    text = (
        "g (float[2, 3] x) => (float[2, 3] y) { a = Constant <value_ints: ints = []> ()"
        f"t = {kind} <noop_with_empty_axes = 1> (x, a) y = Mul(t, x) }}"
    )
    x = values(2, 3)
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    with Session(made) as session:
        close(session.run({"x": x})["x_gradient"], 2 * x, 1e-6, "x")


def test_a_norm_of_nothing_is_refused() -> None:
    text = (
        "g (float[2, 3] x) => (float[2, 3] y) { a = Constant <value_ints: ints = []> ()"
        "y = ReduceL2 <noop_with_empty_axes = 1> (x, a) }"
    )
    with pytest.raises(SmithError, match=r"ReduceL2.*reduces no dimension"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])


@pytest.mark.parametrize(
    "row", [[2.0, -3.0, 0.5], [0.0, -3.0, 0.5], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
)
def test_products_with_zeros(row: list[float]) -> None:
    text = (
        "g (float[2, 3] x) => (float[2] y)"
        "{ a = Constant <value_ints = [1]> () y = ReduceProd <keepdims = 0> (x, a) }"
    )
    x = np.array([row, [1, 2, 3]], np.float32)
    check_gradients(model_of(text), {"x": x}, ["x"])


@pytest.mark.parametrize(
    ("kind", "x", "expected"),
    [
        ("ReduceL2", [[0, 0], [3, 4]], [[0, 0], [0.6, 0.8]]),
        ("ReduceLogSumExp", [[1000, 1000], [-1000, 0]], [[0.5, 0.5], [0, 1]]),
        ("ReduceMax", [[1, 1], [2, 0]], [[0.5, 0.5], [1, 0]]),
    ],
)
def test_zero_norms_large_numbers_and_ties(
    kind: str, x: list[list[float]], expected: list[list[float]]
) -> None:
    text = (
        "g (float[2, 2] x) => (float[2, 1] y)"
        f"{{ a = Constant <value_ints = [1]> () y = {kind}(x, a) }}"
    )
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    with Session(made) as session:
        found = session.run({"x": np.array(x, np.float32)})["x_gradient"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)
