"""Gradients of normalizations without running statistics.

Source: the operators' definitions in ONNX; the chain rule through mean and deviation, as in
:mod:`onnxsmith.passes.autodiff.rules.normalization`.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.rules.normalization import batch_statistics, through
from onnxsmith.passes.autodiff.writer import BOOL, rank_of

_PER_CHANNEL = 21
"""Since this version GroupNormalization scales channels, not groups."""


def group(b: Backward) -> Gradients:
    """``dx = r (h - mean(h) - n mean(h n))`` over each group of each sample, ``h = g s``."""
    w, x = b.write, b.x(0)
    wide = _wide(b, x)
    groups = b.int("num_groups", 1)
    apart = w.ints([0, groups, -1])
    middle, inverse = batch_statistics(
        w, w.op("Reshape", w.cast(x, wide), apart), [2], b.float("epsilon", 1e-5)
    )
    grouped = w.op("Reshape", w.cast(x, wide), apart)
    normal = w.op("Mul", w.op("Sub", grouped, middle), inverse)
    grad = w.cast(b.grad, wide)
    places = list(range(2, rank_of(x)))
    if w.version < _PER_CHANNEL:
        column = w.op("Reshape", w.cast(b.x(1), wide), w.ints([1, -1, 1]))
        grad, axes = w.op("Reshape", grad, apart), [0, 2]
        inner, along = w.op("Mul", grad, column), w.op("Mul", grad, normal)
    else:
        spread = w.ints([1, -1, *[1] * len(places)])
        column, axes = w.op("Reshape", w.cast(b.x(1), wide), spread), [0, *places]
        inner = w.op("Reshape", w.op("Mul", grad, column), apart)
        along = w.op("Mul", grad, w.reshape_like(normal, x))
    first = w.reshape_like(through(w, inner, normal, inverse, [2]), x)
    second = w.reduce("ReduceSum", along, axes, keep=False)
    third = w.reduce("ReduceSum", grad, axes, keep=False)
    return [w.cast(first, x.dtype), w.cast(second, b.x(1).dtype), w.cast(third, b.x(2).dtype)]


def root_mean_square(b: Backward) -> Gradients:
    """``dx = r (h - n mean(h n))`` with ``n = x r``, ``h = g s``."""
    w, x, scale = b.write, b.x(0), b.x(1)
    wide = _wide(b, x)
    axes = list(range(b.axis(-1), rank_of(x)))
    values, grad = w.cast(x, wide), w.cast(b.grad, wide)
    square = w.reduce("ReduceMean", w.op("Mul", values, values), axes)
    length = w.op("Sqrt", w.op("Add", square, w.number(b.float("epsilon", 1e-5), square)))
    inverse = w.op("Reciprocal", length)
    normal = w.op("Mul", values, inverse)
    inner = w.op("Mul", grad, w.cast(scale, wide))
    along = w.reduce("ReduceMean", w.op("Mul", inner, normal), axes)
    first = w.op("Mul", w.op("Sub", inner, w.op("Mul", normal, along)), inverse)
    second = w.sum_to(w.op("Mul", grad, normal), scale, b.y)
    return [w.cast(first, x.dtype), w.cast(second, scale.dtype)]


def mean_variance(b: Backward) -> Gradients:
    """``dx = c(g - (a / s) mean(g a) / (s + e)) / (s + e)``, ``a = x - mean``, ``c`` subtracts it.

    ``s`` is the standard deviation, ``e`` is ``1e-9``.
    """
    w, x = b.write, b.x()
    rank = rank_of(x)
    axes = sorted(axis % rank for axis in b.ints("axes") or [0, 2, 3])
    away = w.op("Sub", x, w.reduce("ReduceMean", x, axes))
    deviation = w.op("Sqrt", w.reduce("ReduceMean", w.op("Mul", away, away), axes))
    length = w.op("Add", deviation, w.number(1e-9, x))
    along = w.reduce("ReduceMean", w.op("Mul", b.grad, away), axes)
    along = w.op("Div", w.op("Div", along, length), length)
    inner = w.op("Sub", b.grad, w.op("Mul", away, along))
    centred = w.op("Sub", inner, w.reduce("ReduceMean", inner, axes))
    return [w.op("Div", centred, length)]


def unit(b: Backward) -> Gradients:
    """``dx = (g - y sum(g y)) / |x|``, for the norm of order 1 ``(g - sign(x) sum(g y)) / |x|``."""
    w, x, order, axis = b.write, b.x(), b.int("p", 2), b.axis(-1)
    if order not in (1, 2):
        raise NotDifferentiableError(f"its norm is of order {order}")
    length = w.reduce("ReduceL1" if order == 1 else "ReduceL2", x, [axis])
    none = w.op("Equal", length, w.number(0, x), dtype=BOOL)
    safe = w.op("Where", none, w.number(1, x), length, dtype=x.dtype)
    along = w.reduce("ReduceSum", w.op("Mul", b.grad, b.y), [axis])
    direction = w.op("Sign", x) if order == 1 else b.y
    slope = w.op("Div", w.op("Sub", b.grad, w.op("Mul", direction, along)), safe)
    return [w.op("Where", none, w.number(0, x), slope, dtype=x.dtype)]


def _wide(b: Backward, x: ir.Value) -> ir.DataType | None:
    """Return the element type that the operator computes in."""
    narrow = x.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return ir.DataType.FLOAT if narrow and b.int("stash_type", 1) == 1 else x.dtype
