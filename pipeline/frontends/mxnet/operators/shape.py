"""The same values in another shape or order.

Source: MXNet ``src/operator/tensor/matrix_op-inl.h``, ``matrix_op.cc``, ``crop-inl.h``,
``swapaxis-inl.h``.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import Part, dims_of
from onnxsmith.pipeline.frontends.mxnet.operators.common import keep_loose
from onnxsmith.pipeline.frontends.mxnet.reshape import reshape_to_codes

_END = 2**63 - 1
_START = -(2**63) + 1
_MAX_REPEATS = 2**31


def reshape(call: Call) -> ir.Value:
    """The shape that ``shape`` describes; see ``reshape.py`` for its codes."""
    codes = call.attrs.integers("shape")
    if codes:
        return reshape_to_codes(call, codes, reverse=call.attrs.flag("reverse", False))
    target = call.attrs.integers("target_shape")
    if not target:
        raise call.error("it does not say which shape")
    if call.attrs.flag("keep_highest", False):
        return call.graph.reshape(call[0], (0, *(dim or -1 for dim in target[1:])))
    return call.graph.reshape(call[0], [dim or -1 for dim in target])


def reshape_like(call: Call) -> ir.Value:
    """The shape of another array; with ranges, only those axes."""
    names = ("lhs_begin", "lhs_end", "rhs_begin", "rhs_end")
    ranks = (call.rank(0), call.rank(0), call.rank(1), call.rank(1))
    whole = (0, ranks[0], 0, ranks[2])
    ends: list[int] = []
    for name, rank, default in zip(names, ranks, whole, strict=True):
        value = call.attrs.optional_integer(name)
        at = default if value is None else value + rank if value < 0 else value
        if not 0 <= at <= rank:
            raise call.error(f"{name}={value} lies outside its input")
        ends.append(at)
    left: list[Part] = [(call[0], axis) for axis in range(ranks[0])]
    right: list[Part] = [(call[1], axis) for axis in range(ends[2], ends[3])]
    return call.graph.reshape_to(call[0], [*left[: ends[0]], *right, *left[ends[1] :]])


def flatten(call: Call) -> ir.Value:
    """(batch, everything else)."""
    if call.rank() == 2:
        return call[0]
    return keep_loose(call, call.graph.add("Flatten", [call[0]], {"axis": 1}))


def transpose(call: Call) -> ir.Value:
    """The axes in another order; reversed where none is given."""
    rank = call.rank()
    order = call.attrs.integers("axes") or tuple(reversed(range(rank)))
    order = tuple(call.normal(axis, rank) for axis in order)
    if sorted(order) != list(range(rank)):
        raise call.error(f"axes={list(order)} is no order of {rank} axes")
    return call.graph.transpose(call[0], order)


def swap_axes(call: Call) -> ir.Value:
    """Two axes exchanged."""
    rank = call.rank()
    order = list(range(rank))
    first, second = call.axis("dim1", 0), call.axis("dim2", 0)
    order[first], order[second] = second, first
    return call.graph.transpose(call[0], order)


def expand_dims(call: Call) -> ir.Value:
    """A new axis of size 1."""
    axis = call.axis("axis", 0, call.rank() + 1)
    return keep_loose(call, call.graph.unsqueeze(call[0], [axis]))


def squeeze(call: Call) -> ir.Value:
    """Without the given axes of size 1, or without all of them."""
    dims = call.dims()
    axes = [call.normal(axis, len(dims)) for axis in call.attrs.integers("axis")]
    if not axes:
        if any(not isinstance(dim, int) for dim in dims):
            raise call.sizes_needed("to know which axes have size 1")
        axes = [axis for axis, dim in enumerate(dims) if dim == 1]
    return call.graph.squeeze(call[0], axes) if axes else call[0]


def slice_(call: Call) -> ir.Value:
    """``x[begin:end:step]``, axis by axis; None is the whole."""
    begin, end = call.attrs.optional_integers("begin"), call.attrs.optional_integers("end")
    step = call.attrs.optional_integers("step") or (None,) * len(begin)
    if len(begin) != len(end) or len(step) != len(begin) or len(begin) > call.rank():
        raise call.error("begin, end and step do not fit together")
    axes, starts, ends, steps = [], [], [], []
    for axis, (first, last, by) in enumerate(zip(begin, end, step, strict=True)):
        by = 1 if by is None else by
        if by == 0:
            raise call.error("step is 0")
        if first is None and last is None and by == 1:
            continue
        axes.append(axis)
        starts.append((0 if by > 0 else _END) if first is None else first)
        ends.append((_END if by > 0 else _START) if last is None else last)
        steps.append(by)
    return call.graph.slice(call[0], axes, starts, ends, steps) if axes else call[0]


def slice_axis(call: Call) -> ir.Value:
    """``x[begin:end]`` along one axis."""
    axis = call.axis("axis", 0)
    begin, end = call.attrs.integer("begin", 0), call.attrs.optional_integer("end")
    return call.graph.slice(call[0], [axis], [begin], [_END if end is None else end])


def slice_like(call: Call) -> ir.Value:
    """The first elements of each axis (or of ``axes``), as many as another array has."""
    rank, graph = call.rank(), call.graph
    given = call.attrs.integers("axes")
    axes = [call.normal(axis, rank) for axis in given] or list(range(min(rank, call.rank(1))))
    if any(axis >= call.rank(1) for axis in axes):
        raise call.error("the other array has too few axes")
    ends = graph.shape([(call[1], axis) for axis in axes])
    zeros = graph.integers([0] * len(axes), "starts")
    return graph.add("Slice", [call[0], zeros, ends, graph.integers(axes, "axes")])


def crop(call: Call) -> ir.Value:
    """Height and width cut to ``h_w`` or to those of a second array, at ``offset``."""
    graph = call.graph
    like = len(call.inputs) > 1
    if call.rank() != 4:
        raise call.error("its input has no height and width")
    offset = call.attrs.integers("offset") or (0, 0)
    size = call.attrs.integers("h_w") or (0, 0)
    if len(offset) != 2 or len(size) != 2:
        raise call.error("offset and h_w are pairs")
    if call.attrs.flag("center_crop", False):
        wanted = [call.size(axis, 1) for axis in (2, 3)] if like else list(size)
        offset = tuple((call.size(a + 2) - wanted[a]) // 2 for a in range(2))
    if not like:
        ends = [offset[0] + size[0], offset[1] + size[1]]
        return graph.slice(call[0], [2, 3], offset, ends)
    end = graph.shape([(call[1], 2), (call[1], 3)])
    start = graph.integers(offset, "starts")
    if any(offset):
        end = graph.add("Add", [end, start])
    return graph.add("Slice", [call[0], start, end, graph.integers([2, 3], "axes")])


def tile(call: Call) -> ir.Value:
    """Copies side by side: numpy's tile."""
    reps, rank = call.attrs.integers("reps"), call.rank()
    if not all(0 <= n < _MAX_REPEATS for n in reps):
        raise call.error(f"reps={list(reps)} is out of bounds")
    x = call[0]
    if len(reps) > rank:
        x = call.graph.unsqueeze(x, list(range(len(reps) - rank)))
    counts = [1] * (rank - len(reps)) + list(reps)
    return call.graph.add("Tile", [x, call.graph.integers(counts, "repeats")])


