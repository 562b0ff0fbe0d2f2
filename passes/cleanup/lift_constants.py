"""Turn Constant nodes into initializers, so that they can be shared and folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import is_op


@dataclass(frozen=True)
class LiftConstants(Pass):
    """Turn Constant nodes into initializers, so that they can be shared and folded.

    What is left alone: Constants that are graph outputs or sparse, and those of functions, which
    have no initializers.
    """

    name: ClassVar[str] = "lift-constants"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Lift in the graph and its subgraphs."""
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                count += is_op(node, "Constant") and _lift(graph, node)
        return PassResult(model, bool(count), {"lifted": count})


def _lift(graph: ir.Graph, node: ir.Node) -> bool:
    result = node.outputs[0]
    name, tensor = result.name, _tensor(node)
    if tensor is None or name is None or result.is_graph_output() or name in graph.initializers:
        return False
    tensor.name = name
    value = ir.Value(
        name=name,
        shape=ir.Shape(tensor.shape.numpy()),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
        metadata_props=dict(result.metadata_props),
    )
    result.replace_all_uses_with(value)
    graph.remove(node, safe=True)
    graph.register_initializer(value)
    return True


def _tensor(node: ir.Node) -> ir.TensorProtocol | None:
    if len(node.attributes) != 1:
        return None
    ((name, attribute),) = node.attributes.items()
    if attribute.is_ref():
        return None
    if name == "value":
        return attribute.as_tensor()
    if name in ("value_int", "value_ints"):
        return ir.Tensor(np.array(attribute.value, np.int64))
    if name in ("value_float", "value_floats"):
        return ir.Tensor(np.array(attribute.value, np.float32))
    if name in ("value_string", "value_strings"):
        texts = np.array(attribute.value, dtype=object)
        encoded = np.array([text.encode() for text in texts.reshape(-1)], dtype=object)
        return ir.StringTensor(encoded.reshape(texts.shape), shape=ir.Shape(texts.shape))
    return None
