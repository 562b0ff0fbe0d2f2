"""Gradients of operators that move elements and change none.

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import INT64, rank_of
from onnxsmith.passes.match import ints_of


def identity(b: Backward) -> Gradients:
    """The gradient as it is."""
    return [b.grad]


def cast(b: Backward) -> Gradients:
    """The gradient in the element type of the input; what only gives the type has none."""
    return [b.write.cast(b.grad, b.x().dtype), None]


def reshape(b: Backward) -> Gradients:
    """The gradient in the shape of the input."""
    return [b.write.reshape_like(b.grad, b.x())]


def expand(b: Backward) -> Gradients:
    """The gradient summed over the dimensions that grew."""
    return [b.write.sum_to(b.grad, b.x(), b.y)]


def transpose(b: Backward) -> Gradients:
    """The gradient with its dimensions back in place."""
    order = b.ints("perm") or list(reversed(range(rank_of(b.x()))))
    back = sorted(range(len(order)), key=order.__getitem__)
    return [b.write.op("Transpose", b.grad, attributes={"perm": back})]


def concat(b: Backward) -> Gradients:
    """The parts of the gradient."""
    w, axis = b.write, b.axis(0, of=b.y)
    if len(b.node.inputs) == 1:
        return [b.grad]
    sizes = [w.size_of(b.x(i), axis) for i in range(len(b.node.inputs))]
    known = [ints_of(size) for size in sizes]
    if all(size is not None for size in known):
        whole = w.ints([size[0] for size in known if size is not None])
    else:
        whole = w.op("Concat", *sizes, attributes={"axis": 0}, dtype=INT64)
    return w.ops(
        "Split",
        b.grad,
        whole,
        outputs=len(sizes),
        attributes={"axis": axis},
    )


def split(b: Backward) -> Gradients:
    """The parts' gradients beside each other; zeros for a part that nothing depends on."""
    w = b.write
    parts = [
        w.zeros_like(output) if grad is None else grad
        for grad, output in zip(b.grads, b.node.outputs, strict=True)
    ]
    return [w.op("Concat", *parts, attributes={"axis": b.axis(0)})]


def slices(b: Backward) -> Gradients:
    """The gradient in a field of zeros.

    Steps of one are a Pad; others are scattered to the places that the same slice of a range of
    places has.
    """
    rank, count = rank_of(b.x()), _length(b.x(1))
    if b.optional(3) is not None:
        axes = ints_of(b.optional(3))
    else:
        axes = None if count is None else list(range(count))
    if axes is None:
        return [_scattered_anywhere(b)]
    steps = [1] * len(axes) if b.optional(4) is None else ints_of(b.optional(4))
    if steps is None or any(step != 1 for step in steps):
        return [_scattered(b, [axis % rank for axis in axes])]
    grad = b.grad
    for place, axis in enumerate(axes):
        grad = _widened(b, grad, axis % rank, place)
    return [grad]


def _length(vector: ir.Value) -> int | None:
    size = None if vector.shape is None else vector.shape[0]
    return size if isinstance(size, int) else None


def _widened(b: Backward, grad: ir.Value, axis: int, place: int) -> ir.Value:
    """Pad one dimension with zeros to what it was before the slice."""
    w, x = b.write, b.x()
    size = x.shape[axis] if x.shape is not None else None
    start, after = ints_of(b.x(1)), b.y.shape
    if isinstance(size, int) and start is not None and after is not None:
        length = after[axis]
        first = start[place]
        first = max(first + size, 0) if first < 0 else min(first, size)
        if isinstance(length, int):
            return w.pad(grad, rank_of(x), [axis], [first], [size - first - length])
    whole = w.size_of(x, axis)
    begin = w.op("Gather", b.x(1), w.ints([place]), attributes={"axis": 0})
    begin = w.cast(begin, INT64)
    negative = w.op("Less", begin, w.ints([0]), dtype=ir.DataType.BOOL)
    begin = w.op("Where", negative, w.op("Add", begin, whole), begin, dtype=INT64)
    begin = w.op("Min", w.op("Max", begin, w.ints([0])), whole)
    bounds = {"start": axis, "end": axis + 1}
    length_now = w.op("Shape", grad, attributes=bounds, dtype=INT64)
    end = w.op("Sub", w.op("Sub", whole, begin), length_now)
    return w.pad(grad, rank_of(x), [axis], begin, end)


