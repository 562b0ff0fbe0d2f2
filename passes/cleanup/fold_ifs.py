"""Replace an If whose condition is constant by the branch that is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.equality import same_results
from onnxsmith.passes.match import all_nodes, array_of, input_of, is_op
from onnxsmith.passes.splice import Splicer, can_hand_on, can_splice, hand_on


@dataclass(frozen=True)
class FoldIfs(Pass):
    """Replace an If whose condition is constant by the branch that is taken.

    ``If(true, a, b) = a``, and ``If(c, a, a) = a`` where both branches compute the same. What the
    branch computes gets names of its own where the graph around it has them already; an output that
    the branch only hands through is given on by an Identity.

    What is left alone: equal branches with random operators or operators of other domains, which
    need not give equal results; branches with initializers inside functions, which have no place
    for them.
    """

    name: ClassVar[str] = "fold-ifs"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fold in the graph, its subgraphs and the functions; a branch may hold another If."""
        total, opset = 0, model.opset_imports.get("", 1)
        while True:
            nodes = [node for node in all_nodes(model, functions=True) if is_op(node, "If")]
            count = _fold_all(model, nodes, opset) if nodes else 0
            total += count
            if not count:
                return PassResult(model, bool(total), {"folded": total})


def _fold_all(model: ir.Model, nodes: list[ir.Node], opset: int) -> int:
    splicer, inside = Splicer(model), set(all_nodes(model))
    return sum([_fold(node, splicer, opset, has_initializers=node in inside) for node in nodes])


def _fold(node: ir.Node, splicer: Splicer, opset: int, *, has_initializers: bool) -> bool:
    if node.graph is None:
        return False
    branch = _taken(node)
    if branch is None or not can_splice(branch, has_initializers=has_initializers):
        return False
    if not can_hand_on(node.outputs, opset) or len(branch.outputs) != len(node.outputs):
        return False
    hand_on(node, splicer.splice(branch, node))
    return True


def _taken(node: ir.Node) -> ir.Graph | None:
    """Return the branch that is taken, if that is known."""
    condition = array_of(input_of(node, 0))  # one in a branch that fell away reads nothing
    branches = [node.attributes.get(f"{name}_branch") for name in ("then", "else")]
    if any(b is None or b.is_ref() or b.type != ir.AttributeType.GRAPH for b in branches):
        return None
    first, second = (b.as_graph() for b in branches if b is not None)
    if condition is not None and condition.size == 1:
        return first if condition.item() else second
    return first if same_results(first, second) else None
