"""Activations in terms of plainer operators."""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import float_attribute
from onnxsmith.passes.fusion.plain import Plain, Values, typed
from onnxsmith.passes.match import input_of

_CUBIC = 0.044715


def gelu(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``0.5 x (1 + erf(x / sqrt(2)))``, or its approximation by tanh."""
    x = typed(node)
    attribute = node.attributes.get("approximate")
    if x is None or (attribute is not None and attribute.is_ref()):
        return None
    kind = "none" if attribute is None else attribute.as_string()
    if kind not in ("none", "tanh"):
        return None
    return [_erf(plain, x) if kind == "none" else _tanh(plain, x)]


def bias_gelu(plain: Plain, node: ir.Node) -> Values | None:
    """Write a Gelu of a sum."""
    x, bias = typed(node), input_of(node, 1)
    return None if x is None or bias is None else [_erf(plain, plain.make("Add", [x, bias]))]


def fast_gelu(plain: Plain, node: ir.Node) -> Values | None:
    """Write the approximation of a Gelu by tanh, of a sum where there is a bias."""
    x, bias = typed(node), input_of(node, 1)
    if x is None:
        return None
    return [_tanh(plain, x if bias is None else plain.make("Add", [x, bias]))]


def quick_gelu(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``x Sigmoid(1.702 x)``."""
    return _sigmoid(plain, node, 1.702)


def swish(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``x Sigmoid(x)``."""
    return _sigmoid(plain, node, 1.0)


def hard_swish(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``x HardSigmoid(x)`` with a slope of one sixth."""
    x = node.inputs[0]
    if x is None:
        return None
    gate = plain.make("HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5})
    return [plain.make("Mul", [x, gate])]


def _sigmoid(plain: Plain, node: ir.Node, default: float) -> Values | None:
    x, alpha = typed(node), float_attribute(node, "alpha", default)
    if x is None or alpha is None:
        return None
    inner = x if alpha == 1 else plain.make("Mul", [x, plain.number(alpha, x)])
    return [plain.make("Mul", [x, plain.make("Sigmoid", [inner])])]


def _erf(plain: Plain, x: ir.Value) -> ir.Value:
    error = plain.make("Erf", [plain.make("Div", [x, plain.number(math.sqrt(2), x)])])
    return _gated(plain, x, error)


def _tanh(plain: Plain, x: ir.Value) -> ir.Value:
    cube = plain.make("Mul", [plain.make("Mul", [x, x]), x])
    total = plain.make("Add", [x, plain.make("Mul", [cube, plain.number(_CUBIC, x)])])
    scaled = plain.make("Mul", [total, plain.number(math.sqrt(2 / math.pi), x)])
    return _gated(plain, x, plain.make("Tanh", [scaled]))


def _gated(plain: Plain, x: ir.Value, gate: ir.Value) -> ir.Value:
    """Return ``0.5 x (1 + gate)``."""
    total = plain.make("Add", [gate, plain.number(1, x)])
    return plain.make("Mul", [plain.make("Mul", [x, total]), plain.number(0.5, x)])
