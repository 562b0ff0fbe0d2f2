"""Freeze a function: small variables become constants, large weights inputs.

tf2onnx copies each constant dozens of times. A weight whose value no rewrite needs stands in the
graph as an input instead, and its value is put back into the ONNX model afterwards, read from
TensorFlow one at a time.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from onnxsmith.errors import SmithError

# Smaller ones cost little, and constants are what tf2onnx knows best.
LARGE_BYTES = 256 * 1024
_DTYPES = (tf.float16, tf.float32, tf.float64, tf.int8, tf.uint8, tf.int32, tf.int64)
# Operators that take a weight at these places whatever its value.
_INDIFFERENT = {
    "Conv2D": {1},
    "Conv3D": {1},
    "Conv2DBackpropInput": {1},
    "MatMul": {0, 1},
    "BatchMatMul": {0, 1},
    "BatchMatMulV2": {0, 1},
    "BatchMatMulV3": {0, 1},
    "Einsum": {0, 1},
    "GatherV2": {0},
    "ResourceGather": {0},
    "BiasAdd": {1},
    "AddV2": {0, 1},
    "Mul": {0, 1},
}
# Operators that hand the weight on.
_TRANSPARENT = {"Identity": {0}, "ReadVariableOp": {0}, "Transpose": {0}, "Reshape": {0}}
Use = tuple[Any, int]  # a node and the place of one of its inputs
_RUNS_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_CHANGES_STATE = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "Assign")


@dataclass(frozen=True)
class Weight:
    """A weight that stands in the graph as an input.

    Attributes:
        tensor: Its name in the graph, with ``:0``.
        name: Its name in the source: the variable's.
        read: Returns its value.
        dtype: Its element type.
        shape: Its shape.
    """

    tensor: str
    name: str
    read: Callable[[], np.ndarray[Any, Any]]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Frozen:
    """A function without variables.

    Attributes:
        graph_def: Its graph, as TensorFlow's ``GraphDef``.
        inputs: The names of its inputs' tensors, in order.
        outputs: The names of its outputs' tensors, in order.
        weights: What stands in it as further inputs.
        tables: Name of each lookup table to its keys and values.
    """

    graph_def: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[Weight, ...] = ()
    tables: Mapping[bytes, tuple[Any, Any]] = field(default_factory=dict)


def freeze(function: Any) -> Frozen:
    """Freeze a ``ConcreteFunction``; what it calls is written out in its place.

    Raises:
        SmithError: It runs Python code or changes variables.
    """
    with _no_collections(function.graph):
        data = _LeanData(function, lower_control_flow=False, aggressive_inlining=True)
    _refuse(data.graph_def)
    graph_def, _ = convert_to_constants._replace_variables_by_constants(data)
    weights = tuple(data.kept.values())
    consumers = _consumers(graph_def)
    for weight in weights:
        _make_plain(graph_def, weight, consumers)
    captured = {tensor.name for tensor in function.graph.internal_captures}
    inputs = tuple(t.name for t in function.inputs if t.name not in captured)
    tables = _tables(function, graph_def)
    outputs = tuple(tensor.name for tensor in function.outputs)
    return Frozen(graph_def, inputs, outputs, weights, tables)


@contextlib.contextmanager
def _no_collections(graph: Any) -> Iterator[None]:
    """Hide a graph's collections for the moment.

    Those of TensorFlow 1's models list initializers that are not in the function's graph, and
    TensorFlow's optimizer looks for them there.
    """
    collections = graph._collections
    graph._collections = {}
    try:
        yield
    finally:
        graph._collections = collections


class _LeanData(convert_to_constants._FunctionConverterDataInEager):  # type: ignore[misc]  # TensorFlow is not typed
    """TensorFlow's values for freezing, less those of the weights that stay inputs."""

    kept: dict[str, Weight]

    def _build_tensor_data(self) -> None:
        self.kept = {}
        consumers = _consumers(self.graph_def)
        for name, weight in _captured_weights(self._func):
            if all(_indifferent(use, consumers) for use in consumers[name]):
                self.kept[name] = weight
        super()._build_tensor_data()

    def _should_convert(self, name: str) -> bool:
        return name not in self.kept


def _captured_weights(function: Any) -> Iterable[tuple[str, Weight]]:
    """Yield each large tensor or variable that a function captured, by its placeholder's name."""
    variables = {id(v.handle): v for v in function.graph.variables}
    for outer, inner in function.graph.captures:
        value = variables.get(id(outer), outer)
        if value.dtype not in _DTYPES or not value.shape.is_fully_defined():
            continue
        dtype = np.dtype(value.dtype.as_numpy_dtype)
        shape = tuple(value.shape.as_list())
        if dtype.itemsize * int(np.prod(shape, dtype=np.int64)) >= LARGE_BYTES:
            name = inner.op.name
            shown = getattr(value, "path", None) or (
                value.name.partition(":")[0] if value is not outer else name
            )
            yield name, Weight(inner.name, shown, value.numpy, dtype, shape)


