"""Gradients of Softmax and its logarithm (opset 13: along one axis).

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import BOOL


def softmax(b: Backward) -> Gradients:
    """``dx = s (g - sum(g s))``.

    A row of which all is masked is NaN. Where the graph replaces it by something else, nothing
    flows back to it: zero, which times NaN would be NaN again.
    """
    w, s, axis = b.write, b.y, b.axis(-1)
    if _replaced(s):
        broken = w.op("IsNaN", s, dtype=BOOL)
        s = w.op("Where", broken, w.number(0, s), s, dtype=s.dtype)
    product = w.op("Mul", b.grad, s)
    total = w.reduce("ReduceSum", product, [axis])
    return [w.op("Sub", product, w.op("Mul", s, total))]


def log_softmax(b: Backward) -> Gradients:
    """``dx = g - exp(y) sum(g)``."""
    w, axis = b.write, b.axis(-1)
    total = w.reduce("ReduceSum", b.grad, [axis])
    return [w.op("Sub", b.grad, w.op("Mul", w.op("Exp", b.y), total))]


def _replaced(value: ir.Value) -> bool:
    """Tell whether some of a value's elements may be replaced."""
    for node in value.consumers():
        if node.op_type in ("Where", "IsNaN"):
            return True
        if node.op_type in ("Cast", "Identity") and _replaced(node.outputs[0]):
            return True
    return False
