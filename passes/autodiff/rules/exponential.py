"""Gradients of exponentials, logarithms, circular and hyperbolic functions.

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients


def exp(b: Backward) -> Gradients:
    """The derivative of ``exp`` gives ``exp(x) dx``."""
    return [b.write.op("Mul", b.grad, b.y)]


def log(b: Backward) -> Gradients:
    """The derivative of ``log`` gives ``dx / x``."""
    return [b.write.op("Div", b.grad, b.x())]


def sin(b: Backward) -> Gradients:
    """The derivative of ``sin`` gives ``cos(x) dx``."""
    return [b.write.op("Mul", b.grad, b.write.op("Cos", b.x()))]


def cos(b: Backward) -> Gradients:
    """The derivative of ``cos`` gives ``-sin(x) dx``."""
    return [b.write.op("Neg", b.write.op("Mul", b.grad, b.write.op("Sin", b.x())))]


def erf(b: Backward) -> Gradients:
    """The derivative of ``erf`` gives ``2 / sqrt(pi) exp(-x^2) dx``."""
    w, x = b.write, b.x()
    bell = w.op("Exp", w.op("Neg", w.op("Mul", x, x)))
    return [w.op("Mul", b.grad, w.op("Mul", bell, w.number(2 / math.sqrt(math.pi), x)))]


def tan(b: Backward) -> Gradients:
    """The derivative of the tangent gives ``(1 + y^2) dx``."""
    w, y = b.write, b.y
    return [w.op("Mul", b.grad, w.op("Add", w.number(1, y), w.op("Mul", y, y)))]


def arc_sin(b: Backward) -> Gradients:
    """The derivative of ``asin`` gives ``dx / sqrt(1 - x^2)``."""
    return [_over_root(b, below=True)]


def arc_cos(b: Backward) -> Gradients:
    """The derivative of ``acos`` gives ``-dx / sqrt(1 - x^2)``."""
    return [b.write.op("Neg", _over_root(b, below=True))]


def arc_tan(b: Backward) -> Gradients:
    """The derivative of ``atan`` gives ``dx / (1 + x^2)``."""
    w, x = b.write, b.x()
    return [w.op("Div", b.grad, w.op("Add", w.number(1, x), w.op("Mul", x, x)))]


def sinh(b: Backward) -> Gradients:
    """The derivative of ``sinh`` gives ``cosh(x) dx``."""
    return [b.write.op("Mul", b.grad, b.write.op("Cosh", b.x()))]


def cosh(b: Backward) -> Gradients:
    """The derivative of ``cosh`` gives ``sinh(x) dx``."""
    return [b.write.op("Mul", b.grad, b.write.op("Sinh", b.x()))]


def area_sinh(b: Backward) -> Gradients:
    """The derivative of ``asinh`` gives ``dx / sqrt(1 + x^2)``."""
    w, x = b.write, b.x()
    root = w.op("Sqrt", w.op("Add", w.number(1, x), w.op("Mul", x, x)))
    return [w.op("Div", b.grad, root)]


def area_cosh(b: Backward) -> Gradients:
    """The derivative of ``acosh`` gives ``dx / sqrt(x^2 - 1)``."""
    return [_over_root(b, below=False)]


def area_tanh(b: Backward) -> Gradients:
    """The derivative of ``atanh`` gives ``dx / (1 - x^2)``."""
    w, x = b.write, b.x()
    one = w.number(1, x)
    return [w.op("Div", b.grad, w.op("Mul", w.op("Sub", one, x), w.op("Add", one, x)))]


def _over_root(b: Backward, *, below: bool) -> ir.Value:
    """Return ``g / sqrt(|1 - x^2|)`` for ``x`` below or above one, as factors: none cancels."""
    w, x = b.write, b.x()
    one = w.number(1, x)
    low = w.op("Sub", one, x) if below else w.op("Sub", x, one)
    return w.op("Div", b.grad, w.op("Sqrt", w.op("Mul", low, w.op("Add", x, one))))