def _scattered(b: Backward, axes: list[int]) -> ir.Value:
    """Put the gradient where the slice took its elements from, one dimension after the other."""
    w, x, grad = b.write, b.x(), b.grad
    for place, axis in reversed(list(enumerate(axes))):
        whole = w.op("Squeeze", w.size_of(x, axis), w.ints([0]))
        places = w.op("Range", w.integer(0), whole, w.integer(1), dtype=INT64)
        pick = w.ints([place])
        bounds = [
            None if b.optional(i) is None else w.cast(w.op("Gather", b.optional(i), pick), INT64)
            for i in (1, 2, 4)
        ]
        taken = w.op("Slice", places, bounds[0], bounds[1], w.ints([0]), bounds[2])
        lead = [1 if i != axis else -1 for i in range(rank_of(x))]
        index = w.op("Reshape", taken, w.ints(lead))
        index = w.op("Expand", index, w.op("Shape", grad, dtype=INT64))
        shape = w.op("Shape", grad, dtype=INT64)
        sizes = [
            w.op("Slice", shape, w.ints([0]), w.ints([axis]), w.ints([0])),
            w.size_of(x, axis),
            w.op("Slice", shape, w.ints([axis + 1]), w.ints([rank_of(x)]), w.ints([0])),
        ]
        field = w.fill(w.op("Concat", *sizes, attributes={"axis": 0}), grad, 0)
        grad = w.op("ScatterElements", field, index, grad, attributes={"axis": axis})
    return grad


def _scattered_anywhere(b: Backward) -> ir.Value:
    """Put the gradient where the slice took its elements from, along axes known at run time."""
    w, x, flat = b.write, b.x(), b.write.ints([-1])
    count = w.op("Size", x, dtype=INT64)
    places = w.op("Range", w.integer(0), count, w.integer(1), dtype=INT64)
    taken = w.op("Slice", w.reshape_like(places, x), *b.node.inputs[1:], dtype=INT64)
    field = w.fill(w.op("Reshape", count, flat, dtype=INT64), b.grad, 0)
    index, grad = w.op("Reshape", taken, flat), w.op("Reshape", b.grad, flat)
    filled = w.op("ScatterElements", field, index, grad, attributes={"axis": 0})
    return w.reshape_like(filled, x)


def pad(b: Backward) -> Gradients:
    """The gradient cut where zeros were added; what was repeated is added where it was taken.

    Padding by the same amounts below zero undoes a padding, and fills up what was cut.
    """
    w, x, mode = b.write, b.x(0), b.string("mode", "constant")
    if mode != "constant":
        return [_folded_back(b, mode)]
    inside = _padded(b, b.grad, undo=True)
    if len(b.needs) < 3 or not b.needs[2]:
        return [inside]
    border = w.op(
        "Sub", w.fill(w.shape_of(b.y), b.grad, 1), _padded(b, w.fill(w.shape_of(x), b.grad, 1))
    )
    filled = w.op("ReduceSum", w.op("Mul", b.grad, border))
    return [inside, None, w.reshape_like(filled, b.x(2))]


