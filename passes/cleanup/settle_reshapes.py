"""Make targets of reshapes constant where they only keep dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.shape_values import ShapeValues
from onnxsmith.passes.match import add_constant, is_op, tensor_of


@dataclass(frozen=True)
class SettleReshapes(Pass):
    """Make targets of reshapes constant where they only keep dimensions.

    ``Reshape(x, Concat(Shape(x)[:1], [-1])) = Reshape(x, [0, -1])``: a dimension that is kept in
    its place is written as 0, and one element that is not known as -1. Dimensions of one name are
    of one size, as ONNX defines.

    What is left alone: targets with two unknown elements that move, and targets that hold a 0.
    """

    name: ClassVar[str] = "settle-reshapes"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Settle the reshapes of the graph and its subgraphs; shapes should be inferred."""
        count, values = 0, ShapeValues()
        for graph in model.graphs():
            for node in list(graph):
                if is_op(node, "Reshape"):
                    count += settle_reshape(node, values)
        return PassResult(model, bool(count), {"settled": count})


def settle_reshape(node: ir.Node, values: ShapeValues) -> bool:
    """Make the target of a Reshape constant, in place; return whether that was possible.

    Args:
        node: The node.
        values: What is known of the shapes.
    """
    graph = node.graph
    if graph is None or len(node.inputs) < 2:  # before opset 5 the target is an attribute
        return False
    data, target = node.inputs[:2]
    if data is None or target is None or tensor_of(target) is not None:
        return False
    elements = values.elements(target)
    if elements is None or 0 in elements:  # 0 would be read as: keep
        return False
    given = values.dimensions(data) or []
    dims: list[int] = []
    for axis, element in enumerate(elements):
        if isinstance(element, int):
            dims.append(element)
        else:
            kept = element is not None and axis < len(given) and element == given[axis]
            dims.append(0 if kept else -1)
    if dims.count(-1) > 1:
        return False
    name = f"{node.outputs[0].name}_target"
    node.replace_input_with(1, add_constant(graph, np.array(dims, np.int64), name))
    node.attributes.pop("allowzero", None)
    return True
