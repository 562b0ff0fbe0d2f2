"""Remove arithmetic with constants that change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import bypass

# Operator to the element that changes nothing, and the inputs where it may stand.
_NEUTRAL: dict[str, tuple[float, tuple[int, ...]]] = {
    "Add": (0, (0, 1)),
    "Sub": (0, (1,)),
    "Mul": (1, (0, 1)),
    "Div": (1, (1,)),
    "Pow": (1, (1,)),
    "Or": (False, (0, 1)),
    "And": (True, (0, 1)),
}


@dataclass(frozen=True)
class RemoveNeutralElements(Pass):
    """Remove arithmetic with constants that change nothing.

    ``x + 0 = x - 0 = x``, ``1 x = x / 1 = x ** 1 = x``, ``x or false = x and true = x``, with
    constants of any shape. (``-0 + 0`` is ``+0``; the sign of a zero is not kept.)

    What is left alone: constants that broadcasting would take a dimension from, that is unless
    ``x`` is known to have the result's shape; constants above ``limit`` elements.
    """

    name: ClassVar[str] = "remove-neutral-elements"

    limit: int = 1 << 20

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove in the graph and its subgraphs; shapes should be inferred."""
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                count += self._remove(node)
        return PassResult(model, bool(count), {"removed": count})

    def _remove(self, node: ir.Node) -> bool:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _NEUTRAL:
            return False
        neutral, places = _NEUTRAL[node.op_type]
        for place in places:
            constant, value = node.inputs[place], node.inputs[1 - place]
            if constant is None or value is None or not _keeps_shape(constant, value):
                continue
            tensor = ir.convenience.get_const_tensor(constant)
            if tensor is None or tensor.size > self.limit or not tensor.size:
                continue
            if np.all(tensor.numpy() == neutral):
                return bypass(node, value)
        return False


def _keeps_shape(constant: ir.Value, value: ir.Value) -> bool:
    """Tell whether broadcasting a constant against a value gives the value's own shape."""
    if constant.shape is None or (value.shape is None and len(constant.shape)):
        return False
    if value.shape is None:
        return True  # one number keeps any shape
    given, wanted = constant.shape, value.shape
    if len(given) > len(wanted):
        return False
    tail = wanted[len(wanted) - len(given) :]
    return all(a in (1, b) for a, b in zip(given, tail, strict=True))
