"""Frozen graphs: their ends, cuts, large constants, and what is no graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tests.frameworks.tensorflow.conftest import signature

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.tensorflow.freeze import freeze
from onnxsmith.spec import ValueSpec

Open = Callable[..., Any]
Parity = Callable[..., Any]
v1 = tf.compat.v1


def frozen(path: Path, build: Callable[[], Any]) -> Path:
    with tf.Graph().as_default() as graph:
        build()
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def network() -> None:
    image = v1.placeholder(tf.float32, (None, 8, 8, 3), "image")
    scale = v1.placeholder(tf.float32, (), "scale")
    v1.placeholder(tf.float32, (2,), "left_over")
    conv = tf.nn.conv2d(image, tf.constant(normal(3, 3, 3, 4)), 1, "SAME", name="conv")
    pooled = tf.reduce_mean(tf.nn.relu(conv, name="relu"), (1, 2), name="pooled")
    tf.split(tf.multiply(pooled, scale, name="scaled"), 2, 1, name="halves")
    tf.nn.softmax(pooled, name="scores")
    tf.constant(3.0, name="alone")


def test_placeholders_and_sinks_are_the_ends(
    tmp_path: Path, open_source: Open, parity: Parity
) -> None:
    path = frozen(tmp_path / "net.pb", network)
    model, worst, export = parity(open_source(path))
    assert signature(model) == {
        "image": ["batch", 8, 8, 3],
        "scale": [],
        "halves": ["batch", 2],
        "scores": ["batch", 4],
    }
    assert worst < 1e-6
    assert export.details["route"] == "GraphDef"


def test_parts_are_outputs_by_name_and_number(
    tmp_path: Path, open_source: Open, parity: Parity
) -> None:
    path = frozen(tmp_path / "net.pb", network)
    model, worst, _ = parity(open_source(path, part="relu, halves:1"))
    assert list(signature(model)) == ["image", "scale", "relu", "halves:1"]
    assert worst < 1e-6
    model, _, _ = parity(open_source(path, part="scores"))
    assert list(signature(model)) == ["image", "scores"]  # what it does not need is left out


def test_an_inner_tensor_can_be_the_input(
    tmp_path: Path, open_source: Open, parity: Parity
) -> None:
    path = frozen(tmp_path / "net.pb", network)
    inputs = (ValueSpec("relu", "float32", ("n", 8, 8, 4)),)
    model, worst, _ = parity(open_source(path, part="scores", inputs=inputs))
    assert signature(model) == {"relu": ["n", 8, 8, 4], "scores": ["n", 4]}
    assert "Conv" not in {node.op_type for node in model.graph.node}
    assert worst < 1e-6
    with pytest.raises(SmithError, match="'relu' is of type float32, not float16"):
        open_source(path, part="scores", inputs=(ValueSpec("relu", "float16", (1, 8, 8, 4)),))


def test_names_that_are_not_there_are_named_with_those_alike(
    tmp_path: Path, open_source: Open
) -> None:
    path = frozen(tmp_path / "net.pb", network)
    with pytest.raises(UsageError, match="the graph has no tensor 'score'") as caught:
        open_source(path, part="score")
    assert caught.value.hint == "it has: scores"
    with pytest.raises(SmithError, match="no output depends on the input 'left_over'"):
        open_source(path, inputs=(ValueSpec("left_over", "float32", (2,)),))


def test_a_shape_that_is_not_known_is_asked_for(
    tmp_path: Path, open_source: Open, parity: Parity
) -> None:
    def build() -> None:
        x = v1.placeholder(tf.float32, None, "x")
        tf.matmul(x, tf.constant(normal(5, 2)), name="y")

    path = frozen(tmp_path / "net.pb", build)
    with pytest.raises(SmithError, match="the shape of the input 'x' is not known") as caught:
        open_source(path)
    assert "--input x:float32[" in caught.value.hint
    model, worst, _ = parity(open_source(path, inputs=(ValueSpec("x", "float32", ("rows", 5)),)))
    assert signature(model) == {"x": ["rows", 5], "y": ["rows", 2]}
    assert worst < 1e-6


def test_large_constants_stay_out_of_tf2onnx(
    tmp_path: Path, open_source: Open, parity: Parity
) -> None:
    def build() -> None:
        x = v1.placeholder(tf.float32, (None, 300), "x")
        tf.nn.relu(tf.matmul(x, tf.constant(normal(300, 400))), name="y")

    source = open_source(frozen(tmp_path / "net.pb", build))
    result = freeze(source.function)
    assert len(result.weights) == 1
    assert result.graph_def.ByteSize() < 5000
    model, worst, _ = parity(source)
    assert worst < 1e-6
    assert [value.name for value in model.graph.input] == ["x"]


def test_the_old_loops_of_tensorflow_1(tmp_path: Path, open_source: Open, parity: Parity) -> None:
    v1.disable_control_flow_v2()
    try:

        def build() -> None:
            x = v1.placeholder(tf.float32, (2, 3), "x")
            tf.identity(
                v1.while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, y * 1.5 + 1.0), (0, x))[1],
                name="y",
            )

        path = frozen(tmp_path / "net.pb", build)
    finally:
        v1.enable_control_flow_v2()
    _, worst, _ = parity(open_source(path))
    assert worst < 1e-6


def test_a_graph_that_is_not_frozen_is_refused(tmp_path: Path, open_source: Open) -> None:
    path = frozen(
        tmp_path / "net.pb",
        lambda: tf.identity(v1.get_variable("weights", (3,), use_resource=False), name="y"),
    )
    with pytest.raises(SmithError, match="is not frozen: 'weights' is a variable"):
        open_source(path)


def test_operators_that_tensorflow_does_not_know_are_refused(
    tmp_path: Path, open_source: Open
) -> None:
    graph_def = v1.GraphDef()
    graph_def.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    graph_def.node.add(name="y", op="MyOwnOperator", input=["x"])
    path = tmp_path / "net.pb"
    path.write_bytes(graph_def.SerializeToString())
    with pytest.raises(SmithError, match=r"TensorFlow cannot read the graph.*MyOwnOperator"):
        open_source(path)


def test_truncated_and_other_files_are_refused(tmp_path: Path, open_source: Open) -> None:
    whole = frozen(tmp_path / "net.pb", network).read_bytes()
    path = tmp_path / "part.pb"
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(SmithError, match=r"is not a frozen graph|is a graph without|no output"):
            open_source(path)
    path.write_bytes(b"\x08\x07" + b"just text" * 50)
    with pytest.raises(SmithError, match="does not begin with a node"):
        open_source(path)
