"""Values chosen by indices, lengths or conditions.

Source: MXNet ``src/operator/tensor/indexing_op.h``, ``broadcast_reduce_op_index.cc``,
``control_flow_op.h``, ``sequence_mask.cc``, ``sequence_last-inl.h``, ``sequence_reverse-inl.h``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import dims_of
from onnxsmith.pipeline.frontends.mxnet.operators.common import mask_by_length

_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)


def embedding(call: Call) -> ir.Value:
    """A row of the weight for each index; MXNet's indices are floats unless given otherwise."""
    return call.graph.add("Gather", [call[1], _indices(call, call[0])])


def take(call: Call) -> ir.Value:
    """Parts along an axis; indices outside are clipped or wrapped."""
    axis = call.axis("axis", 0)
    at = _bounded(call, _indices(call, call[1]), axis)
    return call.graph.add("Gather", [call[0], at], {"axis": axis} if axis else {})


def pick(call: Call) -> ir.Value:
    """One value of each row along an axis."""
    graph, x, index = call.graph, call[0], call[1]
    if "axis" in call.attrs.values and not call.attrs.has("axis"):
        return graph.add("Gather", [graph.reshape(x, [-1]), _indices(call, index)])
    rank = call.rank()
    axis = call.axis("axis", -1)
    at = _bounded(call, _indices(call, index), axis)
    if len(dims_of(at)) < rank:
        at = graph.unsqueeze(at, [axis])
    picked = graph.add("GatherElements", [x, at], {"axis": axis})
    if call.attrs.flag("keepdims", False):
        return picked
    return graph.squeeze(picked, [axis])


def batch_take(call: Call) -> ir.Value:
    """One value of each row of a matrix."""
    graph = call.graph
    at = graph.unsqueeze(_indices(call, call[1]), [1])
    return graph.squeeze(graph.add("GatherElements", [call[0], at], {"axis": 1}), [1])


def gather_nd(call: Call) -> ir.Value:
    """Values at coordinates, which MXNet keeps in the first axis and ONNX in the last."""
    rank = call.rank(1)
    at = call.graph.transpose(_indices(call, call[1], wide=True), [*range(1, rank), 0])
    return call.graph.add("GatherND", [call[0], at])


def scatter_nd(call: Call) -> ir.Value:
    """Zeros with values at coordinates."""
    graph, shape = call.graph, call.attrs.integers("shape")
    if not shape or any(not 0 < dim < 2**31 for dim in shape):
        raise call.error(f"shape={list(shape)} is out of bounds")
    rank = call.rank(1)
    at = graph.transpose(_indices(call, call[1], wide=True), [*range(1, rank), 0])
    dtype = (call[0].dtype or ir.DataType.FLOAT).numpy()
    fill = ir.tensor(np.zeros(1, dtype))
    zeros = graph.add("ConstantOfShape", [graph.integers(shape, "shape")], {"value": fill})
    return graph.add("ScatterND", [zeros, at, call[0]])


def one_hot(call: Call) -> ir.Value:
    """``on_value`` at the index along a new last axis, ``off_value`` elsewhere."""
    graph = call.graph
    depth = call.attrs.bounded("depth", 0, 1, 2**31)
    dtype = call.attrs.dtype("dtype", ir.DataType.FLOAT)
    pair = [call.attrs.number("off_value", 0.0), call.attrs.number("on_value", 1.0)]
    values = graph.constant(np.array(pair, np.float32), "values")  # runtimes know few types
    size = graph.constant(np.array(depth, np.int64), "depth")
    index = _indices(call, call[0], wide=True)
    return graph.cast(graph.add("OneHot", [index, size, values]), dtype)


def where(call: Call) -> ir.Value:
    """X where the condition is not 0, else y; a vector chooses whole rows."""
    graph = call.graph
    condition = graph.cast(call[0], ir.DataType.BOOL)
    if call.rank() == 1 and call.rank(1) > 1:
        condition = graph.unsqueeze(condition, list(range(1, call.rank(1))))
    return graph.add("Where", [condition, call[1], call[2]])


def boolean_mask(call: Call) -> ir.Value:
    """The rows whose mark is not 0."""
    axis = call.axis("axis", 0)
    marks = call.graph.cast(call[1], ir.DataType.BOOL)
    return call.graph.add("Compress", [call[0], marks], {"axis": axis})


def sequence_mask(call: Call) -> ir.Value:
    """``value`` behind the end of each sequence."""
    if not call.attrs.flag("use_sequence_length", False):
        return call[0]
    axis = _time_axis(call)
    inside = mask_by_length(call, call[0], call[1], axis)
    value = call.graph.scalar(call.attrs.number("value", 0.0), call[0], "value")
    return call.graph.add("Where", [inside, call[0], value])


