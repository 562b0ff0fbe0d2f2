"""Gradients of Softmax and its logarithm (opset 13: along one axis).

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

from onnxsmith.passes.autodiff.backward import Backward, Gradients


def softmax(b: Backward) -> Gradients:
    """``dx = s (g - sum(g s))``."""
    w, s, axis = b.write, b.y, b.axis(-1)
    product = w.op("Mul", b.grad, s)
    total = w.reduce("ReduceSum", product, [axis])
    return [w.op("Sub", product, w.op("Mul", s, total))]


def log_softmax(b: Backward) -> Gradients:
    """``dx = g - exp(y) sum(g)``."""
    w, axis = b.write, b.axis(-1)
    total = w.reduce("ReduceSum", b.grad, [axis])
    return [w.op("Sub", b.grad, w.op("Mul", w.op("Exp", b.y), total))]
