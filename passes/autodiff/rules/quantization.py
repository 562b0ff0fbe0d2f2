"""Gradients through rounding to integers, as if it did not round.

The gradient passes straight through the rounding, and stops where a value was cut to the range of
the integers. The gradient for a scale is that of learned step sizes.

Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons" (2013);
Esser et al., "Learned Step Size Quantization" (2020).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import BOOL, rank_of, static_shape

_RANGES = {
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT16: (0, 65535),
}


def quantize(b: Backward) -> Gradients:
    """``dx = g / s`` and ``ds = -g x / s^2`` where ``round(x / s) + z`` is in range."""
    w, x, scale = b.write, b.x(0), b.x(1)
    if b.y.dtype not in _RANGES:
        raise NotDifferentiableError(f"its result is {b.y.dtype}")
    column = _column(b, scale)
    ratio = w.op("Div", x, column)
    place = w.op("Round", ratio)
    zero = b.optional(2)
    if zero is not None:
        place = w.op("Add", place, _column(b, w.cast(zero, x.dtype), like=scale))
    low, high = (w.number(limit, x) for limit in _RANGES[b.y.dtype])
    below, above = w.op("Less", place, low, dtype=BOOL), w.op("Greater", place, high, dtype=BOOL)
    outside = w.op("Or", below, above, dtype=BOOL)
    inside = w.op("Where", outside, w.number(0, x), b.grad, dtype=x.dtype)
    first = w.op("Div", inside, column)
    second = _for_scale(b, w.op("Neg", w.op("Mul", first, ratio)), scale)
    return [first, second]


def dequantize(b: Backward) -> Gradients:
    """``dq = s g`` and ``ds = (q - z) g``."""
    w, scale = b.write, b.x(1)
    first = w.op("Mul", b.grad, _column(b, scale))
    if not b.needs[1]:
        return [first]
    away = w.cast(b.x(0), b.grad.dtype)
    zero = b.optional(2)
    if zero is not None:
        away = w.op("Sub", away, _column(b, w.cast(zero, b.grad.dtype), like=scale))
    return [first, _for_scale(b, w.op("Mul", b.grad, away), scale)]


def _column(b: Backward, value: ir.Value, like: ir.Value | None = None) -> ir.Value:
    """Return scales or zero points in a shape that broadcasts."""
    if _is_one(like or value):
        return value
    if rank_of(like or value) != 1 or b.int("block_size", 0):
        raise NotDifferentiableError("its scales are for blocks")
    rank = rank_of(b.x(0))
    spread = [-1 if axis == b.axis(1) else 1 for axis in range(rank)]
    return b.write.op("Reshape", value, b.write.ints(spread))


def _for_scale(b: Backward, gradient: ir.Value, scale: ir.Value) -> ir.Value:
    w, rank = b.write, rank_of(b.x(0))
    if _is_one(scale):
        whole = w.reduce("ReduceSum", gradient, list(range(rank)), keep=False)
        return w.reshape_like(whole, scale)
    axes = [axis for axis in range(rank) if axis != b.axis(1)]
    return w.reduce("ReduceSum", gradient, axes, keep=False)


def _is_one(scale: ir.Value) -> bool:
    sizes = static_shape(scale)
    return sizes is not None and int(np.prod(sizes)) == 1
