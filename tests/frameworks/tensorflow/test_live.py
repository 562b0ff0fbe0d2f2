"""Live objects and callables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from tests.frameworks.tensorflow.conftest import signature

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.tensorflow.frontend import TensorflowFrontend
from onnxsmith.spec import ValueSpec

Open = Callable[..., Any]
Parity = Callable[..., Any]
X = ValueSpec("x", "float32", ("rows", 4))


class Net(tf.Module):
    """A module that is called, with another method."""

    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(np.random.default_rng(0).standard_normal((4, 3), np.float32))

    def __call__(self, x: Any) -> Any:
        return tf.nn.softmax(x @ self.w)

    @tf.function
    def scaled(self, x: Any, by: Any) -> Any:
        return x @ self.w * by


def test_a_module_is_traced_for_the_inputs_given(open_source: Open, parity: Parity) -> None:
    model, worst, export = parity(open_source(Net(), inputs=(X,)))
    assert signature(model) == {"x": ["rows", 4], "output": ["rows", 3]}
    assert worst < 1e-6
    assert export.details["route"] == "Net"


def test_a_method_is_a_part_and_inputs_bind_by_name(open_source: Open, parity: Parity) -> None:
    inputs = (ValueSpec("by", "float32", ()), X)
    model, worst, _ = parity(open_source(Net(), inputs=inputs, part="scaled"))
    assert signature(model) == {"x": ["rows", 4], "by": [], "output": ["rows", 3]}
    assert worst < 1e-6


def test_a_function_with_a_signature_needs_no_inputs(open_source: Open, parity: Parity) -> None:
    net = Net()
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    model, worst, _ = parity(open_source(tf.function(net, input_signature=[spec])))
    assert signature(model) == {"x": ["batch", 4], "output": ["batch", 3]}
    assert worst < 1e-6


def test_a_function_that_was_called_once_has_that_signature(
    open_source: Open, parity: Parity
) -> None:
    function = tf.function(Net())
    function(tf.zeros((5, 4)))
    model, _, _ = parity(open_source(function))
    assert signature(model) == {"x": [5, 4], "output": [5, 3]}


def test_inputs_that_are_not_known_are_asked_for(open_source: Open) -> None:
    with pytest.raises(SmithError, match=r"the inputs of .* are not known") as caught:
        open_source(tf.function(Net()))
    assert "--input" in caught.value.hint
    with pytest.raises(SmithError, match="no element type 'float31'"):
        open_source(Net(), inputs=(ValueSpec("x", "float31", (4,)),))


def test_graphs_are_taken_as_they_are(open_source: Open, parity: Parity) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
        tf.nn.relu(x, name="y")
    size = graph.as_graph_def().ByteSize()
    for value in (graph, graph.as_graph_def()):
        model, _, _ = parity(open_source(value))
        assert signature(model) == {"x": ["batch", 4], "y": ["batch", 4]}
    assert graph.as_graph_def().ByteSize() == size


def test_what_is_no_model_is_refused(open_source: Open) -> None:
    with pytest.raises(SmithError, match="is a int, not a function or a module"):
        open_source(7)
    with pytest.raises(SmithError, match="hold their weights themselves"):
        open_source(Net(), inputs=(X,), weights="w.h5")


def test_live_objects_are_recognised() -> None:
    frontend = TensorflowFrontend()
    function = tf.function(Net())
    concrete = function.get_concrete_function(tf.TensorSpec((2, 4), tf.float32))
    for value in (Net(), function, concrete, tf.Graph(), tf.compat.v1.GraphDef()):
        assert frontend.match_object(value) is not None, type(value)
    assert frontend.match_object(np.zeros(3)) is None
    assert frontend.match_object(onnx.ModelProto()) is None


def test_a_callable_is_converted_in_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Callable[..., Any]
) -> None:
    """The real command: a module that imports tensorflow, converted and compared."""
    (tmp_path / "mynet.py").write_text(
        "import tensorflow as tf\n"
        "class Net(tf.Module):\n"
        "    def __init__(self):\n"
        "        self.w = tf.Variable(tf.random.normal((4, 3)))\n"
        "    def __call__(self, x):\n"
        "        return tf.nn.gelu(x @ self.w)\n"
    )
    monkeypatch.chdir(tmp_path)
    ended = run_cli("convert", "mynet:Net", "-o", "net.onnx", "--input", "x:float32[rows,4]")
    assert ended.code == 0, ended.err
    assert signature(onnx.load("net.onnx")) == {"x": ["rows", 4], "output": ["rows", 3]}
    refused = run_cli("convert", "mynet:Net", "-o", "other.onnx")
    assert refused.code == 1
    assert "are not known" in refused.err
    assert "Traceback" not in refused.err
    assert not Path("other.onnx").exists()


def test_a_live_module_is_converted_in_this_process() -> None:
    result = convert(Net(), inputs=["x:float32[rows,4]"])
    assert result.frontend == "tensorflow"
    assert max(d.max_rel for d in result.parity) < 1e-6
    assert [str(s) for s in result.artifact.spec.outputs] == ["output: float32[rows,3]"]
