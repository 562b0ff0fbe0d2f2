"""Every form of a Constant becomes an initializer of the same type and value."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.lift_constants import LiftConstants
from onnxsmith.passes.observers import census

FORMS = [
    ("value = float[2] {1, 2}", np.array([1, 2], np.float32)),
    ("value_int = 3", np.array(3, np.int64)),
    ("value_ints = [3, -4]", np.array([3, -4], np.int64)),
    ("value_float = 0.5", np.array(0.5, np.float32)),
    ("value_floats = [0.5, 2.0]", np.array([0.5, 2.0], np.float32)),
    ('value_string = "a"', np.array(b"a", dtype=object)),
    ('value_strings = ["a", "é"]', np.array([b"a", "é".encode()], dtype=object)),
]


@pytest.mark.parametrize(("form", "expected"), FORMS)
def test_a_constant_becomes_an_initializer(
    load_text: Callable[..., Artifact], form: str, expected: np.ndarray
) -> None:
    text = f"g (float[2] x) => (float[2] y, int64[1] s) {{ c = Constant<{form}>() y = Neg(x) d = Identity(c) e = Shape(d) one = Constant<value_ints = [1]>() s = Reshape(e, one) }}"  # noqa: E501
    model = load_text(text, {}, opset=18).model
    result = LiftConstants().apply(model, PassContext())
    assert result.details == {"lifted": 2}
    assert "Constant" not in census(model)
    found = model.graph.initializers["c"]
    assert found.const_value is not None
    array = found.const_value.numpy()
    assert array.shape == expected.shape
    assert array.dtype == expected.dtype
    assert np.array_equal(array, expected)


def test_what_is_an_output_stays(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[2] x) => (float[2] y, float[1] c) { c = Constant<value_floats = [1.0]>() y = Add(x, c) }"  # noqa: E501
    model = load_text(text, {}, opset=18).model
    assert not LiftConstants().apply(model, PassContext()).modified


def test_bodies_are_lifted_too(load_text: Callable[..., Artifact]) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) { y = If(c) <
        then_branch = a () => (float[2] p) {
            k = Constant<value_floats = [1.0, 2.0]>() p = Add(x, k) },
        else_branch = b () => (float[2] q) { q = Neg(x) }> }"""
    model = load_text(text, {}, opset=18).model
    assert LiftConstants().apply(model, PassContext()).details == {"lifted": 1}
