"""Recognize Gelu in its primitives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult

_OPSET = 20
_CUBIC = 0.044715


@dataclass(frozen=True)
class FuseGelu(Pass):
    """Recognize Gelu in its primitives.

    ``0.5 x (1 + erf(x / sqrt(2))) = Gelu(x)``, and with ``approximate = tanh``
    ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``, in any order of the factors.

    What is left alone: models below opset 20, which has the operator; constants that differ by more
    than a part in 10,000; inner values that anything else reads.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
    """

    name: ClassVar[str] = "fuse-gelu"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph and its subgraphs."""
        if (model.opset_imports.get("") or 0) < _OPSET:
            return PassResult(model, False, {"refused": f"Gelu needs opset {_OPSET}"})
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                count += _fuse(graph, node)
        return PassResult(model, bool(count), {"fused": count})


def _fuse(graph: ir.Graph, node: ir.Node) -> bool:
    if node.op_type not in ("Erf", "Tanh") or node.domain not in ("", "ai.onnx"):
        return False
    argument = node.inputs[0]
    if argument is None:
        return False
    source = _erf_source(argument) if node.op_type == "Erf" else _tanh_source(argument)
    result = None if source is None else _whole(node, source)
    if source is None or result is None:
        return False
    old = result.outputs[0]
    attributes = {} if node.op_type == "Erf" else {"approximate": "tanh"}
    gelu = ir.node("Gelu", [source], attributes)
    new = gelu.outputs[0]
    new.name, new.type, new.shape = old.name, old.type, old.shape
    old.name = None
    graph.insert_before(result, gelu)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    return True  # what made the old value is dead now; remove-unused-nodes sweeps it


def _erf_source(argument: ir.Value) -> ir.Value | None:
    """Return x where the argument is x / sqrt(2)."""
    return _scaled(argument, 1 / math.sqrt(2))


def _tanh_source(argument: ir.Value) -> ir.Value | None:
    """Return x where the argument is sqrt(2 / pi) (x + 0.044715 x^3)."""
    total = _scaled(argument, math.sqrt(2 / math.pi))
    node = None if total is None else _made_by(total, "Add")
    if node is None:
        return None
    for x, other in (node.inputs, reversed(node.inputs)):
        cube = None if x is None or other is None else _scaled(other, _CUBIC)
        if cube is not None and x is not None and _is_cube(cube, x):
            return x
    return None


def _is_cube(value: ir.Value, x: ir.Value) -> bool:
    power = _made_by(value, "Pow")
    if power is not None:
        return power.inputs[0] is x and _equals(power.inputs[1], 3)
    product = _made_by(value, "Mul")
    if product is None or x not in product.inputs:
        return False
    (square,) = [v for v in product.inputs if v is not x] or [None]
    node = None if square is None else _made_by(square, "Mul")
    if node is not None:
        return all(v is x for v in node.inputs)
    power = None if square is None else _made_by(square, "Pow")
    return power is not None and power.inputs[0] is x and _equals(power.inputs[1], 2)


def _whole(node: ir.Node, x: ir.Value) -> ir.Node | None:
    """Follow 1 + t through its products with x and one half; return the last node."""
    current = _only_user(node.outputs[0], "Add")
    if current is None or not any(_equals(value, 1) for value in current.inputs):
        return None
    missing = {"half", "x"}
    while missing:
        value = current.outputs[0]
        current = _only_user(value, "Mul")
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
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Mul":
        for y, constant in (node.inputs, reversed(node.inputs)):
            if _equals(constant, factor):
                return y
    if node.op_type == "Div" and _equals(node.inputs[1], 1 / factor):
        return node.inputs[0]
    return None


def _made_by(value: ir.Value, kind: str) -> ir.Node | None:
    node = value.producer()
    if node is None or node.op_type != kind or node.domain not in ("", "ai.onnx"):
        return None
    return node


def _only_user(value: ir.Value, kind: str) -> ir.Node | None:
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    return node if node.op_type == kind and node.domain in ("", "ai.onnx") else None


def _equals(value: ir.Value | None, number: float) -> bool:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.size != 1 or len(tensor.shape) > 1:
        return False
    return math.isclose(float(tensor.numpy().item()), number, rel_tol=1e-4)