def repeat(call: Call) -> ir.Value:
    """Each element several times in a row: numpy's repeat."""
    graph, times = call.graph, call.attrs.bounded("repeats", 1, 1, _MAX_REPEATS)
    axis = call.attrs.optional_integer("axis")
    x = call[0]
    if axis is None:
        x, axis = graph.reshape(x, [-1]), 0
    rank = len(dims_of(x))
    axis = call.normal(axis, rank)
    counts = [1] * (rank + 1)
    counts[axis + 1] = times
    copies = graph.add("Tile", [graph.unsqueeze(x, [axis + 1]), graph.integers(counts, "repeats")])
    shape = [0] * axis + [-1] + [0] * (rank - axis - 1)
    if axis == rank - 1:
        return graph.reshape(copies, shape)
    parts: list[Part] = [(x, a) for a in range(rank)]
    size = dims_of(x)[axis]
    parts[axis] = size * times if isinstance(size, int) else -1
    return graph.reshape_to(copies, parts)


def reverse(call: Call) -> ir.Value:
    """The axes from back to front."""
    axes = [call.normal(axis, call.rank()) for axis in call.attrs.integers("axis")]
    count = len(axes)
    return call.graph.slice(call[0], axes, [-1] * count, [_START] * count, [-1] * count)


def broadcast_to(call: Call) -> ir.Value:
    """Axes of size 1 repeated up to ``shape``; 0 keeps an axis."""
    shape = call.attrs.integers("shape")
    if len(shape) != call.rank() or any(not 0 <= dim < _MAX_REPEATS for dim in shape):
        raise call.error(f"shape={list(shape)} does not fit an input of {call.rank()} axes")
    # Expand takes 1 as "keep".
    sizes = call.graph.integers([dim or 1 for dim in shape], "shape")
    return call.graph.add("Expand", [call[0], sizes])


def broadcast_axis(call: Call) -> ir.Value:
    """Given axes of size 1 repeated."""
    axes, sizes = call.attrs.integers("axis"), call.attrs.integers("size")
    if len(axes) != len(sizes) or any(not 0 <= size < _MAX_REPEATS for size in sizes):
        raise call.error("axis and size do not fit together")
    shape = [1] * call.rank()
    for axis, size in zip(axes, sizes, strict=True):
        shape[call.normal(axis, call.rank())] = size
    return call.graph.add("Expand", [call[0], call.graph.integers(shape, "shape")])


