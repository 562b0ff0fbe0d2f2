"""Shapes that a file declares are believed where nothing contradicts them, and only there."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.observers import census
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.session import Session


def shapes(artifact: Artifact) -> dict[str, str]:
    model = artifact.clone().model
    InferShapes().apply(model, PassContext())
    return {value.name: str(value.shape) for node in model.graph for value in node.outputs}


@pytest.mark.parametrize("declared", ["[5,5]", "[5]", "[2,7]"])
def test_a_wrong_inner_shape_is_replaced_and_what_follows_is_right(
    load_text: Callable[..., Artifact], declared: str
) -> None:
    text = f"g (float[2,3] x) => (int64[2] s) <float{declared} a> {{ a = Relu(x) s = Shape(a) }}"
    artifact = load_text(text)
    assert shapes(artifact)["a"] == "[2,3]"
    result = optimize(artifact, OptimizeRequest(verify="off")).artifact
    with Session(result) as session:
        found = session.run({"x": np.ones((2, 3), np.float32)})["s"]
    np.testing.assert_array_equal(found, [2, 3])


def test_what_cannot_be_inferred_is_believed(load_text: Callable[..., Artifact]) -> None:
    text = """g (float[2,3] x) => (float[2] y) <float[2,5] a, float[9] b> {
        a = own.F(x) b = Relu(x) c = Neg(a) y = own.G(c) }"""
    header = '<ir_version: 10, opset_import: ["": 18, "own": 1]>'
    found = shapes(load_text(text, header=header))
    assert found == {"a": "[2,5]", "b": "[2,3]", "c": "[2,5]", "y": "[2]"}


@pytest.mark.parametrize("declared", ["[7,3]", "[6]", "[2,7]"])
def test_an_output_that_is_declared_wrong_gets_its_shape_and_drops_nothing(
    load_text: Callable[..., Artifact], declared: str
) -> None:
    text = f"g (float[2,3] x) => (float{declared} y) {{ a = Relu(x) y = Identity(a) }}"
    result = optimize(load_text(text), OptimizeRequest())
    assert result.dropped == ()
    assert result.pipeline.verified
    assert census(result.artifact.model) == {"Relu": 1}
    assert result.artifact.spec.outputs[0].shape == (2, 3)


def test_symbols_of_outputs_stay(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[2,N] x) => (float[B,N] y) { a = Relu(x) y = Identity(a) }"
    result = optimize(load_text(text), OptimizeRequest())
    assert result.artifact.spec.outputs[0].shape == ("B", "N")
