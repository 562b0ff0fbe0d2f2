"""Infer element types and shapes of all values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.contrib_shapes import infer_contrib
from onnxsmith.storage.maps import map_types
from onnxsmith.storage.save import large_initializers, skeleton


@dataclass(frozen=True)
class InferShapes(Pass):
    """Infer element types and shapes of all values.

    The runtime's own operators (com.microsoft) that the fusions make are known too; any other
    node that cannot be inferred leaves what is behind it unknown. The signature stays as it is,
    unless it says nothing. Weights of any size are left where they lie. Models that return maps are
    left alone: onnx_ir cannot take their inferred types.

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
    inferred = onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=True)
    return _take(model.graph, inferred.graph)


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


def _take(graph: ir.Graph, inferred: onnx.GraphProto) -> bool:
    """Take over what was inferred for the values of a graph and its subgraphs."""
    infos = {info.name: info.type for info in (*inferred.value_info, *inferred.output)}
    changed = False
    for node, proto in zip(graph, inferred.node, strict=True):
        for value in node.outputs:
            if value.name in infos:
                changed |= _set(value, infos[value.name])
        for attribute in proto.attribute:
            if attribute.HasField("g"):
                changed |= _take(node.attributes[attribute.name].as_graph(), attribute.g)
            elif attribute.graphs:
                inner = node.attributes[attribute.name].as_graphs()
                for body, found in zip(inner, attribute.graphs, strict=True):
                    changed |= _take(body, found)
    return changed


def _set(value: ir.Value, found: onnx.TypeProto) -> bool:
    if not found.HasField("tensor_type"):
        return False
    kind = found.tensor_type
    changed = False
    if value.type is None and kind.elem_type:
        value.type = ir.TensorType(ir.DataType(kind.elem_type))
        changed = True
    if not kind.HasField("shape") or (value.is_graph_output() and value.shape is not None):
        return changed
    shape = ir.Shape(
        [
            dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
            for dim in kind.shape.dim
        ]
    )
    if value.shape != shape:
        value.shape = shape
        changed = True
    return changed
