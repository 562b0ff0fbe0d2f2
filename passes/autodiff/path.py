"""Find what lies between the values to differentiate by and the value to differentiate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from onnxsmith.passes.autodiff.table import CONSTANT, REFUSED
from onnxsmith.passes.autodiff.writer import STOP

FLOATS = frozenset({
    ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16,
})  # fmt: skip

ROUNDED = frozenset({
    ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT8, ir.DataType.UINT8,
    ir.DataType.INT16, ir.DataType.UINT16,
})  # fmt: skip
"""What QuantizeLinear makes."""

MOVING = frozenset({
    "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip
"""Operators that leave rounded values as they are."""


def inputs_of(node: ir.Node) -> Iterator[ir.Value]:
    """Yield what a node reads, what its bodies read from outside included."""
    yield from (value for value in node.inputs if value is not None)
    yield from captured(node)


def captured(node: ir.Node) -> list[ir.Value]:
    """Return what the bodies of a node read from the graphs around it, each but once."""
    seen: dict[ir.Value, None] = {}
    for graph in bodies_of(node):
        inside = set(graph.inputs) | set(graph.initializers.values())
        reads: list[ir.Value] = []
        for inner in graph:
            reads += inputs_of(inner)
            inside.update(inner.outputs)
        for value in (*reads, *graph.outputs):
            if value not in inside:
                seen[value] = None
    return list(seen)


def bodies_of(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs among a node's attributes."""
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs += attribute.as_graphs()
    return graphs


def may_flow(value: ir.Value) -> bool:
    """Tell whether a value can have a gradient: a tensor of floats, or of unknown type."""
    return value.dtype is None or value.dtype in FLOATS


def dependents(nodes: Iterable[ir.Node], wrt: Iterable[ir.Value]) -> set[ir.Value]:
    """Return the values that depend on some others, themselves included.

    Args:
        nodes: In the order they run.
        wrt: Where to start.
    """
    reached = set(wrt)
    for node in nodes:
        if node.op_type in CONSTANT or STOP in node.metadata_props:
            continue
        if any(value in reached for value in inputs_of(node)):
            reached.update(v for v in node.outputs if may_flow(v) or _passes_on(node, v))
    return reached


def _passes_on(node: ir.Node, value: ir.Value) -> bool:
    """Tell whether what is no tensor of floats depends on parameters all the same.

    Gradients pass integers that were made by rounding; what is refused must not pass unnoticed.
    """
    if node.op_type == "QuantizeLinear" or node.op_type in REFUSED:
        return True
    return value.dtype in ROUNDED and node.op_type in MOVING


def path_between(
    nodes: Iterable[ir.Node], reached: set[ir.Value], of: Iterable[ir.Value]
) -> list[ir.Node]:
    """Return the nodes that lead from values reached to the results, last first."""
    wanted, path = set(of), []
    for node in reversed(list(nodes)):
        if any(value in wanted and value in reached for value in node.outputs):
            path.append(node)
            wanted.update(inputs_of(node))
    return path
