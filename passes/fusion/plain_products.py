"""Products that are fused with what follows them, in terms of plainer operators.

Source: the schemas of FusedConv, FusedGemm and FusedMatMul in ONNX Runtime's contributed operators,
and how its optimizer writes their activations (fused_activation.cc).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import float_attribute, rank
from onnxsmith.passes.fusion.plain import Plain, Values, typed
from onnxsmith.passes.match import input_of, int_attribute

_PARAMETERS = {
    "": (), "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"), "Elu": ("alpha",), "Softplus": (),
    "Softsign": (), "ThresholdedRelu": ("alpha",), "Selu": ("alpha", "gamma"),
}  # fmt: skip
"""The activations, and the names of their parameters in the order they are given."""
_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def conv(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``activation(Conv(x, w, b) + z)``."""
    x, weight, bias, added = (input_of(node, index) for index in range(4))
    found = _activation(node)
    given = node.attributes.get("activation_params")
    if x is None or x.dtype is None or weight is None or found is None:
        return None
    if given is not None and given.is_ref():
        return None
    parameters = [] if given is None else list(given.as_floats())
    if len(parameters) != len(_PARAMETERS[found]):
        return None
    operands = [x, weight] if bias is None else [x, weight, bias]
    attributes = {name: node.attributes[name].value for name in _CONV if name in node.attributes}
    result = plain.make("Conv", operands, attributes)
    if added is not None:
        result = plain.make("Add", [result, added])
    return [_activated(plain, result, found, parameters)]


def gemm(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``activation(alpha a b + beta c)``."""
    a, b, c = typed(node), input_of(node, 1), input_of(node, 2)
    found = _activation(node)
    if a is None or b is None or not found or found == "Clip":
        return None
    given = [float_attribute(node, f"activation_{name}", 0.0) for name in _PARAMETERS[found]]
    parameters = [number for number in given if number is not None]
    if len(parameters) != len(given):
        return None
    names = ("alpha", "beta", "transA", "transB")
    attributes = {name: node.attributes[name].value for name in names if name in node.attributes}
    product = plain.make("Gemm", [a, b] if c is None else [a, b, c], attributes)
    return [_activated(plain, product, found, parameters)]


def matmul(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``alpha a b``, of operands whose last two dimensions may be turned around."""
    a, b = typed(node), input_of(node, 1)
    alpha = float_attribute(node, "alpha", 1.0)
    if a is None or b is None or alpha is None:
        return None
    operands = [_turned(plain, node, value, side) for value, side in ((a, "A"), (b, "B"))]
    if operands[0] is None or operands[1] is None:
        return None
    product = plain.make("MatMul", operands)
    return [product if alpha == 1 else plain.make("Mul", [product, plain.number(alpha, a)])]


def _turned(plain: Plain, node: ir.Node, value: ir.Value, side: str) -> ir.Value | None:
    """Return an operand as MatMul takes it; a vector stays as it is.

    With ``transBatch`` its first dimension goes behind those of the batch, with ``trans`` the last
    two change places then.
    """
    turned, moved = (int_attribute(node, f"{word}{side}", 0) for word in ("trans", "transBatch"))
    places = rank(value)
    if turned is None or moved is None:
        return None
    if side == "B" and moved and not turned:  # the runtime (1.31) refuses to compute it
        return None
    if not (turned or moved):
        return value
    if places is None or places < 1:
        return None
    order = list(range(places))
    if moved and places > 2:
        order = [*order[1:-1], 0, order[-1]]
    if turned and places > 1:
        order[-2:] = order[:-3:-1]
    return plain.make("Transpose", [value], {"perm": order}) if places > 1 else value


def _activation(node: ir.Node) -> str | None:
    """Return the activation's name, empty where there is none; None where it is not known."""
    attribute = node.attributes.get("activation")
    if attribute is None:
        return ""
    name = None if attribute.is_ref() else attribute.as_string()
    return name if name in _PARAMETERS else None


def _activated(plain: Plain, x: ir.Value, name: str, parameters: Sequence[float]) -> ir.Value:
    if not name:
        return x
    if name == "Clip":
        return plain.make("Clip", [x, *(plain.number(bound, x) for bound in parameters)])
    return plain.make(name, [x], dict(zip(_PARAMETERS[name], parameters, strict=True)))