def _consumers(graph_def: Any) -> dict[str, list[Use]]:
    found: dict[str, list[Use]] = defaultdict(list)
    for node in graph_def.node:
        for index, name in enumerate(node.input):
            found[name.lstrip("^").partition(":")[0]].append((node, index))
    return found


def _indifferent(use: Use, consumers: Mapping[str, list[Use]]) -> bool:
    node, index = use
    if node.input[index].startswith("^"):  # only the order of execution
        return True
    if node.op == "ResourceGather" and node.attr["batch_dims"].i:
        return False
    if index in _INDIFFERENT.get(node.op, ()):
        return True
    if index not in _TRANSPARENT.get(node.op, ()):
        return False
    uses = consumers[node.name]
    # Without a use it is an output: what a runtime does with a weight as output is no matter here.
    return bool(uses) and all(_indifferent(further, consumers) for further in uses)


def _make_plain(graph_def: Any, weight: Weight, consumers: Mapping[str, list[Use]]) -> None:
    """Turn the placeholder of a variable's handle into one of its value."""
    name = weight.tensor.partition(":")[0]
    dtype = tf.as_dtype(weight.dtype).as_datatype_enum
    place = next(node for node in graph_def.node if node.name == name)
    if place.attr["dtype"].type != tf.resource.as_datatype_enum:
        return
    place.attr.clear()
    place.attr["dtype"].type = dtype
    place.attr["shape"].shape.CopyFrom(tf.TensorShape(weight.shape).as_proto())
    handles, axis = [name], f"{name}/axis"
    for handle in handles:
        for node, _ in consumers[handle]:
            if node.op == "ReadVariableOp":
                node.op = "Identity"
            elif node.op == "ResourceGather":
                _make_gather(node, axis, dtype)
                continue
            else:
                handles.append(node.name)  # an Identity of the handle
            node.attr.clear()
            node.attr["T"].type = dtype
    if any(axis in node.input for handle in handles for node, _ in consumers[handle]):
        zero = graph_def.node.add(name=axis, op="Const")
        zero.attr["dtype"].type = tf.int32.as_datatype_enum
        zero.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0, tf.int32))


def _make_gather(node: Any, axis: str, dtype: int) -> None:
    indices = node.attr["Tindices"].type
    controls = [name for name in node.input if name.startswith("^")]
    plain = [name for name in node.input if not name.startswith("^")]
    del node.input[:]
    node.input.extend([*plain, axis, *controls])
    node.op = "GatherV2"
    node.attr.clear()
    node.attr["Tparams"].type = dtype
    node.attr["Tindices"].type = indices
    node.attr["Taxis"].type = tf.int32.as_datatype_enum
    node.attr["batch_dims"].i = 0


def _refuse(graph_def: Any) -> None:
    functions = [node for f in graph_def.library.function for node in f.node_def]
    for node in (*graph_def.node, *functions):
        if node.op in _RUNS_PYTHON:
            raise SmithError(
                f"the operator {node.name!r} ({node.op}) runs Python code, which ONNX cannot",
                "write that part with TensorFlow's own operators",
            )
    for node in graph_def.node:
        if node.op in _CHANGES_STATE:
            raise SmithError(
                f"the model changes a variable while it runs ({node.op} at {node.name!r})",
                "pass the state in and out as tensors",
            )


def _tables(function: Any, graph_def: Any) -> dict[bytes, tuple[Any, Any]]:
    """Make the lookup tables that a function captured nodes of their own, and read all tables."""
    captured = {inner.op.name: outer for outer, inner in function.graph.captures}
    nodes = {node.name: node for node in graph_def.node}
    library = [node for f in graph_def.library.function for node in f.node_def]
    found: dict[bytes, tuple[Any, Any]] = {}
    for node in (*graph_def.node, *library):
        if node.op != "LookupTableFindV2":
            continue
        place = nodes.get(_node(node.input[0]))
        while place is not None and place.op == "Identity":
            place = nodes.get(_node(place.input[0]))
        if place is None or not (place.name in captured or place.op == "HashTableV2"):
            continue
        keys, values = node.attr["Tin"].type, node.attr["Tout"].type
        if place.op == "HashTableV2":  # TensorFlow 1: the table belongs to the process, by name
            name = place.attr["shared_name"].s
            handle = tf.raw_ops.HashTableV2(key_dtype=keys, value_dtype=values, shared_name=name)
        else:
            name, handle = place.name.encode(), captured[place.name]
            place.op = "HashTableV2"
            place.attr.clear()
            place.attr["shared_name"].s = name
            place.attr["key_dtype"].type, place.attr["value_dtype"].type = keys, values
        if name not in found:
            arrays = tf.raw_ops.LookupTableExportV2(table_handle=handle, Tkeys=keys, Tvalues=values)
            found[name] = (arrays[0].numpy(), arrays[1].numpy())
    return found


def _node(reference: str) -> str:
    return reference.lstrip("^").partition(":")[0]
