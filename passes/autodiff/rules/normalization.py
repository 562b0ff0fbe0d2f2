"""Gradients of normalizations.

Source: the operators' definitions in ONNX; Ba, Kiros and Hinton, "Layer Normalization" (2016).
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import Writer, rank_of


def layer(b: Backward) -> Gradients:
    """``dx = r (h - mean(h) - n mean(h n))`` with ``n = (x - m) r`` and ``h = g s``.

    Mean ``m`` and ``r = 1 / deviation`` are outputs of the operator; where it computes them in
    float32, so does the gradient.
    """
    w, x, scale = b.write, b.x(0), b.x(1)
    axes = list(range(b.axis(-1), rank_of(x)))
    wide = ir.DataType.FLOAT if b.int("stash_type", 1) == 1 else x.dtype
    if x.dtype == ir.DataType.DOUBLE:
        wide = x.dtype
    middle, inverse = _statistics(b, w.cast(x, wide), axes)
    normal = w.op("Mul", w.op("Sub", w.cast(x, wide), middle), inverse)
    grad = w.cast(b.grad, wide)
    inner = w.op("Mul", grad, w.cast(scale, wide))
    first = through(w, inner, normal, inverse, axes)
    second = w.sum_to(w.op("Mul", grad, normal), scale, b.y)
    gradients = [w.cast(first, x.dtype), w.cast(second, scale.dtype)]
    bias = b.optional(2)
    if bias is not None:
        gradients.append(w.sum_to(b.grad, bias, b.y))
    return gradients


def batch_statistics(
    w: Writer, x: ir.Value, axes: list[int], epsilon: float
) -> tuple[ir.Value, ir.Value]:
    """Return the mean and ``1 / sqrt(variance + epsilon)``, reduced dimensions kept."""
    middle = w.reduce("ReduceMean", x, axes)
    away = w.op("Sub", x, middle)
    variance = w.reduce("ReduceMean", w.op("Mul", away, away), axes)
    deviation = w.op("Sqrt", w.op("Add", variance, w.number(epsilon, x)))
    return middle, w.op("Reciprocal", deviation)


def _statistics(b: Backward, x: ir.Value, axes: list[int]) -> tuple[ir.Value, ir.Value]:
    """Return the operator's own mean and inverse deviation."""
    if x.dtype != ir.DataType.FLOAT:  # the runtime gives them in float32 alone
        return batch_statistics(b.write, x, axes, b.float("epsilon", 1e-5))
    if len(b.node.outputs) < 3:
        b.node.resize_outputs(3)
    for output, word in zip(b.node.outputs[1:], ("mean", "inverse"), strict=True):
        if not output.name:
            output.name = b.write.name(word)
            output.type = ir.TensorType(ir.DataType.FLOAT)
    return b.node.outputs[1], b.node.outputs[2]


def through(
    w: Writer, inner: ir.Value, normal: ir.Value, inverse: ir.Value, axes: list[int]
) -> ir.Value:
    """Return the gradient through the normalization itself."""
    middle = w.reduce("ReduceMean", inner, axes)
    along = w.reduce("ReduceMean", w.op("Mul", inner, normal), axes)
    rest = w.op("Sub", w.op("Sub", inner, middle), w.op("Mul", normal, along))
    return w.op("Mul", rest, inverse)


def instance(b: Backward) -> Gradients:
    """As :func:`layer` over the places of each channel of each sample."""
    w, x, scale = b.write, b.x(0), b.x(1)
    places = list(range(2, rank_of(x)))
    spread = w.ints([1, -1, *[1] * len(places)])
    middle, inverse = batch_statistics(w, x, places, b.float("epsilon", 1e-5))
    normal = w.op("Mul", w.op("Sub", x, middle), inverse)
    inner = w.op("Mul", b.grad, w.op("Reshape", scale, spread))
    axes = [0, *places]
    second = w.reduce("ReduceSum", w.op("Mul", b.grad, normal), axes, keep=False)
    third = w.reduce("ReduceSum", b.grad, axes, keep=False)
    return [through(w, inner, normal, inverse, places), second, third]
