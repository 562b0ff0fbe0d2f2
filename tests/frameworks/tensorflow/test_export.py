"""Functions with large weights, captured constants and control flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from tests.frameworks.tensorflow.conftest import signature

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tensorflow.convert import convert_frozen
from onnxsmith.pipeline.frontends.tensorflow.export import export_function
from onnxsmith.pipeline.frontends.tensorflow.freeze import freeze

Rng = np.random.Generator


@pytest.fixture
def rng() -> Rng:
    return np.random.default_rng(0)


def normal(rng: Rng, *shape: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape, np.float32)


def traced(function: Callable[..., Any], *specs: tf.TensorSpec) -> Any:
    return tf.function(function, input_signature=specs).get_concrete_function()


def test_large_weights_stay_out_of_tf2onnx_and_come_back_folded(
    rng: Rng, open_source: Callable[..., Any], parity: Callable[..., Any]
) -> None:
    kernel = tf.Variable(normal(rng, 5, 5, 32, 96) * 0.05, name="kernel")
    table = tf.Variable(normal(rng, 1000, 96), name="table")
    square = tf.Variable(normal(rng, 300, 300), name="square")

    def call(image: Any, ids: Any, x: Any) -> dict[str, Any]:
        features = tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME"))
        words = tf.gather(table, ids)
        return {
            "features": features,
            "scores": tf.matmul(words, table, transpose_b=True),
            "y": tf.matmul(x, square) @ tf.transpose(square),
        }

    function = traced(
        call,
        tf.TensorSpec((None, 8, 8, 32), tf.float32, name="image"),
        tf.TensorSpec((None, None), tf.int32, name="ids"),
        tf.TensorSpec((None, 300), tf.float32, name="x"),
    )
    frozen = freeze(function)
    assert {weight.name for weight in frozen.weights} == {"kernel", "table", "square"}
    assert frozen.graph_def.ByteSize() < 20_000
    model, worst, _ = parity(
        open_source(function),
        {"image": normal(rng, 3, 8, 8, 32), "ids": np.array([[999, 0, 7, 1]], np.int32),
         "x": normal(rng, 1, 300)},
    )  # fmt: skip
    assert worst < 2e-6
    kinds = Counter(node.op_type for node in model.graph.node)
    # The transposed copies of the weights are stored, not computed.
    assert kinds["Transpose"] == 2, kinds
    assert kinds["Identity"] == 0
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"table", "square", "square_1", "table_1", "kernel_1"} <= names
    assert "kernel" not in names
    assert signature(model) == {
        "image": ["batch", 8, 8, 32],
        "ids": ["batch", "time"],
        "x": ["batch", 300],
        "features": ["batch", 8, 8, 96],
        "scores": ["batch", "time", 1000],
        "y": ["batch", 300],
    }


def test_weights_that_a_loop_takes_are_constants(
    rng: Rng, open_source: Callable[..., Any], parity: Callable[..., Any]
) -> None:
    square = tf.Variable(normal(rng, 300, 300) * 0.05)

    def call(x: Any, count: Any) -> Any:
        return tf.while_loop(
            lambda i, y: i < count, lambda i, y: (i + 1, tf.tanh(y @ square)), (0, x)
        )[1]

    function = traced(
        call,
        tf.TensorSpec((None, 300), tf.float32, name="x"),
        tf.TensorSpec((), tf.int32, name="count"),
    )
    assert not freeze(function).weights
    model, worst, _ = parity(
        open_source(function), {"x": normal(rng, 3, 300), "count": np.array(5, np.int32)}
    )
    assert worst < 1e-6
    assert "Loop" in {node.op_type for node in model.graph.node}


def test_captured_constants_do_not_become_inputs(
    rng: Rng, open_source: Callable[..., Any], parity: Callable[..., Any]
) -> None:
    small, large = tf.constant(normal(rng, 300, 4)), tf.constant(normal(rng, 300, 300))
    function = traced(lambda x: x @ large @ small, tf.TensorSpec((None, 300), tf.float32, name="x"))
    model, worst, _ = parity(open_source(function))
    assert [value.name for value in model.graph.input] == ["x"]
    assert worst < 1e-6


def test_branches_and_exact_gelu(
    rng: Rng, open_source: Callable[..., Any], parity: Callable[..., Any]
) -> None:
    def call(x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.gelu(x), lambda: tf.math.erfc(x) * 2.0)

    function = traced(call, tf.TensorSpec((None, 4), tf.float32, name="x"))
    positive = np.abs(normal(rng, 3, 4))
    model, worst, _ = parity(open_source(function), {"x": positive}, {"x": -positive})
    assert "If" in {node.op_type for node in model.graph.node}
    assert worst < 1e-6


def test_an_input_that_is_an_output_too_gets_a_name_of_its_own(
    open_source: Callable[..., Any], parity: Callable[..., Any]
) -> None:
    function = traced(
        lambda x: {"x": x, "twice": x * 2.0}, tf.TensorSpec((None, 4), tf.float32, name="x")
    )
    model, worst, _ = parity(open_source(function))
    assert [value.name for value in model.graph.output] == ["twice", "x_out"]
    assert worst == 0.0


def test_one_tensor_can_be_two_outputs(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        tf.nn.relu(x, name="y")
    wrapped = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph.as_graph_def(), name=""), []
    )
    function = wrapped.prune("x:0", ["y:0", "y:0"])
    path = export_function(function, tmp_path, opset=18, output_names=["one", "two"])
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    assert list(signature(model)) == ["x", "one", "two"]


def test_names_asked_for_are_given_whatever_the_graph_calls_its_values(tmp_path: Path) -> None:
    function = traced(
        lambda a, b: (tf.add(a, b, name="first"), a - b),
        tf.TensorSpec((2,), tf.float32, name="a"),
        tf.TensorSpec((2,), tf.float32, name="b"),
    )
    path = export_function(
        function, tmp_path, opset=18, input_names=["b", "a"], output_names=["Add:0", "x"]
    )
    model = onnx.load(str(path))
    assert list(signature(model)) == ["b", "a", "Add:0", "x"]
    (subtract,) = (node for node in model.graph.node if node.op_type == "Sub")
    assert list(subtract.input) == ["b", "a"]


def test_two_exports_are_the_same_bytes(rng: Rng, tmp_path: Path) -> None:
    kernel = tf.Variable(normal(rng, 3, 3, 4, 8))
    function = traced(
        lambda x: tf.nn.gelu(tf.nn.conv2d(x, kernel, 1, "SAME")),
        tf.TensorSpec((None, 8, 8, 4), tf.float32, name="x"),
    )
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths.append(export_function(function, tmp_path / name, opset=18))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_unknown_operators_are_refused_by_name() -> None:
    function = traced(tf.linalg.cholesky, tf.TensorSpec((3, 3), tf.float32, name="x"))
    with pytest.raises(SmithError, match=r"the operator Cholesky .* has no counterpart") as caught:
        convert_frozen(freeze(function), 18)
    assert "--part" in caught.value.hint


def test_python_code_in_the_graph_is_refused_by_name() -> None:
    def call(x: Any) -> Any:
        return tf.numpy_function(lambda a: a * 2, [x], tf.float32, name="mine")

    function = traced(call, tf.TensorSpec((3,), tf.float32))
    with pytest.raises(SmithError, match=r"'mine' .*runs Python code"):
        freeze(function)


def test_a_variable_that_changes_is_refused_by_name() -> None:
    total = tf.Variable(tf.zeros(3), name="total")
    function = traced(total.assign_add, tf.TensorSpec((3,), tf.float32))
    with pytest.raises(SmithError, match=r"changes a variable.*AssignAddVariableOp") as caught:
        freeze(function)
    assert "pass the state" in caught.value.hint
