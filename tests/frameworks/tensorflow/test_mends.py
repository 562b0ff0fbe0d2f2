"""Each mend: the fault is there without it, and gone with it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from tf2onnx import graph as tf2onnx_graph
from tf2onnx import utils as tf2onnx_utils
from tf2onnx.tfonnx import process_tf_graph

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.tensorflow import convert
from onnxsmith.pipeline.frontends.tensorflow.freeze import freeze
from onnxsmith.pipeline.frontends.tensorflow.mends import (
    counted_names,
    fresh_protos,
    handlers,
    optimizer_slots,
)
from onnxsmith.pipeline.frontends.tensorflow.saved import load_saved_model


def erfc_function() -> Any:
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    return tf.function(tf.math.erfc, input_signature=[spec]).get_concrete_function()


def test_without_its_handler_tf2onnx_leaves_erfc_in_the_graph(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(convert, "handlers", dict)
    with pytest.raises(SmithError, match="the operator Erfc"):
        convert.convert_frozen(freeze(erfc_function()), 18)


def test_erfc_is_one_less_erf() -> None:
    model = convert.convert_frozen(freeze(erfc_function()), 18)
    assert [node.op_type for node in model.graph.node] == ["Erf", "Sub"]
    assert handlers().keys() >= {"Erfc", "AudioSpectrogram", "Mfcc"}


def constant_bytes_copied(*, mended: bool) -> int:
    """Count the bytes of attributes that nodes' messages still hold after many updates."""
    graph = tf.Graph()
    with graph.as_default():
        tf.constant(np.zeros(1000, np.float32), name="c") + tf.compat.v1.placeholder(
            tf.float32, (1000,), "x"
        )
    parsed = process_tf_graph(graph, opset=18, input_names=["x:0"], output_names=["add:0"])
    (node,) = (n for n in parsed.get_nodes() if n.is_const() and n.output_shapes[0] == [1000])
    before = node._op
    if mended:
        with fresh_protos():
            node.update_proto()
    else:
        node.update_proto()
    return int(node._op is before)


def test_without_its_mend_tf2onnx_refills_the_same_message() -> None:
    assert constant_bytes_copied(mended=False) == 1
    assert constant_bytes_copied(mended=True) == 0


def test_the_mend_of_messages_is_taken_back() -> None:
    original = tf2onnx_graph.Node.update_proto
    with contextlib.suppress(RuntimeError), fresh_protos():
        assert tf2onnx_graph.Node.update_proto is not original
        raise RuntimeError
    assert tf2onnx_graph.Node.update_proto is original


def test_a_mended_node_keeps_its_attributes() -> None:
    node = onnx.helper.make_node("Concat", ["a", "b"], ["c"], name="n", axis=1, doc_string="why")
    node.domain = ""
    graph = tf2onnx_graph.Graph(
        [
            onnx.helper.make_node("Placeholder", [], ["a"], name="a"),
            onnx.helper.make_node("Placeholder", [], ["b"], name="b"),
            node,
        ],
        {"a": [1, 1], "b": [1, 1], "c": [1, 2]},
        {"a": 1, "b": 1, "c": 1},
        output_names=[],
    )
    with fresh_protos():
        graph.get_node_by_name("n").update_proto()
    assert graph.get_node_by_name("n").op == node


def test_names_are_counted_from_one_and_the_count_goes_on_after() -> None:
    first = tf2onnx_utils.make_name("a")
    with counted_names():
        assert tf2onnx_utils.make_name("a") == "a__2"
    assert tf2onnx_utils.make_name("a") == f"a__{int(first.removeprefix('a__')) + 1}"


@pytest.fixture(scope="module")
def with_slots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that says an optimizer made slots, as those of Keras 2 do."""
    from tensorflow.python.saved_model import loader_impl

    folder = tmp_path_factory.mktemp("slots")
    model = tf.Module()
    model.w = tf.Variable([1.0, 2.0], name="w")
    model.optimizer = tf.Module()
    model.optimizer.moment = tf.Variable([5.0, 6.0], name="moment")
    spec = [tf.TensorSpec((2,), tf.float32, name="x")]
    model.call = tf.function(lambda x: x * model.w, input_signature=spec)
    tf.saved_model.save(model, str(folder), signatures=model.call)
    proto = loader_impl.parse_saved_model(str(folder))
    nodes = proto.meta_graphs[0].object_graph_def.nodes
    children = {child.local_name: child.node_id for child in nodes[0].children}
    optimizer = nodes[children["optimizer"]]
    (moment,) = (c.node_id for c in optimizer.children if c.local_name == "moment")
    optimizer.slot_variables.add(
        original_variable_node_id=children["w"], slot_name="m", slot_variable_node_id=moment
    )
    (folder / "saved_model.pb").write_bytes(proto.SerializeToString())
    return folder


def test_without_its_mend_tensorflow_asks_a_plain_object_for_slots(with_slots: Path) -> None:
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(str(with_slots))
    with optimizer_slots():
        model = tf.saved_model.load(str(with_slots))
    assert model.optimizer.moment.numpy().tolist() == [5.0, 6.0]
    with pytest.raises(AttributeError, match="add_slot"):  # it was taken back
        tf.saved_model.load(str(with_slots))


def test_such_a_model_loads(with_slots: Path) -> None:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    loaded = load_saved_model(with_slots, ConvertRequest(str(with_slots)))
    assert loaded.route == "SavedModel, serving_default"
