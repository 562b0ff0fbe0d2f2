"""What paddle2onnx writes becomes readable; shown on a model like its own, without Paddle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.paddle.clean import (
    clean,
    input_specs,
    make_examples,
    name_outputs,
)
from onnxsmith.spec import ValueSpec

TEXT = """
g (float[N0, 3, N1, N2] x) => (float[N3, 3, N4, N5] fetch_name_0) {
    w = Constant<value: tensor = float[1, 3, 1, 1] {1, 2, 3}>()
    unused = Constant<value: tensor = int64[1] {7}>()
    same = Identity(w)
    y = Mul(x, same)
    also = Identity(y)
    fetch_name_0 = Relu(also)
}
"""
TWO = """
g (int64[N0, N1] a, float[N2, 4] b) => (float[N3, 4] fetch_name_0) {
    s = Cast<to = 1>(a)
    t = ReduceMean<keepdims = 1>(s)
    fetch_name_0 = Add(b, t)
}
"""


@pytest.fixture
def model(parse_model: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    return parse_model(TEXT)


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_constants_names_and_dimensions_are_mended(model: onnx.ModelProto) -> None:
    made = clean(model, ("output",), ())
    assert [node.op_type for node in made.graph.node] == ["Mul", "Relu"]
    (weight,) = made.graph.initializer
    assert onnx.numpy_helper.to_array(weight).ravel().tolist() == [1, 2, 3]
    assert dims(made.graph.input[0]) == ["batch", 3, "height", "width"]
    assert made.graph.output[0].name == "output"
    assert dims(made.graph.output[0]) == ["batch", 3, "height", "width"]
    onnx.checker.check_model(made, full_check=True)


def test_dimensions_take_the_names_and_sizes_asked_for(model: onnx.ModelProto) -> None:
    made = clean(model, ("output",), (ValueSpec("x", "float32", (2, 3, "h", 8)),))
    assert dims(made.graph.input[0]) == [2, 3, "h", 8]
    assert dims(made.graph.output[0]) == [2, 3, "h", 8]


def test_several_inputs_share_the_batch_alone(
    parse_model: Callable[..., onnx.ModelProto],
) -> None:
    made = clean(parse_model(TWO, opset=17), ("output",), ())
    assert [dims(value) for value in made.graph.input] == [["batch", "a_dim1"], ["batch", 4]]
    specs = input_specs(made)
    examples = make_examples(specs, ConvertRequest("x", dims={"a_dim1": 5}))
    assert {name: array.shape for name, array in examples.items()} == {"a": (2, 5), "b": (2, 4)}
    assert examples["a"].dtype == np.int64
    assert set(np.unique(examples["a"])) <= {0, 1}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ValueSpec("y", "float32", ("n", 3, 4, 4)), "the program has no input 'y'"),
        (ValueSpec("x", "float32", ("n", 4, 4, 4)), r"has the shape \[\?,3,\?,\?\]"),
        (ValueSpec("x", "float32", ("n", 3, 4)), r"has the shape \[\?,3,\?,\?\]"),
    ],
)
def test_a_signature_that_does_not_fit_is_refused(
    model: onnx.ModelProto, spec: ValueSpec, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        clean(model, ("output",), (spec,))
    assert caught.value.hint


def test_outputs_get_names() -> None:
    assert name_outputs(("fetch_name_0",), ("x",)) == ("output",)
    assert name_outputs(("fetch_name_0", "fetch_name_1"), ()) == ("output_0", "output_1")
    assert name_outputs(("linear_0.tmp_1",), ()) == ("linear_0.tmp_1",)
    assert name_outputs(("fetch_name_0",), ("output",)) == ("output_out",)
    assert name_outputs(("a", "a"), ("a",)) == ("a_out", "a_out_out")
