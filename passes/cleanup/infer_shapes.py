"""Infer element types and shapes of all values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.contrib_shapes import infer_contrib
from onnxsmith.passes.match import STANDARD
from onnxsmith.storage.maps import map_types
from onnxsmith.storage.save import large_initializers, skeleton


@dataclass(frozen=True)
class InferShapes(Pass):
    """Infer element types and shapes of all values.

    The runtime's own operators (com.microsoft) that the fusions make are known too; any other
    node that cannot be inferred leaves what is behind it unknown. The signature stays as it is,
    unless it says nothing. What a file declares and its operators contradict is not believed: the
    runtime does not, either. Weights of any size are left where they lie. Models that return maps
    are left alone: onnx_ir cannot take their inferred types.

    Source: ``onnx.shape_inference`` with data propagation. onnx_ir's pass builds a second model
    from its result, and gives up where a sequence has no known element.
    """

    name: ClassVar[str] = "infer-shapes"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Infer, unless the model returns maps."""
        if map_types(model):
            return PassResult(model, False, {"refused": "the model returns maps"})
        modified = False
        while True:
            try:
                modified |= _infer(model)
            except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
                words = " ".join(str(error).split())[:200]
                return PassResult(model, modified, {"refused": words})
            if not infer_contrib(model):
                return PassResult(model, modified)
            modified = True


def _infer(model: ir.Model) -> bool:
    proto = _without_weights(model)
    # Where there is an operator that ONNX lacks, its inference reports no contradiction.
    functions = frozenset((f.domain, f.name) for f in proto.functions)
    _set_aside(proto.graph, functions)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        # Declared shapes win over inferred ones unless the mode is strict, and then it gives up.
        _forget_declared(proto.graph)
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    return _take(model.graph, inferred.graph, functions)


_Functions = frozenset[tuple[str, str]]


def _set_aside(graph: onnx.GraphProto, functions: _Functions) -> None:
    """Leave out nodes that cannot be inferred; what is declared of their results still counts."""
    kept = [node for node in graph.node if _can_be_inferred(node, functions)]
    for node in kept:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _set_aside(inner, functions)
    if len(kept) < len(graph.node):
        copy = onnx.GraphProto(node=kept)
        graph.ClearField("node")
        graph.node.MergeFrom(copy.node)


def _can_be_inferred(node: onnx.NodeProto | ir.Node, functions: _Functions) -> bool:
    domain = "" if node.domain in STANDARD else node.domain
    return onnx.defs.has(node.op_type, domain) or (node.domain, node.op_type) in functions


def _forget_declared(graph: onnx.GraphProto) -> None:
    """Clear the shapes of what standard operators make: those can be inferred."""
    made = {out for node in graph.node if node.domain in STANDARD for out in node.output}
    for info in (*graph.value_info, *graph.output):
        if info.name in made and info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _forget_declared(inner)


def _without_weights(model: ir.Model) -> onnx.ModelProto:
    """Serialize the model; a large weight's place is taken by one of its type and shape."""
    placed = {
        value.name or "": ir.ExternalTensor(
            "unread",
            0,
            value.const_value.nbytes,
            value.const_value.dtype,
            shape=ir.Shape(value.const_value.shape.numpy()),
            name=value.name or "",
        )
        for value in large_initializers(model)
        if value.const_value is not None
    }
    return skeleton(model, placed)


def _take(graph: ir.Graph, inferred: onnx.GraphProto, functions: _Functions) -> bool:
    """Take over what was inferred for the values of a graph and its subgraphs."""
    infos = {info.name: info.type for info in (*inferred.value_info, *inferred.output)}
    changed = False
    nodes = [node for node in graph if _can_be_inferred(node, functions)]
    for node, proto in zip(nodes, inferred.node, strict=True):
        for value in node.outputs:
            if value.name in infos:
                changed |= _set(value, infos[value.name])
        for attribute in proto.attribute:
            if attribute.HasField("g"):
                changed |= _take(node.attributes[attribute.name].as_graph(), attribute.g, functions)
            elif attribute.graphs:
                inner = node.attributes[attribute.name].as_graphs()
                for body, found in zip(inner, attribute.graphs, strict=True):
                    changed |= _take(body, found, functions)
    return changed


def _set(value: ir.Value, found: onnx.TypeProto) -> bool:
    if not found.HasField("tensor_type"):
        return False
    kind = found.tensor_type
    changed = False
    if value.type is None and kind.elem_type:
        value.type = ir.TensorType(ir.DataType(kind.elem_type))
        changed = True
    if not kind.HasField("shape"):
        return changed
    shape = ir.Shape(
        [
            dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
            for dim in kind.shape.dim
        ]
    )
    if value.is_graph_output() and value.shape is not None and not _contradicts(shape, value.shape):
        return changed  # the signature stays
    if value.shape != shape:
        value.shape = shape
        changed = True
    return changed


def _contradicts(inferred: ir.Shape, declared: ir.Shape) -> bool:
    return len(declared) != len(inferred) or any(
        isinstance(old, int) and isinstance(new, int) and old != new
        for old, new in zip(declared, inferred, strict=True)
    )
