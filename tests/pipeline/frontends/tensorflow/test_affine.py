"""Scales and shifts behind convolutions, and rearranged weights: both need no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.tensorflow.affine import fold_affine
from onnxsmith.pipeline.frontends.tensorflow.fold import fold_weights
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def run(artifact: Artifact, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    with Session(artifact, optimize=False) as session:
        return list(session.run({"x": x}).values())


def kinds(artifact: Artifact) -> list[str]:
    return [node.op_type for node in artifact.model.graph]


def check(artifact: Artifact, x: np.ndarray[Any, Any], expected: list[str]) -> None:
    """Fold; the nodes are the expected ones, and the outputs stay."""
    before = run(artifact.clone(), x)
    fold_affine(artifact.model)
    assert kinds(artifact) == expected
    for old, new in zip(before, run(artifact, x), strict=True):
        assert np.abs(old - new).max() <= 1e-6 * np.abs(old).max()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale_shape", [(1, 6, 1, 1), (6, 1, 1), (), (1,)])
def test_a_scale_and_a_shift_go_into_the_weights(
    load_text: Load, bias: bool, scale_shape: tuple[int, ...]
) -> None:
    given = ", b" if bias else ""
    text = f"""g (float[N,4,5,5] x) => (float[N,6,3,3] y) {{
        c = Conv (x, w{given})
        m = Mul (scale, c)
        a = Add (m, shift)
        y = Relu (a)
    }}"""
    weights = {"w": normal(6, 4, 3, 3), "scale": normal(*scale_shape), "shift": normal(1, 6, 1, 1)}
    if bias:
        weights["b"] = normal(6)
    artifact = load_text(text, weights)
    check(artifact, normal(2, 4, 5, 5), ["Conv", "Relu"])
    assert len(artifact.model.graph.initializers) == 2  # the old ones are gone


def test_depthwise_and_three_dimensional_convolutions(load_text: Load) -> None:
    text = """g (float[N,4,5,5,5] x) => (float[N,4,3,3,3] y) {
        c = Conv <group = 4> (x, w)
        m = Mul (c, scale)
        y = Abs (m)
    }"""
    weights = {"w": normal(4, 1, 3, 3, 3), "scale": normal(1, 4, 1, 1, 1)}
    check(load_text(text, weights), normal(2, 4, 5, 5, 5), ["Conv", "Abs"])


def test_a_weight_of_two_convolutions_is_scaled_for_one(load_text: Load) -> None:
    text = """g (float[N,4,5,5] x) => (float[N,4,5,5] y) {
        c = Conv (x, w)
        m = Mul (c, scale)
        d = Conv (m, w)
        y = Abs (d)
    }"""
    weights = {"w": normal(4, 4, 1, 1), "scale": normal(1, 4, 1, 1)}
    check(load_text(text, weights), normal(2, 4, 5, 5), ["Conv", "Conv", "Abs"])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("c = Conv (x, w) m = Mul (c, wide) y = Abs (m)", "a number for each column"),
        ("c = Conv (x, w) m = Mul (c, x) y = Abs (m)", "no constant"),
        ("c = Conv (x, w) m = Mul (c, scale) d = Abs (c) y = Sub (d, m)", "another user"),
        ("c = Conv (x, w) y = Mul (c, scale)", "the result is an output"),
        ("c = Conv (x, w) m = Mul (c, c) y = Abs (m)", "a square"),
        ("c = Conv (x, w) m = Mul (c, deep) y = Squeeze (m, axes)", "another rank"),
    ],
)
def test_what_is_no_scale_of_channels_stays(load_text: Load, body: str, why: str) -> None:
    artifact = load_text(
        f"g (float[N,4,5,5] x) => (float[N,4,5,5] y) {{ {body} }}",
        {
            "w": normal(4, 4, 1, 1),
            "scale": normal(1, 4, 1, 1),
            "wide": normal(1, 1, 1, 5),
            "deep": normal(1, 1, 4, 1, 1),
            "axes": np.array([0], np.int64),
        },
    )
    fold_affine(artifact.model)
    assert "Mul" in kinds(artifact), why


def lazy(array: np.ndarray[Any, Any]) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.tensor(array), dtype=ir.DataType.FLOAT, shape=ir.Shape(array.shape)
    )


def test_rearrangements_of_a_weight_are_stored_and_read_late(load_text: Load) -> None:
    text = """g (float[N,6] x) => (float[N,4] y) {
        i = Identity (w)
        t = Transpose <perm = [1, 0]> (i)
        r = Reshape (t, shape)
        u = Unsqueeze (r, axes)
        s = Squeeze (u, axes)
        y = MatMul (x, s)
    }"""
    array = normal(4, 6)
    shape, axes = np.array([0, -1], np.int64), np.array([0], np.int64)
    artifact = load_text(text, {"w": array, "shape": shape, "axes": axes})
    artifact.model.graph.initializers["w"].const_value = lazy(array)
    x = normal(3, 6)
    fold_weights(artifact.model)
    assert kinds(artifact) == ["MatMul"]
    (found,) = run(artifact, x)
    np.testing.assert_allclose(found, x @ array.T, rtol=1e-5)


def test_rearrangements_by_numbers_that_are_computed_stay(load_text: Load) -> None:
    text = """g (float[4,6] x) => (float[A,B] y) {
        s = Shape (x)
        r = Reshape (w, s)
        y = Add (x, r)
    }"""
    artifact = load_text(text, {"w": normal(24)})
    artifact.model.graph.initializers["w"].const_value = lazy(normal(24))
    fold_weights(artifact.model)
    assert kinds(artifact) == ["Shape", "Reshape", "Add"]
