"""Gradients of reductions.

Source: the operators' definitions in ONNX (opset 18: axes are an input).
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import INT64, rank_of, static_shape
from onnxsmith.passes.match import ints_of


def total(b: Backward) -> Gradients:
    """``d sum(x) = sum(dx)``: the gradient everywhere."""
    return [_spread(b, b.grad)]


def mean(b: Backward) -> Gradients:
    """``sum(dx) / n``: the gradient in equal shares."""
    w, x = b.write, b.x()
    grad = kept(b, b.grad)
    if grad is b.grad and axes_of(b) == []:
        return [grad]
    sizes = static_shape(x)
    if sizes is not None:
        count = 1
        for axis in axes_of(b):
            count *= sizes[axis]
        grad = w.op("Mul", grad, w.number(1 / max(count, 1), grad))
    else:
        many = w.op("ReduceProd", w.op("Shape", x, dtype=INT64), attributes={"keepdims": 0})
        few = w.op("ReduceProd", w.op("Shape", grad, dtype=INT64), attributes={"keepdims": 0})
        grad = w.op("Div", grad, w.cast(w.op("Div", many, few), grad.dtype))
    return [w.op("Expand", grad, w.shape_of(x))]


def axes_of(b: Backward) -> list[int]:
    """Return the dimensions that are reduced, from the front."""
    rank = rank_of(b.x())
    given = b.optional(1)
    axes = ints_of(given) if given is not None else []
    if axes is None:
        raise NotDifferentiableError("its axes are computed")
    if not axes:
        return [] if b.int("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in axes)


def kept(b: Backward, value: ir.Value) -> ir.Value:
    """Return a value of the output's shape with the reduced dimensions, of size one, in it."""
    axes = axes_of(b)
    if b.int("keepdims", 1) or not axes:
        return value
    return b.write.op("Unsqueeze", value, b.write.ints(axes))


def _spread(b: Backward, value: ir.Value) -> ir.Value:
    return b.write.op("Expand", kept(b, value), b.write.shape_of(b.x()))


def extreme(b: Backward) -> Gradients:
    """The gradient, in equal shares, to where the maximum or minimum is."""
    w, x = b.write, b.x()
    axes = axes_of(b)
    if not axes:
        return [b.grad]
    mask = w.cast(w.op("Equal", x, kept(b, b.y), dtype=ir.DataType.BOOL), x.dtype)
    shares = w.op("Div", kept(b, b.grad), w.reduce("ReduceSum", mask, axes))
    return [w.op("Mul", mask, shares)]


def cumulative(b: Backward) -> Gradients:
    """The cumulative sum from the other end."""
    attributes = {"exclusive": b.int("exclusive", 0), "reverse": 1 - b.int("reverse", 0)}
    return [b.write.op("CumSum", b.grad, b.x(1), attributes=attributes)]
