"""Scale a product of two values once, not each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult

_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class MergeScales(Pass):
    """Scale a product of two values once, not each of them.

    ``(s a) (t b) = (s t a) b`` for a MatMul of two values that are both scaled by one number.
    torch.onnx scales queries and keys so; the left operand keeps the factor.

    What is left alone: scaled values that anything else reads, and element types other than
    float32 and float64, in which the larger factor might leave the range.
    """

    name: ClassVar[str] = "merge-scales"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Merge in the graph and its subgraphs."""
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                if node.op_type == "MatMul" and node.domain in ("", "ai.onnx"):
                    count += _merge(graph, node)
        return PassResult(model, bool(count), {"merged": count})


def _merge(graph: ir.Graph, product: ir.Node) -> bool:
    left, right = (_scale_of(value) for value in product.inputs)
    if left is None or right is None or left[0] is right[0]:
        return False
    (kept, place, factor), (removed, other, second) = left, right
    constant = kept.inputs[place]
    value, bare = removed.outputs[0], removed.inputs[1 - other]
    if constant is None or constant.const_value is None or bare is None:
        return False
    number = np.asarray(factor * second, constant.const_value.dtype.numpy())
    if not np.isfinite(number) or number == 0:
        return False
    name, count = f"{constant.name}_merged", 1
    while name in graph.initializers:
        name = f"{constant.name}_merged_{count}"
        count += 1
    array = number.reshape(constant.const_value.shape.numpy())
    tensor, kind = ir.tensor(array, name=name), ir.TensorType(constant.const_value.dtype)
    merged = ir.Value(name=name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
    graph.register_initializer(merged)
    kept.replace_input_with(place, merged)
    value.replace_all_uses_with(bare)
    graph.remove(removed, safe=True)
    return True


def _scale_of(value: ir.Value | None) -> tuple[ir.Node, int, float] | None:
    """Return the Mul that makes a value, which of its inputs is the factor, and the factor."""
    node = None if value is None else value.producer()
    if value is None or node is None or node.op_type != "Mul" or node.domain not in ("", "ai.onnx"):
        return None
    if len(list(value.uses())) != 1 or value.is_graph_output():
        return None
    for place in (1, 0):
        constant = node.inputs[place]
        if constant is None or not constant.is_initializer() or constant.is_graph_input():
            continue
        tensor = constant.const_value
        if (
            tensor is None
            or tensor.size != 1
            or len(tensor.shape) > 1
            or tensor.dtype not in _TYPES
        ):
            continue
        return node, place, float(tensor.numpy().item())
    return None
