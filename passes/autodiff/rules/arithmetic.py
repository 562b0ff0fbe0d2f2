"""Gradients of arithmetic with broadcasting.

Source: the operators' definitions in ONNX; derivatives by the sum, product and chain rules.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import BOOL, INT64
from onnxsmith.passes.match import array_of


def add(b: Backward) -> Gradients:
    """``d(x + y) = dx + dy``."""
    return _fit(b, b.grad, b.grad)


def subtract(b: Backward) -> Gradients:
    """``d(x - y) = dx - dy``."""
    return _fit(b, b.grad, b.write.op("Neg", b.grad) if b.needs[1] else None)


def multiply(b: Backward) -> Gradients:
    """``d(x y) = y dx + x dy``."""
    x, y = b.x(0), b.x(1)
    return _fit(b, b.write.op("Mul", b.grad, y), b.write.op("Mul", b.grad, x))


def divide(b: Backward) -> Gradients:
    """``d(x / y) = dx / y - (x / y) dy / y``."""
    first = b.write.op("Div", b.grad, b.x(1))
    second = b.write.op("Neg", b.write.op("Mul", first, b.y))
    return _fit(b, first, second)


def negative(b: Backward) -> Gradients:
    """``d(-x) = -dx``."""
    return [b.write.op("Neg", b.grad)]


def absolute(b: Backward) -> Gradients:
    """``d|x| = sign(x) dx``, zero at zero."""
    return [b.write.op("Mul", b.grad, b.write.op("Sign", b.x()))]


def root(b: Backward) -> Gradients:
    """``d sqrt(x) = dx / (2 sqrt(x))``."""
    w = b.write
    return [w.op("Div", b.grad, w.op("Mul", b.y, w.number(2, b.y)))]


def reciprocal(b: Backward) -> Gradients:
    """``d(1 / x) = -dx / x^2``."""
    w = b.write
    return [w.op("Neg", w.op("Mul", b.grad, w.op("Mul", b.y, b.y)))]


def sum_all(b: Backward) -> Gradients:
    """``d(x + y + ...) = dx + dy + ...``."""
    return _fit(b, *[b.grad for _ in b.node.inputs])


def power(b: Backward) -> Gradients:
    """``d(x^p) = p x^(p-1) dx + x^p log(x) dp``; the second where ``x`` is positive, as torch does.

    A constant exponent of 2 is a product, and 0 gives zero.
    """
    w, x, exponent = b.write, b.x(0), b.x(1)
    known = array_of(exponent)
    if known is not None and known.size == 1 and float(known.ravel()[0]) == 2:
        return _fit(b, w.op("Mul", b.grad, w.op("Mul", x, w.number(2, x))), None)
    p = w.cast(exponent, x.dtype)
    zero = w.number(0, x)
    less = w.op("Pow", x, w.op("Sub", p, w.number(1, x)))
    slope = w.op("Where", w.op("Equal", p, zero, dtype=BOOL), zero, less, dtype=x.dtype)
    first = w.op("Mul", b.grad, w.op("Mul", slope, p))
    if not b.needs[1]:
        return _fit(b, first, None)
    positive = w.op("Greater", x, zero, dtype=BOOL)
    logarithm = w.op("Log", w.op("Where", positive, x, w.number(1, x), dtype=x.dtype))
    second = w.op("Mul", b.grad, w.op("Mul", b.y, logarithm))
    return _fit(b, first, w.cast(second, exponent.dtype))


def where(b: Backward) -> Gradients:
    """The gradient goes to the operand that was chosen."""
    w, condition = b.write, b.x(0)
    zero = w.number(0, b.grad)
    first = w.op("Where", condition, b.grad, zero, dtype=b.grad.dtype)
    second = w.op("Where", condition, zero, b.grad, dtype=b.grad.dtype)
    return _fit(b, None, first, second)


def _fit(b: Backward, *gradients: ir.Value | None) -> Gradients:
    """Sum each gradient to the shape of the operand it is for."""
    return [
        None if gradient is None or not b.needs[i] else b.write.sum_to(gradient, b.x(i), b.y)
        for i, gradient in enumerate(gradients)
    ]


def extreme(b: Backward) -> Gradients:
    """The gradient, in equal shares, to the operands that are the maximum or minimum."""
    w = b.write
    masks = [
        w.cast(w.op("Equal", b.x(i), b.y, dtype=BOOL), b.y.dtype) for i in range(len(b.node.inputs))
    ]
    count = masks[0]
    for mask in masks[1:]:
        count = w.op("Add", count, mask)
    share = w.op("Div", b.grad, count)
    return _fit(b, *[w.op("Mul", mask, share) for mask in masks])


def average(b: Backward) -> Gradients:
    """The gradient in equal shares."""
    w, count = b.write, len(b.node.inputs)
    return _fit(b, *[w.op("Mul", b.grad, w.number(1 / count, b.grad))] * count)


def remainder(b: Backward) -> Gradients:
    """``d(x - n y) = dx - n dy``, ``n`` the whole part of the quotient."""
    w, x, y = b.write, b.x(0), b.x(1)
    if not b.needs[1]:
        return _fit(b, b.grad)
    whole = w.op("Round", w.op("Div", w.op("Sub", x, b.y), y))
    return _fit(b, b.grad, w.op("Neg", w.op("Mul", b.grad, whole)))


def span(b: Backward) -> Gradients:
    """``y_i = start + i step``: ``sum(g)`` and ``sum(i g)``; the limit only decides how many."""
    w, none = b.write, b.write.number(0, b.grad)
    count = w.cast(w.op("Size", b.y, dtype=INT64), b.grad.dtype)
    numbers = w.op("Range", none, count, w.number(1, b.grad))
    sums = [b.grad, w.op("Mul", b.grad, numbers)]
    first, last = (w.op("ReduceSum", part, attributes={"keepdims": 0}) for part in sums)
    return [first, None, last]
