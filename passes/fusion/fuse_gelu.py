"""Recognize Gelu in its primitives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import contrib, declare, is_float, version_of
from onnxsmith.passes.match import array_of, is_op, made_by, only_user, replace

_OPSET = 20
_CUBIC = 0.044715


@dataclass(frozen=True)
class FuseGelu(Pass):
    """Recognize Gelu in its primitives.

    ``0.5 x (1 + erf(x / sqrt(2))) = Gelu(x)``, and with ``approximate = tanh``
    ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``, in any order of the factors.

    What is left alone: models below opset 20, which has the operator, unless the runtime's own will
    do; constants that differ by more than a part in 10,000; inner values that anything else reads.

    Attributes:
        runtime: Whether below opset 20 ``com.microsoft.Gelu`` and ``com.microsoft.FastGelu`` will
            do, for float32 and float16.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
    """

    name: ClassVar[str] = "fuse-gelu"

    runtime: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph and its subgraphs."""
        standard = version_of(model) >= _OPSET
        if not standard and not self.runtime:
            return PassResult(model, False, {"refused": f"Gelu needs opset {_OPSET}"})
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                if standard or is_float(node.inputs[0] if node.inputs else None):
                    count += is_op(node, "Erf", "Tanh") and _fuse(node, standard)
        if count and not standard:
            declare(model)
        return PassResult(model, bool(count), {"fused": count})


def _fuse(node: ir.Node, standard: bool) -> bool:
    argument = node.inputs[0]
    if argument is None:
        return False
    source = _erf_source(argument) if node.op_type == "Erf" else _tanh_source(argument)
    result = None if source is None else _whole(node, source)
    if source is None or result is None:
        return False
    exact = node.op_type == "Erf"
    if standard:
        fused = ir.node("Gelu", [source], {} if exact else {"approximate": "tanh"})
    else:
        fused = contrib("Gelu" if exact else "FastGelu", [source], {})
    replace(result, fused)
    return True


def _erf_source(argument: ir.Value) -> ir.Value | None:
    """Return x where the argument is x / sqrt(2)."""
    return _scaled(argument, 1 / math.sqrt(2))


def _tanh_source(argument: ir.Value) -> ir.Value | None:
    """Return x where the argument is sqrt(2 / pi) (x + 0.044715 x^3)."""
    total = _scaled(argument, math.sqrt(2 / math.pi))
    node = None if total is None else made_by(total, "Add")
    if node is None:
        return None
    for x, other in (node.inputs, reversed(node.inputs)):
        cube = None if x is None or other is None else _scaled(other, _CUBIC)
        if cube is not None and x is not None and _is_cube(cube, x):
            return x
    return None


def _is_cube(value: ir.Value, x: ir.Value) -> bool:
    power = made_by(value, "Pow")
    if power is not None:
        return power.inputs[0] is x and _equals(power.inputs[1], 3)
    product = made_by(value, "Mul")
    if product is None or x not in product.inputs:
        return False
    (square,) = [v for v in product.inputs if v is not x] or [None]
    node = None if square is None else made_by(square, "Mul")
    if node is not None:
        return all(v is x for v in node.inputs)
    power = None if square is None else made_by(square, "Pow")
    return power is not None and power.inputs[0] is x and _equals(power.inputs[1], 2)


def _whole(node: ir.Node, x: ir.Value) -> ir.Node | None:
    """Follow 1 + t through its products with x and one half; return the last node."""
    current = only_user(node.outputs[0], "Add")
    if current is None or not any(_equals(value, 1) for value in current.inputs):
        return None
    missing = {"half", "x"}
    while missing:
        value = current.outputs[0]
        current = only_user(value, "Mul")
        if current is None:
            return None
        other = next((v for v in current.inputs if v is not value), None)
        if other is None:
            return None
        if other is x:
            found = {"x"}
        elif _equals(other, 0.5):
            found = {"half"}
        elif _scaled(other, 0.5) is x:
            found = {"half", "x"}
        else:
            return None
        if not found <= missing:
            return None
        missing -= found
    return current


def _scaled(value: ir.Value, factor: float) -> ir.Value | None:
    """Return y where the value is factor * y, by Mul or Div."""
    node = made_by(value, "Mul", "Div")
    if node is None:
        return None
    if node.op_type == "Mul":
        for y, constant in (node.inputs, reversed(node.inputs)):
            if _equals(constant, factor):
                return y
    if node.op_type == "Div" and _equals(node.inputs[1], 1 / factor):
        return node.inputs[0]
    return None


def _equals(value: ir.Value | None, number: float) -> bool:
    array = array_of(value, 1)
    if array is None or array.size != 1 or array.ndim > 1:
        return False
    return math.isclose(float(array.item()), number, rel_tol=1e-4)
