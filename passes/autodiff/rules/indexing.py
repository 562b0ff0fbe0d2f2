"""Gradients of operators that pick elements by index.

ScatterND that adds is wrong on the runtime's CPU kernel when indices repeat and there are several
threads: what is picked twice is added up by ScatterElements, or by a product with a one-hot matrix.

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import INT64, rank_of
from onnxsmith.passes.match import array_of

_FEW_ROWS = 128


def gather(b: Backward) -> Gradients:
    """Each slice of the gradient is added to the slice that it was picked from."""
    w, x, indices = b.write, b.x(0), w_indices(b)
    axis, rank = b.axis(0), rank_of(x)
    picked = rank_of(b.x(1))
    known = array_of(b.x(1))
    if known is not None and np.unique(known).size == known.size == 1 and picked == 0:
        return [_only_slice(b, int(known), axis)]
    grad = b.grad
    if picked != 1:  # the dimensions of the indices become one
        shape = w.op("Shape", grad, dtype=INT64)
        sizes = [
            w.op("Slice", shape, w.ints([0]), w.ints([axis]), w.ints([0])),
            w.ints([-1]),
            w.op("Slice", shape, w.ints([axis + picked]), w.ints([2**31]), w.ints([0])),
        ]
        grad = w.op("Reshape", grad, w.op("Concat", *sizes, attributes={"axis": 0}))
        indices = w.op("Reshape", indices, w.ints([-1]))
    rows = x.shape[axis] if x.shape is not None else None
    if axis == 0 and isinstance(rows, int) and rows <= _FEW_ROWS and rank == 2:
        depth = w.constant(np.array(rows, np.int64))
        values = w.op("Concat", *_off_on(b, grad), attributes={"axis": 0})
        choice = w.op("OneHot", indices, depth, values, attributes={"axis": 0}, dtype=grad.dtype)
        return [w.op("MatMul", choice, grad)]
    lead = [1] * rank
    lead[axis] = -1
    index = w.op("Reshape", indices, w.ints(lead))
    index = w.op("Expand", index, w.op("Shape", grad, dtype=INT64))
    return [add_at(b, w.fill(w.shape_of(x), grad, 0), index, grad, axis)]


def add_at(b: Backward, field: ir.Value, index: ir.Value, values: ir.Value, axis: int) -> ir.Value:
    """Return ``field`` with the values added where the indices along an axis say."""
    attributes = {"axis": axis, "reduction": "add"}
    return b.write.op("ScatterElements", field, index, values, attributes=attributes)


def w_indices(b: Backward) -> ir.Value:
    """Return the indices as int64; those below zero count from the end."""
    w, x = b.write, b.x(0)
    indices = w.cast(b.x(1), INT64)
    known = array_of(b.x(1))
    if known is not None and (known >= 0).all():
        return indices
    size = w.size_of(x, b.axis(0))
    negative = w.op("Less", indices, w.ints([0]), dtype=ir.DataType.BOOL)
    if rank_of(b.x(1)) == 0:
        size = w.op("Squeeze", size, w.ints([0]))
        negative = w.op("Less", indices, w.integer(0), dtype=ir.DataType.BOOL)
    return w.op("Where", negative, w.op("Add", indices, size), indices, dtype=INT64)


def _off_on(b: Backward, grad: ir.Value) -> list[ir.Value]:
    w = b.write
    return [w.op("Reshape", w.number(n, grad), w.ints([1])) for n in (0, 1)]


def _only_slice(b: Backward, place: int, axis: int) -> ir.Value:
    """Pad the gradient of one slice with zeros."""
    w, x = b.write, b.x(0)
    grad = w.op("Unsqueeze", b.grad, w.ints([axis]))
    size = x.shape[axis] if x.shape is not None else None
    if isinstance(size, int):
        place %= size
        return w.pad(grad, rank_of(x), [axis], [place], [size - 1 - place])
    whole = w.size_of(x, axis)
    first = w.ints([place]) if place >= 0 else w.op("Add", whole, w.ints([place]))
    last = w.op("Sub", w.op("Sub", whole, first), w.ints([1]))
    return w.pad(grad, rank_of(x), [axis], first, last)


def gather_elements(b: Backward) -> Gradients:
    """Each element of the gradient is added to the element that it was picked from."""
    return [add_at(b, b.write.zeros_like(b.x(0)), b.x(1), b.grad, b.axis(0))]


def triangle(b: Backward) -> Gradients:
    """The same triangle of the gradient."""
    attributes = {"upper": b.int("upper", 1)}
    given = [b.grad] if b.optional(1) is None else [b.grad, b.x(1)]
    return [b.write.op("Trilu", *given, attributes=attributes)]


def reverse_sequence(b: Backward) -> Gradients:
    """The gradient reversed in the same way."""
    attributes = {"batch_axis": b.int("batch_axis", 1), "time_axis": b.int("time_axis", 0)}
    return [b.write.op("ReverseSequence", b.grad, b.x(1), attributes=attributes)]


def one_hot(b: Backward) -> Gradients:
    """The sums of the gradient where the value for off and where that for on stands."""
    w, values = b.write, b.x(2)
    assert b.grad.dtype is not None  # differentiated values have types
    on = w.constant(np.array([0, 1], b.grad.dtype.numpy()))
    attributes = {"axis": b.int("axis", -1)}
    choice = w.op("OneHot", b.x(0), b.x(1), on, attributes=attributes, dtype=b.grad.dtype)
    rest = w.op("Sub", w.number(1, b.grad), choice)
    sums = [
        w.op("Reshape", w.op("ReduceSum", w.op("Mul", b.grad, part)), w.ints([1]))
        for part in (rest, choice)
    ]
    return [None, None, w.cast(w.op("Concat", *sums, attributes={"axis": 0}), values.dtype)]
