"""Gradients of exponentials, logarithms and circular functions.

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import math

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
