"""Several arrays become one, or one several.

Source: MXNet ``src/operator/nn/concat.cc``, ``slice_channel-inl.h``, ``tensor/matrix_op-inl.h``.
"""

from __future__ import annotations

from itertools import pairwise

import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.operators.common import keep_loose

_MAX_PARTS = 4096


def concat(call: Call) -> ir.Value:
    """Side by side along an axis that is there."""
    values = _all(call)
    if len(values) == 1:
        return values[0]
    axis = call.axis("dim", 1)
    return keep_loose(call, call.graph.add("Concat", values, {"axis": axis}))


def stack(call: Call) -> ir.Value:
    """Side by side along a new axis."""
    values = _all(call)
    axis = call.axis("axis", 0, call.rank() + 1)
    wide = [call.graph.unsqueeze(value, [axis]) for value in values]
    return wide[0] if len(wide) == 1 else call.graph.add("Concat", wide, {"axis": axis})


def slice_channel(call: Call) -> list[ir.Value]:
    """Equal parts; with ``squeeze_axis`` the axis goes."""
    graph = call.graph
    count = call.attrs.bounded("num_outputs", 1, 1, _MAX_PARTS)
    axis = call.axis("axis", 1)
    size = call.dims()[axis]
    if isinstance(size, int) and size % count:
        raise call.error(f"an axis of {size} does not divide into {count} parts")
    if count == 1:
        parts: tuple[ir.Value, ...] = (call[0],)
    elif isinstance(size, int):
        parts = graph.split(call[0], axis, [size // count] * count)
    elif graph.opset >= 18:
        parts = graph.add_many("Split", [call[0]], {"axis": axis, "num_outputs": count}, count)
    else:
        parts = graph.add_many("Split", [call[0]], {"axis": axis}, count)
    if call.attrs.flag("squeeze_axis", False):
        parts = tuple(graph.squeeze(part, [axis]) for part in parts)
    if call[0] in graph.loose:
        graph.loose.update(parts)
    return list(parts)


def split_v2(call: Call) -> list[ir.Value]:
    """Parts that start at the given indices, or equal ones."""
    graph = call.graph
    sections = call.attrs.bounded("sections", 0, 0, _MAX_PARTS)
    axis = call.axis("axis", 1)
    squeeze = call.attrs.flag("squeeze_axis", False)
    if sections:
        size = call.size(axis)
        if size % sections:
            raise call.error(f"an axis of {size} does not divide into {sections} parts")
        parts = graph.split(call[0], axis, [size // sections] * sections)
    else:
        starts = [*call.attrs.integers("indices"), call.size(axis)]
        sizes = [end - start for start, end in pairwise(starts)]
        if not sizes or starts[0] != 0 or any(size < 0 for size in sizes):
            raise call.error(f"indices={starts[:-1]} do not split an axis of {starts[-1]}")
        parts = graph.split(call[0], axis, sizes)
    return [graph.squeeze(part, [axis]) for part in parts] if squeeze else list(parts)


def _all(call: Call) -> list[ir.Value]:
    if not call.inputs:
        raise call.error("it has no inputs")
    return [call[number] for number in range(len(call.inputs))]


_CONCAT = Operator(concat, outputs=("output",))
_SPLIT = Operator(slice_channel, numbered=lambda attrs: True)

OPERATORS: Family = {
    "Concat": _CONCAT,
    "concat": _CONCAT,
    "_rnn_param_concat": _CONCAT,
    "stack": Operator(stack),
    "SliceChannel": _SPLIT,
    "split": _SPLIT,
    "_split_v2": Operator(split_v2),
}
