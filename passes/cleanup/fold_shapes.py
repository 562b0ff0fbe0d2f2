"""Evaluate shape arithmetic, also where only part of a shape is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.shape_rules import RULES
from onnxsmith.passes.cleanup.shape_values import ShapeValues
from onnxsmith.passes.match import (
    Array,
    add_constant,
    bypass,
    can_bypass,
    is_op,
    remove_if_dead,
    tensor_of,
)

_BOUNDS = {ir.DataType.INT64: 1 << 63, ir.DataType.INT32: 1 << 31, ir.DataType.BOOL: 2}
_NUMPY = {ir.DataType.INT64: np.int64, ir.DataType.INT32: np.int32, ir.DataType.BOOL: np.bool_}


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Evaluate shape arithmetic, also where only part of a shape is known.

    ``Gather<axis=0>(Shape(x), [i])`` is constant where dimension ``i`` of ``x`` is, whatever the
    others are. ``Abs(d) = d`` where ``d`` holds dimensions, which are not negative.

    What is left alone: values of more than 1024 elements or of a rank above 1, and graph outputs.
    """

    name: ClassVar[str] = "fold-shapes"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fold in the graph and its subgraphs; shapes should be inferred."""
        values, count = ShapeValues(), 0
        for graph in model.graphs():
            for node in list(graph):
                count += _fold(graph, node, values)
        return PassResult(model, bool(count), {"folded": count})


def _fold(graph: ir.Graph, node: ir.Node, values: ShapeValues) -> bool:
    if not is_op(node, "Shape", "Size", *RULES) or not node.outputs:
        return False
    result = node.outputs[0]
    if result.is_graph_output() or tensor_of(result) is not None or not result.uses():
        return False
    elements = values.elements(result)
    if elements is None:
        return False
    numbers = [element for element in elements if isinstance(element, int)]
    if len(numbers) < len(elements):
        source = node.inputs[0] if is_op(node, "Abs") else None
        return (
            source is not None
            and can_bypass(node, source)
            and None not in elements
            and bypass(node, source)
        )
    dtype = _dtype(node, result)
    rank = (
        1 if is_op(node, "Shape", "Concat") else None if result.shape is None else len(result.shape)
    )
    if dtype is None or rank is None or (rank == 0 and len(numbers) != 1):
        return False
    if any(not -_BOUNDS[dtype] <= number < _BOUNDS[dtype] for number in numbers):
        return False
    array: Array = np.array(numbers, _NUMPY[dtype]).reshape(() if rank == 0 else (-1,))
    result.replace_all_uses_with(add_constant(graph, array, f"{result.name}/value"))
    remove_if_dead(node)
    return True


def _dtype(node: ir.Node, result: ir.Value) -> ir.DataType | None:
    dtype = ir.DataType.INT64 if is_op(node, "Shape", "Size") else result.dtype
    return dtype if dtype in _BOUNDS else None
