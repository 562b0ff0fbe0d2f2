"""What several families of operators share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call
from onnxsmith.pipeline.frontends.mxnet.graph import dims_of


def keep_loose(call: Call, result: ir.Value) -> ir.Value:
    """Mark the result as loose where all inputs are; see ``Graph.loose``."""
    given = [value for value in call.inputs if value is not None]
    if given and all(value in call.graph.loose for value in given):
        call.graph.loose.add(result)
    return result


def positions(call: Call, value: ir.Value, axis: int) -> ir.Value:
    """Return 0, 1, 2, ... along the axis of a value, as an int64 vector."""
    graph = call.graph
    size = dims_of(value)[axis]
    if isinstance(size, int) and size <= 2**16:
        return graph.integers(range(size), "positions")
    end = graph.squeeze(graph.sizes(value, axis, axis + 1), [0])
    zero = graph.constant(np.array(0, np.int64), "first")
    return graph.add("Range", [zero, end, graph.constant(np.array(1, np.int64), "step")])


def mask_by_length(call: Call, value: ir.Value, length: ir.Value, axis: int) -> ir.Value:
    """Return where a position along ``axis`` is below the length of its row.

    Args:
        call: The node.
        value: Any shape.
        length: One for each combination of the axes before and behind ``axis`` that it has;
            its axes are those of ``value`` without ``axis``, from the front.
        axis: The axis that the lengths are about.
    """
    graph = call.graph
    rank, lengths = len(dims_of(value)), len(dims_of(length))
    # Its axes stand before or behind the masked one; missing ones at the end are broadcast.
    new = [axis] if lengths >= axis else []
    shown = lengths + len(new)
    new += list(range(shown, rank))
    long = graph.cast(length, ir.DataType.INT64)
    column = graph.unsqueeze(long, new) if new else long
    at = positions(call, value, axis)
    if axis < rank - 1:
        at = graph.unsqueeze(at, list(range(1, rank - axis)))
    return graph.add("Less", [at, column])