def broadcast_like(call: Call) -> ir.Value:
    """Repeated up to the shape of another array, or up to some of its axes."""
    left, right = call.attrs.integers("lhs_axes"), call.attrs.integers("rhs_axes")
    if len(left) != len(right):
        raise call.error("lhs_axes and rhs_axes do not fit together")
    parts: list[Part] = [(call[1], axis) for axis in range(call.rank(1))]
    if left:
        parts = [1] * call.rank()
        for mine, other in zip(left, right, strict=True):
            axis = call.normal(other, call.rank(1))
            parts[call.normal(mine, call.rank())] = (call[1], axis)
    return call.graph.add("Expand", [call[0], call.graph.shape(parts)])


def shape_array(call: Call) -> ir.Value:
    """The shape, as int64."""
    return call.graph.add("Shape", [call[0]])


def size_array(call: Call) -> ir.Value:
    """The number of elements, as an int64 vector of one."""
    return call.graph.unsqueeze(call.graph.add("Size", [call[0]]), [0])


def depth_to_space(call: Call) -> ir.Value:
    """Blocks of channels become squares."""
    size = call.attrs.bounded("block_size", 1, 1, 2**16)
    return call.graph.add("DepthToSpace", [call[0]], {"blocksize": size, "mode": "DCR"})


def space_to_depth(call: Call) -> ir.Value:
    """Squares become blocks of channels."""
    size = call.attrs.bounded("block_size", 1, 1, 2**16)
    return call.graph.add("SpaceToDepth", [call[0]], {"blocksize": size})


def pad(call: Call) -> ir.Value:
    """More elements at the ends: a constant, the edge, or a reflection."""
    mode = call.attrs.text("mode", "constant", ("constant", "edge", "reflect"))
    widths, rank = call.attrs.integers("pad_width"), call.rank()
    if len(widths) != 2 * rank or not all(0 <= n < 2**31 for n in widths):
        raise call.error(f"pad_width={list(widths)} does not fit an input of {rank} axes")
    graph = call.graph
    inputs = [call[0], graph.integers([*widths[::2], *widths[1::2]], "pads")]
    value = call.attrs.number("constant_value", 0.0)
    if mode == "constant" and value != 0.0:
        inputs.append(graph.scalar(value, call[0], "value"))
    return graph.add("Pad", inputs, {"mode": mode} if mode != "constant" else {})


def diagonal(call: Call) -> ir.Value:
    """The diagonal of a matrix, or a matrix of a diagonal."""
    graph, rank = call.graph, call.rank()
    if rank > 2 or call.attrs.integer("k", 0) != 0:
        raise call.refuse("a diagonal beside the main one, or of more than two axes")
    if rank == 1:
        size = call.size(0)
        mask = np.eye(min(size, 1024), dtype=(call[0].dtype or ir.DataType.FLOAT).numpy())
        if size > len(mask):
            raise call.refuse(f"a diagonal of {size} elements")
        return graph.add("Mul", [graph.unsqueeze(call[0], [0]), graph.constant(mask, "mask")])
    count = min(call.size(0), call.size(1))
    if not 0 < count <= 2**16:
        raise call.refuse(f"a diagonal of {count} elements")
    pairs = np.repeat(np.arange(count, dtype=np.int64)[:, None], 2, axis=1)
    return graph.add("GatherND", [call[0], graph.constant(pairs, "indices")])


def elements(dims: list[int | str | None]) -> int | None:
    """Return the number of elements, or None where a size is open."""
    known = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(known) if len(known) == len(dims) else None


_RESHAPE = Operator(reshape, outputs=("output",))
_SQUEEZE = Operator(squeeze)
_PAD = Operator(pad)
_REVERSE = Operator(reverse)

OPERATORS: Family = {
    "Reshape": _RESHAPE,
    "reshape": _RESHAPE,
    "reshape_like": Operator(reshape_like),
    "_npx_reshape_like": Operator(reshape_like),
    "Flatten": Operator(flatten, outputs=("output",)),
    "flatten": Operator(flatten),
    "_npx_batch_flatten": Operator(flatten),
    "transpose": Operator(transpose),
    "SwapAxis": Operator(swap_axes, outputs=("output",)),
    "swapaxes": Operator(swap_axes),
    "expand_dims": Operator(expand_dims),
    "squeeze": _SQUEEZE,
    "slice": Operator(slice_),
    "crop": Operator(slice_),  # slice's name until 0.10
    "_npx_slice": Operator(slice_),
    "slice_axis": Operator(slice_axis),
    "slice_like": Operator(slice_like),
    "Crop": Operator(crop, outputs=("output",)),
    "tile": Operator(tile),
    "repeat": Operator(repeat),
    "reverse": _REVERSE,
    "flip": _REVERSE,
    "broadcast_to": Operator(broadcast_to),
    "broadcast_axis": Operator(broadcast_axis),
    "broadcast_axes": Operator(broadcast_axis),
    "broadcast_like": Operator(broadcast_like),
    "shape_array": Operator(shape_array),
    "_npx_shape_array": Operator(shape_array),
    "size_array": Operator(size_array),
    "depth_to_space": Operator(depth_to_space),
    "space_to_depth": Operator(space_to_depth),
    "Pad": _PAD,
    "pad": _PAD,
    "diag": Operator(diagonal),
}
