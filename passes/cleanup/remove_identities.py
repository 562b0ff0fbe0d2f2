"""Remove Identity nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import bypass


@dataclass(frozen=True)
class RemoveIdentities(Pass):
    """Remove Identity nodes: ``Identity(x) = x``.

    An Identity that makes a graph output stays where its input is a graph input, an initializer,
    itself an output, or comes from an outer graph: the output needs a producer and its own name.

    onnx_ir's pass of that name fails on the last case (an If branch that hands an outer value out).
    """

    name: ClassVar[str] = "remove-identities"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove Identity nodes in the graph, its subgraphs and the functions."""
        count = 0
        graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
        for graph in graphs:
            for node in list(ir.traversal.RecursiveGraphIterator(graph)):
                count += _remove(node)
        return PassResult(model, bool(count), {"removed": count})


def _remove(node: ir.Node) -> bool:
    if node.op_type != "Identity" or node.domain not in ("", "ai.onnx"):
        return False
    source = node.inputs[0]
    if source is None:
        return False
    return bypass(node, source)
