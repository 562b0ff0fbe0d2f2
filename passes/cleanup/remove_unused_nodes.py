"""Remove nodes and initializers that no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass
from onnxsmith.passes.base import PassContext, PassResult


@dataclass(frozen=True)
class RemoveUnusedNodes(IrPass):
    """Remove nodes and initializers that no output depends on.

    onnx_ir's pass leaves what only the branch of a removed If reads: the branch is cut off first.

    Source: ``onnx_ir.passes.common.RemoveUnusedNodesPass``.
    """

    name: ClassVar[str] = "remove-unused-nodes"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.RemoveUnusedNodesPass()

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Cut off the subgraphs of dead nodes, and remove what is dead then."""
        for graph in (model.graph, *model.graph.subgraphs()):
            for node in reversed(graph):
                if not any(out.uses() or out.is_graph_output() for out in node.outputs):
                    _cut_off(node)
        return super().apply(model, context)


def _cut_off(node: ir.Node) -> None:
    """Let the nodes inside a node's subgraphs read nothing."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                for index in range(len(inner.inputs)):
                    inner.replace_input_with(index, None)
