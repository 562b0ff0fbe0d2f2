"""Gradients of smooth activations, in forms that neither overflow nor cancel.

The function bodies that ONNX gives for some of them exponentiate without a limit: the gradient of
what they do not choose would be infinity times zero.

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import BOOL


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


def softplus(b: Backward) -> Gradients:
    """``d log(1 + e^x) = sigmoid(x) dx``."""
    return [b.write.op("Mul", b.grad, b.write.op("Sigmoid", b.x()))]


def softsign(b: Backward) -> Gradients:
    """``d(x / (1 + |x|)) = dx / (1 + |x|)^2``."""
    w, x = b.write, b.x()
    size = w.op("Add", w.op("Abs", x), w.number(1, x))
    return [w.op("Div", w.op("Div", b.grad, size), size)]


def mish(b: Backward) -> Gradients:
    """``d(x t) = (t + x (1 - t^2) sigmoid(x)) dx`` with ``t = tanh(softplus(x))``."""
    w, x = b.write, b.x()
    t = w.op("Tanh", w.op("Softplus", x))
    steep = w.op("Sub", w.number(1, x), w.op("Mul", t, t))
    inner = w.op("Mul", w.op("Mul", x, steep), w.op("Sigmoid", x))
    return [w.op("Mul", b.grad, w.op("Add", t, inner))]


def swish(b: Backward) -> Gradients:
    """``d(x s) = (s + a x s (1 - s)) dx`` with ``s = sigmoid(a x)``."""
    w, x, alpha = b.write, b.x(), b.float("alpha", 1.0)
    scaled = x if alpha == 1 else w.op("Mul", x, w.number(alpha, x))
    s = w.op("Sigmoid", scaled)
    inner = w.op("Mul", w.op("Mul", scaled, s), w.op("Sub", w.number(1, x), s))
    return [w.op("Mul", b.grad, w.op("Add", s, inner))]


def elu(b: Backward) -> Gradients:
    """``dx`` above zero; ``a e^x dx = (y + a) dx`` below."""
    return [_below_zero(b, b.grad, b.float("alpha", 1.0), 1.0)]


def celu(b: Backward) -> Gradients:
    """``dx`` above zero; ``e^(x/a) dx = (y / a + 1) dx`` below."""
    return [_below_zero(b, b.grad, 1.0, 1 / b.float("alpha", 1.0))]


def selu(b: Backward) -> Gradients:
    """``c dx`` above zero; ``c a e^x dx = (y + c a) dx`` below."""
    w = b.write
    alpha = b.float("alpha", 1.67326319217681884765625)
    gamma = b.float("gamma", 1.05070102214813232421875)
    return [_below_zero(b, w.op("Mul", b.grad, w.number(gamma, b.grad)), alpha * gamma, 1.0)]


def _below_zero(b: Backward, above: ir.Value, added: float, factor: float) -> ir.Value:
    """Return ``above`` where ``x > 0`` and ``(y factor + added) g`` elsewhere."""
    w, y = b.write, b.y
    scaled = y if factor == 1 else w.op("Mul", y, w.number(factor, y))
    below = w.op("Mul", b.grad, w.op("Add", scaled, w.number(added, y)))
    positive = w.op("Greater", b.x(), w.number(0, y), dtype=BOOL)
    return w.op("Where", positive, above, below, dtype=y.dtype)
