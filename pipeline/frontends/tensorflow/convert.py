"""Run tf2onnx on a frozen graph, and refuse what it leaves undone."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import onnx
import tensorflow as tf
from tf2onnx import optimizer, tf_loader
from tf2onnx.constants import OPSET_TO_IR_VERSION
from tf2onnx.tfonnx import process_tf_graph

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tensorflow.freeze import Frozen, Weight
from onnxsmith.pipeline.frontends.tensorflow.mends import (
    counted_names,
    fresh_protos,
    handlers,
)
from onnxsmith.pipeline.loading import describe

_NEWEST_OPSET = max(OPSET_TO_IR_VERSION)


def convert_frozen(frozen: Frozen, opset: int) -> onnx.ModelProto:
    """Convert a frozen graph; its weights are inputs of the result still.

    Raises:
        SmithError: An operator has no counterpart in ONNX: it is named.
    """
    inputs = [*frozen.inputs, *(weight.tensor for weight in frozen.weights)]
    outputs = list(dict.fromkeys(frozen.outputs))

    def read() -> Any:
        with tf.Graph().as_default(), tf.device("/cpu:0"):
            # TensorFlow's optimizer fills each placeholder with zeros; variables stay empty.
            _set_operator(frozen.graph_def, frozen.weights, "VariableV2")
            graph_def = tf_loader.tf_optimize(inputs, outputs, frozen.graph_def)
            _set_operator(graph_def, frozen.weights, "Placeholder")
        with tf.Graph().as_default() as graph, tf.device("/cpu:0"):
            tf.import_graph_def(graph_def, name="")
            return process_tf_graph(
                graph,
                opset=min(opset, _NEWEST_OPSET),
                input_names=inputs,
                output_names=outputs,
                initialized_tables=dict(frozen.tables),
                custom_op_handlers=handlers(),
            )

    return optimized(read)


def optimized(read: Callable[[], Any]) -> onnx.ModelProto:
    """Return the ONNX model of a graph of tf2onnx, after its optimizers.

    Args:
        read: Makes the graph; it is called again where an optimizer fails and spoils it.

    Raises:
        SmithError: Reading fails, or an operator is not supported.
    """
    with explained(), fresh_protos(), counted_names(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow and numpy about tf2onnx's ways
        graph = read()
        _refuse_unsupported(graph)
        try:
            graph = optimizer.optimize_graph(graph, catch_errors=False)
        except Exception:  # noqa: BLE001 - optimizers fail with anything
            # The careful way copies the graph before each optimizer, and leaves failing ones out.
            graph = optimizer.optimize_graph(read(), catch_errors=True)
        model: onnx.ModelProto = graph.make_model("")
        return model


def _set_operator(graph_def: Any, weights: Iterable[Weight], operator: str) -> None:
    """Let the nodes that stand for weights be of another kind."""
    names = {weight.tensor.partition(":")[0]: weight for weight in weights}
    for node in graph_def.node:
        weight = names.get(node.name)
        if weight is not None:
            node.op = operator
            node.attr.clear()
            node.attr["dtype"].type = tf.as_dtype(weight.dtype).as_datatype_enum
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(weight.shape).as_proto())


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what TensorFlow and tf2onnx raise into one line of what and one of how to mend it."""
    try:
        yield
    except SmithError:
        raise
    except Exception as error:  # tf2onnx and TensorFlow have no common base
        raise SmithError(
            f"the model cannot be converted: {describe(error)}",
            "see the messages above; --part and --input can cut a frozen graph before the place",
        ) from error


def _refuse_unsupported(graph: Any) -> None:
    for node in _all_nodes(graph):
        if node.is_const() or node.is_graph_input() or node.domain not in ("", "ai.onnx.ml"):
            continue
        if not _is_known(node.type, graph.opset, node.domain):
            raise SmithError(
                f"the operator {node.type} (at {node.name!r}) has no counterpart in ONNX",
                "cut the graph there: name a tensor behind it with --input, or one before it "
                "with --part",
            )


def _is_known(name: str, opset: int, domain: str) -> bool:
    if domain == "ai.onnx.ml":
        return onnx.defs.has(name, domain)
    try:
        onnx.defs.get_schema(name, opset, domain)
    except onnx.defs.SchemaError:
        return onnx.defs.has(name, "ai.onnx.ml")  # tf2onnx sets that domain late
    return True


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.get_nodes():
        yield node
        for body in (node.get_body_graphs() or {}).values():
            yield from _all_nodes(body)
