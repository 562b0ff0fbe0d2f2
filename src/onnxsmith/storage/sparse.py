"""Sparse tensors, which onnx_ir does not hold.

Sparse initializers and the sparse values of Constants become dense ones: the runtime makes them
dense as well. A Constant whose result is declared sparse stays as it is, out of sight of onnx_ir.

Source: ONNX IR specification, SparseTensorProto; Constant's attribute ``sparse_value``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from onnxsmith.errors import SmithError

# A sparse tensor of a few bytes may claim any shape.
_MAX_BYTES = 1 << 30
_KEY = _DOMAIN = "onnxsmith.sparse"
_STANDARD = ("", "ai.onnx")


def densify(proto: onnx.ModelProto) -> bool:
    """Replace sparse initializers and Constants by dense ones, in place.

    Returns:
        Whether a Constant stays sparse; it is hidden from onnx_ir until :func:`restore_sparse`.

    Raises:
        SmithError: Indices and shape contradict each other, or the dense form is larger than 1 GiB.
    """
    hidden = _densify_graph(proto.graph)
    for function in proto.functions:
        hidden |= _densify_nodes(function.node, frozenset())
    return hidden


def has_sparse(proto: onnx.ModelProto) -> bool:
    """Tell whether :func:`densify` would change the model."""
    return bool(proto.graph.sparse_initializer) or any(
        _is_sparse(node) or any(graph.sparse_initializer for graph in _graphs(node))
        for node in _all_nodes(proto)
    )


def remember_sparse(model: ir.Model) -> None:
    """Note in the graph that it has hidden Constants; clones remember it, too."""
    model.graph.meta[_KEY] = True


def restore_sparse(proto: onnx.ModelProto, model: ir.Model) -> None:
    """Turn the hidden Constants of ``model`` back, in its serialized form."""
    if not model.graph.meta.get(_KEY):
        return
    for node in _all_nodes(proto):
        if node.domain == _DOMAIN:
            data = numpy_helper.to_array(node.attribute[0].t).tobytes()
            node.domain = ""
            node.attribute[0].ParseFromString(data)


def _densify_graph(graph: onnx.GraphProto) -> bool:
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(sparse, sparse.values.name))
    graph.ClearField("sparse_initializer")
    declared = {
        info.name
        for info in (*graph.output, *graph.value_info)
        if info.type.HasField("sparse_tensor_type")
    }
    return _densify_nodes(graph.node, frozenset(declared))


def _densify_nodes(nodes: Iterable[onnx.NodeProto], declared: frozenset[str]) -> bool:
    hidden = False
    for node in nodes:
        for graph in _graphs(node):
            hidden |= _densify_graph(graph)
        if not _is_sparse(node):
            continue
        (attribute,) = node.attribute
        if node.output[0] in declared:
            data = np.frombuffer(attribute.SerializeToString(deterministic=True), np.uint8)
            dense = numpy_helper.from_array(data)
            node.domain = _DOMAIN
            hidden = True
        else:
            dense = _dense(attribute.sparse_tensor, node.output[0])
        attribute.CopyFrom(onnx.helper.make_attribute("value", dense))
    return hidden


def _is_sparse(node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "Constant"
        and node.domain in _STANDARD
        and len(node.attribute) == 1
        and node.attribute[0].type == onnx.AttributeProto.SPARSE_TENSOR
    )


def _all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    pending = [*proto.graph.node, *(n for f in proto.functions for n in f.node)]
    while pending:
        node = pending.pop()
        yield node
        pending += (inner for graph in _graphs(node) for inner in graph.node)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _dense(sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto:
    shape = tuple(sparse.dims)
    try:
        values = numpy_helper.to_array(sparse.values)
        indices = numpy_helper.to_array(sparse.indices)
    except (ValueError, TypeError, KeyError) as error:
        raise _wrong(name, str(error)) from error
    size = math.prod(shape)
    if any(d < 0 for d in shape) or size * values.itemsize > _MAX_BYTES:
        raise _wrong(name, f"its shape is {list(shape)}")
    if values.ndim != 1 or indices.dtype != np.int64 or indices.shape[:1] != values.shape:
        raise _wrong(name, "values and indices do not belong together")
    if indices.ndim == 2 and indices.shape[1] == len(shape):
        if (indices < 0).any() or (indices >= np.array(shape)).any():
            raise _wrong(name, "an index lies outside the shape")
        indices = np.asarray(np.ravel_multi_index(tuple(indices.T), shape))
    if indices.ndim != 1 or (indices < 0).any() or (indices >= size).any():
        raise _wrong(name, "an index lies outside the shape")
    dense = np.zeros(size, values.dtype)
    dense[indices] = values
    return numpy_helper.from_array(dense.reshape(shape), name)


def _wrong(name: str, reason: str) -> SmithError:
    return SmithError(f"the sparse tensor {name!r} is not valid: {reason}", "export it dense")
