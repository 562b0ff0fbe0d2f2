"""Replace an If whose condition is constant by the branch that is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import all_nodes, array_of, input_of, is_op


@dataclass(frozen=True)
class FoldIfs(Pass):
    """Replace an If whose condition is constant by the branch that is taken.

    ``If(true, a, b) = a``. What the branch computes gets names of its own where the graph around it
    has them already; an output that the branch only hands through is given on by an Identity.
    """

    name: ClassVar[str] = "fold-ifs"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fold in the graph, its subgraphs and the functions; a branch may hold another If."""
        total = 0
        while True:
            nodes = [node for node in all_nodes(model, functions=True) if is_op(node, "If")]
            inside = set(all_nodes(model))
            count = sum([_fold(node, has_initializers=node in inside) for node in nodes])
            total += count
            if not count:
                return PassResult(model, bool(total), {"folded": total})


def _fold(node: ir.Node, *, has_initializers: bool) -> bool:
    graph = node.graph
    condition = array_of(input_of(node, 0))  # one in a branch that fell away reads nothing
    if graph is None or condition is None or condition.size != 1:
        return False
    attribute = node.attributes.get("then_branch" if condition.item() else "else_branch")
    if attribute is None or attribute.is_ref():
        return False
    branch = attribute.as_graph()
    if branch.initializers and not has_initializers:
        return False  # a function has no place for them
    results = list(branch.outputs)
    branch.outputs.clear()
    taken = _names(graph)
    for value in list(branch.initializers.values()):
        del branch.initializers[value.name or ""]
        value.name = _free(value.name or "value", taken)
        graph.register_initializer(value)
    inner = list(branch)
    branch.remove(inner)
    for each in inner:
        for value in each.outputs:
            if value.name is not None:
                value.name = _free(value.name, taken)
    identities = [ir.node("Identity", [value]) for value in results]
    graph.insert_before(node, [*inner, *identities])
    for old, identity in zip(node.outputs, identities, strict=True):
        new = identity.outputs[0]
        new.name, new.type, new.shape = old.name, old.type, old.shape
        old.name = None
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True


def _names(graph: ir.Graph) -> set[str]:
    """Return the names of a graph's values, those inside its subgraphs included."""
    found = {value.name for value in graph.inputs}
    for node in ir.traversal.RecursiveGraphIterator(graph):
        found.update(value.name for value in node.outputs)
    found.update(graph.initializers)
    return {name for name in found if name is not None}


def _free(name: str, taken: set[str]) -> str:
    free, count = name, 1
    while free in taken:
        free = f"{name}_{count}"
        count += 1
    taken.add(free)
    return free
