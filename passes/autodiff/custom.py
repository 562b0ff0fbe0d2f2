"""Let custom operators bring their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from onnxsmith.custom_ops.base import CustomOp, add_functions
from onnxsmith.custom_ops.table import OPERATORS
from onnxsmith.passes.autodiff.backward import (
    Backward,
    Gradients,
    NotDifferentiableError,
    Rule,
    Rules,
)
from onnxsmith.passes.match import STANDARD, all_nodes


def known_operators(model: ir.Model) -> list[CustomOp]:
    """Return the registered custom operators that a model uses."""
    used = {
        (node.domain, node.op_type)
        for node in all_nodes(model, functions=True)
        if node.domain not in STANDARD
    }
    if not used:
        return []
    operators = [OPERATORS[name]() for name in OPERATORS]
    return [operator for operator in operators if (operator.domain, operator.name) in used]


def rules_of(operators: Iterable[CustomOp]) -> Rules:
    """Return the rules of the operators that bring one; the others are their portable body."""
    return {
        (operator.domain, operator.name): rule_of(operator)
        for operator in operators
        if type(operator).gradient is not CustomOp.gradient
    }


def add_bodies(model: ir.Model) -> None:
    """Add the portable bodies of the registered operators that a model uses."""
    add_functions(model, known_operators(model))


def rule_of(operator: CustomOp) -> Rule:
    """Return the gradient rule that an operator brings."""

    def rule(b: Backward) -> Gradients:
        found = operator.gradient(b.node, b.grads)
        if len(found) != len(b.node.inputs):
            raise NotDifferentiableError(
                f"its rule gives {len(found)} gradients for {len(b.node.inputs)} inputs"
            )
        outside = {v for v in (*b.node.inputs, *b.node.outputs, *b.grads) if v is not None}
        for node in _new_nodes([v for v in found if v is not None], outside):
            for output in node.outputs:
                output.name = b.write.name(node.op_type)
            b.write.nodes.append(node)
        for value, gradient in zip(b.node.inputs, found, strict=True):
            if gradient is not None and value is not None and gradient not in outside:
                gradient.type, gradient.shape = value.type, value.shape
        return found

    return rule


def _new_nodes(values: Sequence[ir.Value], outside: set[ir.Value]) -> list[ir.Node]:
    """Return the nodes, in no graph yet, that make values, in the order they run."""
    order: list[ir.Node] = []
    done: set[ir.Node] = set()
    pending = [(value, False) for value in reversed(values)]
    while pending:
        value, ready = pending.pop()
        node = value.producer()
        if node is None or node.graph is not None or value in outside or node in done:
            continue
        if ready:
            done.add(node)
            order.append(node)
            continue
        pending.append((value, True))
        pending += [(read, False) for read in reversed(node.inputs) if read is not None]
    return order