def sequence_last(call: Call) -> ir.Value:
    """The last step of each sequence."""
    graph, axis = call.graph, _time_axis(call)
    if not call.attrs.flag("use_sequence_length", False):
        last = graph.constant(np.array(-1, np.int64), "last")
        return graph.add("Gather", [call[0], last], {"axis": axis})
    order = list(range(call.rank()))
    order[0], order[axis] = order[axis], order[0]
    rows = call[0] if axis == 1 else graph.transpose(call[0], [1, 0, *range(2, call.rank())])
    length = graph.unsqueeze(graph.cast(call[1], ir.DataType.INT64), [1])
    at = graph.add("Sub", [length, graph.integers([1], "one")])
    return graph.add("GatherND", [rows, at], {"batch_dims": 1})


def sequence_reverse(call: Call) -> ir.Value:
    """Each sequence from back to front; what is behind its end stays."""
    graph = call.graph
    if call.attrs.integer("axis", 0) != 0:
        raise call.refuse("another axis than 0")
    if not call.attrs.flag("use_sequence_length", False):
        return graph.slice(call[0], [0], [-1], [-(2**63) + 1], [-1])
    lengths = graph.cast(call[1], ir.DataType.INT64)
    attributes = {"time_axis": 0, "batch_axis": 1}
    return graph.add("ReverseSequence", [call[0], lengths], attributes)


def _time_axis(call: Call) -> int:
    if call.rank() < 2:
        raise call.error("its input has no time and batch")
    return call.attrs.bounded("axis", 0, 0, 1)


def _indices(call: Call, value: ir.Value, *, wide: bool = False) -> ir.Value:
    """Return indices as integers; MXNet takes them as floats as well."""
    if value.dtype == ir.DataType.INT64 or (value.dtype in _INTEGERS and not wide):
        return value
    return call.graph.cast(value, ir.DataType.INT64)


def _bounded(call: Call, index: ir.Value, axis: int) -> ir.Value:
    """Clip or wrap indices of an axis of input 0, as ``mode`` says."""
    graph = call.graph
    mode = call.attrs.text("mode", "clip", ("clip", "wrap", "raise"))
    if mode == "raise":
        return index
    if index.const_value is not None and mode == "clip":
        count = call.dims()[axis]
        numbers = index.const_value.numpy()
        if isinstance(count, int) and numbers.size and 0 <= numbers.min() <= numbers.max() < count:
            return index
    size = graph.cast(graph.shape([(call[0], axis)]), index.dtype or ir.DataType.INT64)
    size = _as_scalar(call, size)
    if mode == "wrap":
        return graph.add("Mod", [index, size])
    one = graph.scalar(1, index, "one")
    if size.const_value is not None:
        top = graph.scalar(int(size.const_value.numpy()) - 1, index, "top")
    else:
        top = graph.add("Sub", [size, one])
    return graph.add("Clip", [index, graph.scalar(0, index, "zero"), top])


def _as_scalar(call: Call, size: ir.Value) -> ir.Value:
    """Return a vector of one as a scalar."""
    if size.const_value is not None:
        return call.graph.scalar(int(size.const_value.numpy()[0]), size, "size")
    return call.graph.squeeze(size, [0])


_EMBEDDING = Operator(embedding, ("data", "weight"), frozenset({1}), outputs=("output",))
_PICK = Operator(pick)

OPERATORS: Family = {
    "Embedding": _EMBEDDING,
    "_contrib_SparseEmbedding": _EMBEDDING,
    "_npx_embedding": _EMBEDDING,
    "take": Operator(take),
    "pick": _PICK,
    "_npx_pick": _PICK,
    "choose_element_0index": _PICK,
    "batch_take": Operator(batch_take),
    "gather_nd": Operator(gather_nd),
    "_npx_gather_nd": Operator(gather_nd),
    "scatter_nd": Operator(scatter_nd),
    "one_hot": Operator(one_hot),
    "_npx_one_hot": Operator(one_hot),
    "where": Operator(where),
    "_contrib_boolean_mask": Operator(boolean_mask),
    "SequenceMask": Operator(sequence_mask, outputs=("output",)),
    "_npx_sequence_mask": Operator(sequence_mask),
    "SequenceLast": Operator(sequence_last, outputs=("output",)),
    "SequenceReverse": Operator(sequence_reverse, outputs=("output",)),
}
