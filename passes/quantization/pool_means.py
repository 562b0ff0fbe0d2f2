"""Write means over an image as pools, for which there is an integer kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import input_of, int_attribute, ints_attribute, ints_of, is_op, replace


@dataclass(frozen=True)
class PoolMeans(Pass):
    """Write means over an image as pools, for which there is an integer kernel.

    ``ReduceMean(x[N, C, H, W], axes = [2, 3]) = GlobalAveragePool(x)``, and ``Flatten`` of it
    where the reduced dimensions are not kept. Means over other axes, or of values whose rank is
    unknown, are left alone.
    """

    name: ClassVar[str] = "pool-means"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Replace the means of the main graph."""
        count = sum(_replace(node) for node in list(model.graph))
        return PassResult(model, bool(count), {"replaced": count})


def _replace(node: ir.Node) -> bool:
    if not is_op(node, "ReduceMean") or not _is_spatial(node):
        return False
    graph, x = node.graph, node.inputs[0]
    assert graph is not None  # is_op() looked
    pool = ir.node("GlobalAveragePool", [x], name=node.name)
    if int_attribute(node, "keepdims", 1):
        replace(node, pool)
        return True
    result = pool.outputs[0]
    result.name, result.type = f"{node.outputs[0].name}_pooled", node.outputs[0].type
    graph.insert_before(node, pool)
    replace(node, ir.node("Flatten", [result], {"axis": 1}))
    return True


def _is_spatial(node: ir.Node) -> bool:
    """Tell whether a mean is over all axes but the first two, and those axes are known."""
    x, axes = node.inputs[0], ints_attribute(node, "axes")
    if axes is None:
        axes = ints_of(input_of(node, 1))
    if x is None or x.shape is None or axes is None or len(x.shape) < 3:
        return False
    rank = len(x.shape)
    return sorted(axis % rank for axis in axes) == list(range(2, rank))
