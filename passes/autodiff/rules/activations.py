"""Gradients of activations.

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import math

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


def gelu(b: Backward) -> Gradients:
    """``d(x P(x)) = (P(x) + x P'(x)) dx``, ``P`` the normal distribution or its tanh form."""
    w, x = b.write, b.x()
    half, one = w.number(0.5, x), w.number(1, x)
    if b.string("approximate", "none") == "tanh":
        scale = math.sqrt(2 / math.pi)
        square = w.op("Mul", x, x)
        cubic = w.op("Add", w.op("Mul", square, w.number(0.044715, x)), one)
        t = w.op("Tanh", w.op("Mul", w.op("Mul", x, cubic), w.number(scale, x)))
        slope = w.op("Add", w.op("Mul", square, w.number(3 * 0.044715, x)), one)
        steep = w.op("Sub", one, w.op("Mul", t, t))
        inner = w.op("Mul", w.op("Mul", x, w.number(0.5 * scale, x)), w.op("Mul", slope, steep))
        whole = w.op("Add", w.op("Mul", w.op("Add", t, one), half), inner)
        return [w.op("Mul", b.grad, whole)]
    share = w.op("Erf", w.op("Mul", x, w.number(math.sqrt(0.5), x)))
    share = w.op("Mul", w.op("Add", share, one), half)
    bell = w.op("Exp", w.op("Mul", w.op("Mul", x, x), w.number(-0.5, x)))
    bell = w.op("Mul", w.op("Mul", x, w.number(1 / math.sqrt(2 * math.pi), x)), bell)
    return [w.op("Mul", b.grad, w.op("Add", share, bell))]


def clip(b: Backward) -> Gradients:
    """``dx`` within the limits, zero outside; at a limit it passes, as torch has it."""
    w, grad, x = b.write, b.grad, b.x()
    for limit, outside in ((b.optional(1), "Less"), (b.optional(2), "Greater")):
        if limit is not None:
            cut = w.op(outside, x, limit, dtype=BOOL)
            grad = w.op("Where", cut, w.number(0, grad), grad, dtype=grad.dtype)
    return [grad]


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


def _where_positive(b: Backward, x: ir.Value, yes: ir.Value, no: ir.Value) -> ir.Value:
    w = b.write
    positive = w.op("Greater", x, w.number(0, x), dtype=BOOL)
    return w.op("Where", positive, yes, no, dtype=yes.dtype)
