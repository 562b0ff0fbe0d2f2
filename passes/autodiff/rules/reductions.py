"""Gradients of reductions.

Source: the operators' definitions in ONNX (opset 18: axes are an input).
"""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import BOOL, INT64, static_shape
from onnxsmith.passes.match import ints_of


def total(b: Backward) -> Gradients:
    """``d sum(x) = sum(dx)``: the gradient everywhere."""
    return [_spread(b, b.grad)]


def mean(b: Backward) -> Gradients:
    """``sum(dx) / n``: the gradient in equal shares."""
    w, x = b.write, b.x()
    grad = kept(b, b.grad)
    if reduces_nothing(b):
        return [grad]
    before, after = static_shape(x), static_shape(b.y)
    if before is not None and after is not None:
        count = math.prod(before) // max(math.prod(after), 1)
        grad = w.op("Mul", grad, w.number(1 / max(count, 1), grad))
    else:
        many, few = w.op("Size", x, dtype=INT64), w.op("Size", b.grad, dtype=INT64)
        grad = w.op("Div", grad, w.cast(w.op("Div", many, few), grad.dtype))
    return [w.op("Expand", grad, w.shape_of(x))]


def extreme(b: Backward) -> Gradients:
    """The gradient, in equal shares, to where the maximum or minimum is."""
    w, x = b.write, b.x()
    if reduces_nothing(b):
        return [b.grad]
    mask = w.cast(w.op("Equal", x, kept(b, b.y), dtype=BOOL), x.dtype)
    shares = w.op("Div", kept(b, b.grad), _again(b, "ReduceSum", mask))
    return [w.op("Mul", mask, shares)]


def first_norm(b: Backward) -> Gradients:
    """``d sum|x| = sum(sign(x) dx)``."""
    _refuse_none(b)
    return [b.write.op("Mul", b.write.op("Sign", b.x()), kept(b, b.grad))]


def second_norm(b: Backward) -> Gradients:
    """``d|x| = x dx / |x|``, zero where the norm is."""
    _refuse_none(b)
    w, norm = b.write, kept(b, b.y)
    none = w.op("Equal", norm, w.number(0, norm), dtype=BOOL)
    length = w.op("Where", none, w.number(1, norm), norm, dtype=norm.dtype)
    return [w.op("Mul", b.x(), w.op("Div", kept(b, b.grad), length))]


def square_sum(b: Backward) -> Gradients:
    """``d sum(x^2) = 2 sum(x dx)``."""
    _refuse_none(b)
    w, grad = b.write, kept(b, b.grad)
    return [w.op("Mul", b.x(), w.op("Mul", grad, w.number(2, grad)))]


def log_sum(b: Backward) -> Gradients:
    """``d log(sum(x)) = sum(dx) / sum(x)``."""
    _refuse_none(b)
    w = b.write
    return [_spread(b, w.op("Div", b.grad, w.op("Exp", b.y)))]


def log_sum_exp(b: Backward) -> Gradients:
    """``d log(sum(e^x)) = sum(s dx)``, ``s = e^(x - y)``: no exponent above zero.

    The shares are divided by their sum, for ``y`` is rounded where it is large.
    """
    _refuse_none(b)
    w = b.write
    parts = w.op("Exp", w.op("Sub", b.x(), kept(b, b.y)))
    share = w.op("Div", parts, _again(b, "ReduceSum", parts))
    return [w.op("Mul", share, kept(b, b.grad))]


def product(b: Backward) -> Gradients:
    """The product of all others: also where one element of it is zero, or several are."""
    _refuse_none(b)
    w, x = b.write, b.x()
    zero, one = w.number(0, x), w.number(1, x)
    is_zero = w.op("Equal", x, zero, dtype=BOOL)
    safe = w.op("Where", is_zero, one, x, dtype=x.dtype)
    whole = w.op("Mul", _again(b, "ReduceProd", safe), kept(b, b.grad))
    zeros = w.cast(is_zero, x.dtype)
    others = w.op("Sub", _again(b, "ReduceSum", zeros), zeros)
    alone = w.op("Equal", others, zero, dtype=BOOL)
    return [w.op("Where", alone, w.op("Div", whole, safe), zero, dtype=x.dtype)]


def cumulative(b: Backward) -> Gradients:
    """The cumulative sum from the other end."""
    attributes = {"exclusive": b.int("exclusive", 0), "reverse": 1 - b.int("reverse", 0)}
    return [b.write.op("CumSum", b.grad, b.x(1), attributes=attributes)]


def reduces_nothing(b: Backward) -> bool:
    """Tell whether it leaves its input as it is."""
    given = b.optional(1)
    empty = given is None or ints_of(given) == []
    return empty and bool(b.int("noop_with_empty_axes", 0))


def kept(b: Backward, value: ir.Value) -> ir.Value:
    """Return a value of the output's shape in one that broadcasts with the input."""
    axes = _axes(b)
    if b.int("keepdims", 1) or axes is None:
        return value
    return b.write.op("Unsqueeze", value, axes)


def _axes(b: Backward) -> ir.Value | None:
    """Return the dimensions that are reduced; None where all are, or none is."""
    given = b.optional(1)
    return None if given is None or ints_of(given) == [] else given


def _spread(b: Backward, value: ir.Value) -> ir.Value:
    return b.write.op("Expand", kept(b, value), b.write.shape_of(b.x()))


def _again(b: Backward, kind: str, value: ir.Value) -> ir.Value:
    """Reduce another value over the same dimensions, which stay."""
    axes = _axes(b)
    return b.write.op(kind, value, *([] if axes is None else [axes]))


def _refuse_none(b: Backward) -> None:
    if reduces_nothing(b):
        raise NotDifferentiableError("it reduces no dimension")
