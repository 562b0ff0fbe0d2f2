"""Gradients of activations made of straight pieces, and of dropout.

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import BOOL


def relu(b: Backward) -> Gradients:
    """``d max(x, 0) = dx`` where ``x > 0``; zero at zero, as torch has it."""
    return [_where_positive(b, b.y, b.grad, b.write.number(0, b.grad))]


def leaky_relu(b: Backward) -> Gradients:
    """``dx`` where ``x > 0``, ``alpha dx`` elsewhere."""
    w = b.write
    small = w.op("Mul", b.grad, w.number(b.float("alpha", 0.01), b.grad))
    return [_where_positive(b, b.x(), b.grad, small)]


def sigmoid(b: Backward) -> Gradients:
    """``d s = s (1 - s) dx``."""
    w, s = b.write, b.y
    slope = w.op("Mul", s, w.op("Sub", w.number(1, s), s))
    return [w.op("Mul", b.grad, slope)]


def tanh(b: Backward) -> Gradients:
    """``d t = (1 - t^2) dx``."""
    w, t = b.write, b.y
    return [w.op("Mul", b.grad, w.op("Sub", w.number(1, t), w.op("Mul", t, t)))]


def clip(b: Backward) -> Gradients:
    """``dx`` within the limits, zero outside; at a limit it passes, as torch has it.

    What is cut belongs to the limit; to the upper one where the lower one lies above it.
    """
    w, grad, x = b.write, b.grad, b.x()
    low, high = b.optional(1), b.optional(2)
    learned = any(b.needs[1:])
    raised = w.op("Max", x, low) if learned and low is not None and high is not None else x
    slopes: list[ir.Value | None] = [None, None, None]
    for place, limit, outside, value in ((2, high, "Greater", raised), (1, low, "Less", x)):
        if limit is None:
            continue
        cut, zero = w.op(outside, value, limit, dtype=BOOL), w.number(0, grad)
        if b.needs[place]:
            held = w.op("Where", cut, grad, zero, dtype=grad.dtype)
            slopes[place] = w.reshape_like(w.op("ReduceSum", held), limit)
        grad = w.op("Where", cut, zero, grad, dtype=grad.dtype)
    slopes[0] = grad
    return slopes


def dropout(b: Backward) -> Gradients:
    """``m dx / (1 - r)`` with the mask ``m`` of the forward run; ``dx`` outside of training."""
    w = b.write
    training = b.optional(2)
    if training is None:
        return [b.grad]
    if len(b.node.outputs) < 2:
        b.node.resize_outputs(2)
    mask = b.node.outputs[1]
    if not mask.name:
        mask.name, mask.type, mask.shape = w.name("mask"), ir.TensorType(BOOL), b.y.shape
    ratio = b.optional(1)
    rate = w.number(0.5, b.grad) if ratio is None else w.cast(ratio, b.grad.dtype)
    kept = w.op("Div", b.grad, w.op("Sub", w.number(1, b.grad), rate))
    kept = w.op("Where", mask, kept, w.number(0, b.grad), dtype=b.grad.dtype)
    return [w.op("Where", training, kept, b.grad, dtype=b.grad.dtype)]


def hard_sigmoid(b: Backward) -> Gradients:
    """``a dx`` where ``0 < a x + b < 1``, zero elsewhere."""
    w = b.write
    return [w.op("Mul", _inside(b, b.y), w.number(b.float("alpha", 0.2), b.grad))]


def hard_swish(b: Backward) -> Gradients:
    """``(h + x h') dx`` with ``h = clip(x / 6 + 1/2, 0, 1)``."""
    w, x = b.write, b.x()
    gate = w.op("HardSigmoid", x, attributes={"alpha": 1 / 6, "beta": 0.5})
    steep = w.op("Mul", _inside(b, gate), w.number(1 / 6, x))
    return [w.op("Add", w.op("Mul", b.grad, gate), w.op("Mul", steep, x))]


def prelu(b: Backward) -> Gradients:
    """``dx`` where ``x > 0``, ``s dx`` elsewhere; ``x ds`` where ``x < 0``."""
    w, x, slope = b.write, b.x(0), b.x(1)
    first = _where_positive(b, x, b.grad, w.op("Mul", b.grad, slope))
    negative = w.op("Min", x, w.number(0, x))
    return [first, w.sum_to(w.op("Mul", b.grad, negative), slope, b.y)]


def thresholded_relu(b: Backward) -> Gradients:
    """``dx`` where ``x > a``, zero elsewhere."""
    w, x = b.write, b.x()
    above = w.op("Greater", x, w.number(b.float("alpha", 1.0), x), dtype=BOOL)
    return [w.op("Where", above, b.grad, w.number(0, x), dtype=x.dtype)]


def shrink(b: Backward) -> Gradients:
    """``dx`` where ``|x|`` exceeds the threshold, zero elsewhere."""
    w, x = b.write, b.x()
    away = w.op("Greater", w.op("Abs", x), w.number(b.float("lambd", 0.5), x), dtype=BOOL)
    return [w.op("Where", away, b.grad, w.number(0, x), dtype=x.dtype)]


def _inside(b: Backward, gate: ir.Value) -> ir.Value:
    """Return the gradient where a gate is neither shut nor open, zero elsewhere."""
    w = b.write
    shut = w.op("LessOrEqual", gate, w.number(0, gate), dtype=BOOL)
    open_ = w.op("GreaterOrEqual", gate, w.number(1, gate), dtype=BOOL)
    flat = w.op("Or", shut, open_, dtype=BOOL)
    return w.op("Where", flat, w.number(0, b.grad), b.grad, dtype=b.grad.dtype)


def _where_positive(b: Backward, x: ir.Value, yes: ir.Value, no: ir.Value) -> ir.Value:
    w = b.write
    positive = w.op("Greater", x, w.number(0, x), dtype=BOOL)
    return w.op("Where", positive, yes, no, dtype=yes.dtype)
