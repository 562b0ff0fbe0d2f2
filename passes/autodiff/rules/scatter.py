"""Gradients of operators that put elements at, or take them from, places of several dimensions.

ScatterND that adds is wrong on the runtime's CPU kernel when indices repeat and there are several
threads: sums are made by ScatterElements over rows, counted through all indexed dimensions.

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import BOOL, INT64, Writer, rank_of


@dataclass(frozen=True)
class Rows:
    """A tensor seen as rows, of which indices name some.

    Attributes:
        write: Writes the nodes.
        like: The tensor.
        index: The row that each element of the indices names, a vector.
        count: How many rows there are, a vector of one.
        width: How long they are, a vector of one.
    """

    write: Writer
    like: ir.Value
    index: ir.Value
    count: ir.Value
    width: ir.Value

    def combine(self, field: ir.Value, values: ir.Value, reduction: str) -> ir.Value:
        """Return ``field``, shaped like the tensor, with values combined into it."""
        w = self.write
        rows = w.op("Reshape", values, _vector(w, w.ints([-1]), self.width))
        index = w.op(
            "Expand", w.op("Unsqueeze", self.index, w.ints([1])), w.op("Shape", rows, dtype=INT64)
        )
        flat = w.op("Reshape", field, _vector(w, self.count, self.width))
        attributes = {"axis": 0, "reduction": reduction}
        whole = w.op("ScatterElements", flat, index, rows, attributes=attributes)
        return w.reshape_like(whole, self.like)


def rows_of(w: Writer, like: ir.Value, indices: ir.Value, batch: int = 0) -> Rows:
    """Return the rows that the last dimension of ``indices`` names.

    Args:
        w: Writes the nodes.
        like: What is indexed.
        indices: Positions in as many dimensions as the last of them is long; below zero from the
            end.
        batch: How many leading dimensions both have in common.

    Raises:
        NotDifferentiableError: It is not known how many dimensions are indexed.
    """
    depth = None if indices.shape is None else indices.shape[-1]
    if not isinstance(depth, int):
        raise NotDifferentiableError("it is not known how many dimensions its indices have")
    sizes = [w.size_of(like, axis) for axis in range(rank_of(like))]
    indexed = sizes[batch : batch + depth]
    strides = [w.ints([1])]
    for size in reversed(indexed[1:]):
        strides.insert(0, w.op("Mul", strides[0], size))
    places = w.cast(indices, INT64)
    negative = w.op("Less", places, w.ints([0]), dtype=BOOL)
    from_front = w.op("Add", places, _vector(w, *indexed))
    places = w.op("Where", negative, from_front, places, dtype=INT64)
    steps = w.op("Mul", places, _vector(w, *strides))
    index = w.op("Reshape", w.reduce("ReduceSum", steps, [-1]), w.ints([-1]))
    count = w.op("Mul", strides[0], indexed[0])
    if batch:
        many = _product(w, sizes[:batch])
        first = w.op("Range", w.integer(0), w.op("Squeeze", many), w.integer(1), dtype=INT64)
        first = w.op("Unsqueeze", w.op("Mul", first, count), w.ints([1]))
        apart = w.op("Reshape", index, _vector(w, many, w.ints([-1])))
        index = w.op("Reshape", w.op("Add", apart, first), w.ints([-1]))
        count = w.op("Mul", count, many)
    return Rows(w, like, index, count, _product(w, sizes[batch + depth :]))


def gather_nd(b: Backward) -> Gradients:
    """Each slice of the gradient is added to the slice that it was picked from."""
    w, x = b.write, b.x(0)
    rows = rows_of(w, x, b.x(1), b.int("batch_dims", 0))
    return [rows.combine(w.fill(w.shape_of(x), b.grad, 0), b.grad, "add")]


def scatter_nd(b: Backward) -> Gradients:
    """See :func:`_scattered`."""
    w, indices = b.write, b.x(1)
    rows = rows_of(w, b.x(0), indices)

    def pick(value: ir.Value) -> ir.Value:
        return w.op("GatherND", value, indices)

    return _scattered(b, rows.combine, pick)


def scatter_elements(b: Backward) -> Gradients:
    """See :func:`_scattered`."""
    w, indices, attributes = b.write, b.x(1), {"axis": b.axis(0)}

    def combine(field: ir.Value, values: ir.Value, reduction: str) -> ir.Value:
        how = attributes | {"reduction": reduction}
        return w.op("ScatterElements", field, indices, values, attributes=how)

    def pick(value: ir.Value) -> ir.Value:
        return w.op("GatherElements", value, indices, attributes=attributes)

    return _scattered(b, combine, pick)


def top_values(b: Backward) -> Gradients:
    """The values' gradients at their places, zero elsewhere."""
    w, x = b.write, b.x()
    attributes = {"axis": b.axis(-1)}
    field = w.zeros_like(x)
    return [w.op("ScatterElements", field, b.node.outputs[1], b.grad, attributes=attributes)]


def compress(b: Backward) -> Gradients:
    """The gradient at the places that were kept, zero elsewhere."""
    w, x = b.write, b.x(0)
    kept = w.op("Squeeze", w.op("NonZero", b.x(1), dtype=INT64), w.ints([0]))
    if "axis" not in b.node.attributes:
        field = w.fill(w.op("Reshape", w.op("Size", x, dtype=INT64), w.ints([1])), b.grad, 0)
        return [w.reshape_like(w.op("ScatterElements", field, kept, b.grad), x)]
    axis = b.axis(0)
    lead = [-1 if place == axis else 1 for place in range(rank_of(x))]
    index = w.op("Expand", w.op("Reshape", kept, w.ints(lead)), w.op("Shape", b.grad, dtype=INT64))
    attributes = {"axis": axis}
    return [w.op("ScatterElements", w.zeros_like(x), index, b.grad, attributes=attributes)]


def _scattered(
    b: Backward,
    combine: Callable[[ir.Value, ir.Value, str], ir.Value],
    pick: Callable[[ir.Value], ir.Value],
) -> Gradients:
    """What replaces takes the whole gradient; sums share it; extremes take equal shares.

    Args:
        b: What scatters: data, indices and updates.
        combine: Scatters values into a field, with a reduction.
        pick: Takes the elements at the indices.
    """
    w, updates = b.write, b.x(2)
    reduction = b.string("reduction", "none")
    if reduction == "none":
        return [combine(b.grad, w.zeros_like(updates), "none"), None, pick(b.grad)]
    if reduction == "add":
        return [b.grad, None, pick(b.grad)]
    if reduction == "mul":
        if b.needs[2]:
            raise NotDifferentiableError("its updates are multiplied (reduction=mul)")
        ones = w.fill(w.shape_of(b.x(0)), b.grad, 1)
        return [w.op("Mul", b.grad, combine(ones, updates, "mul"))]
    mine = w.cast(w.op("Equal", b.x(0), b.y, dtype=BOOL), b.grad.dtype)
    theirs = w.cast(w.op("Equal", updates, pick(b.y), dtype=BOOL), b.grad.dtype)
    share = w.op("Div", b.grad, combine(mine, theirs, "add"))
    return [w.op("Mul", mine, share), None, w.op("Mul", theirs, pick(share))]


def _vector(w: Writer, *parts: ir.Value) -> ir.Value:
    return parts[0] if len(parts) == 1 else w.op("Concat", *parts, attributes={"axis": 0})


def _product(w: Writer, sizes: list[ir.Value]) -> ir.Value:
    whole = w.ints([1])
    for size in sizes:
        whole = w.op("Mul", whole, size)
    return whole