def _padded(b: Backward, value: ir.Value, *, undo: bool = False) -> ir.Value:
    """Pad with zeros as the node does, or undo it."""
    w, rank = b.write, rank_of(b.x(0))
    known, axes = ints_of(b.x(1)), b.optional(3)
    places = list(range(rank)) if axes is None else ints_of(axes)
    if known is not None and places is not None:
        amounts = [-amount if undo else amount for amount in known]
        count = len(places)
        return w.pad(value, rank, places, amounts[:count], amounts[count:])
    pads = w.cast(b.x(1), INT64)
    pads = w.op("Neg", pads) if undo else pads
    halves = w.ops("Split", pads, outputs=2, attributes={"axis": 0, "num_outputs": 2})
    where = w.ints(list(range(rank))) if axes is None else axes
    return w.pad(value, rank, where, halves[0], halves[1])


def _folded_back(b: Backward, mode: str) -> ir.Value:
    """Add each element of the gradient where its value came from, a dimension at a time."""
    w, x, grad = b.write, b.x(0), b.grad
    rank = rank_of(x)
    axes = list(range(rank)) if b.optional(3) is None else ints_of(b.optional(3))
    if axes is None:
        raise NotDifferentiableError("its axes are computed")
    known = ints_of(b.x(1))
    for place, axis in enumerate(axes):
        if known is not None and known[place] == known[place + len(axes)] == 0:
            continue
        amounts = w.op("Gather", b.x(1), w.ints([place, place + len(axes)]))
        size = w.op("Squeeze", w.size_of(x, axis), w.ints([0]))
        numbers = w.op("Range", w.integer(0), size, w.integer(1), dtype=INT64)
        source = w.op("Pad", numbers, amounts, attributes={"mode": mode})
        lead = w.ints([-1 if i == axis % rank else 1 for i in range(rank)])
        shape = w.op("Shape", grad, dtype=INT64)
        index = w.op("Expand", w.op("Reshape", source, lead), shape)
        before = w.op("Slice", shape, w.ints([0]), w.ints([axis % rank]))
        behind = w.op("Slice", shape, w.ints([axis % rank + 1]), w.ints([rank]))
        parts = [before, w.size_of(x, axis), behind]
        field = w.fill(w.op("Concat", *parts, attributes={"axis": 0}), grad, 0)
        how = {"axis": axis % rank, "reduction": "add"}
        grad = w.op("ScatterElements", field, index, grad, attributes=how)
    return grad


def tile(b: Backward) -> Gradients:
    """The sum over the copies."""
    w, x = b.write, b.x()
    rank = rank_of(x)
    # [r0, n0, r1, n1, ...]: the copies get dimensions of their own, and are summed over.
    pairs = w.op("Concat", *_columns(b, b.x(1), w.shape_of(x)), attributes={"axis": 1})
    apart = w.op("Reshape", b.grad, w.op("Reshape", pairs, w.ints([-1])))
    return [w.reduce("ReduceSum", apart, list(range(0, 2 * rank, 2)), keep=False)]


def _columns(b: Backward, *vectors: ir.Value) -> list[ir.Value]:
    return [b.write.op("Unsqueeze", vector, b.write.ints([1])) for vector in vectors]


def depth_to_space(b: Backward) -> Gradients:
    """Blocks back into channels."""
    w, x, size = b.write, b.x(), b.int("blocksize", 1)
    if b.string("mode", "DCR") == "DCR":
        return [w.op("SpaceToDepth", b.grad, attributes={"blocksize": size})]
    shape = w.op("Shape", x, dtype=INT64)
    parts = [w.op("Slice", shape, w.ints([i]), w.ints([i + 1]), w.ints([0])) for i in range(4)]
    block = w.ints([size])
    sizes = [parts[0], w.ints([-1]), parts[2], block, parts[3], block]
    apart = w.op("Reshape", b.grad, w.op("Concat", *sizes, attributes={"axis": 0}))
    turned = w.op("Transpose", apart, attributes={"perm": [0, 1, 3, 5, 2, 4]})
    return [w.op("Reshape", turned, shape)]


def space_to_depth(b: Backward) -> Gradients:
    """Channels back into blocks."""
    attributes = {"blocksize": b.int("blocksize", 1), "mode": "DCR"}
    return [b.write.op("DepthToSpace", b.grad, attributes=attributes)]
