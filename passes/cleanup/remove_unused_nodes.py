"""Remove nodes and initializers that no output depends on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass
from onnxsmith.passes.base import PassContext, PassResult


@dataclass(frozen=True)
class RemoveUnusedNodes(IrPass):
    """Remove nodes and initializers that no output depends on, and optional outputs nobody reads.

    onnx_ir's pass asks each value for its uses, and a removed If leaves those of its branches
    behind. So what lives is marked from the outputs first; theirs then trims the optional outputs.

    Source: mark and sweep; ``onnx_ir.passes.common.RemoveUnusedNodesPass``.
    """

    name: ClassVar[str] = "remove-unused-nodes"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.RemoveUnusedNodesPass()

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Sweep what no output reaches, and trim what is left."""
        roots: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
        swept = sum(sweep(root) for root in roots)
        trimmed = super().apply(model, context)
        return PassResult(model, bool(swept) or trimmed.modified, {"removed": swept})


def sweep(root: ir.Graph | ir.Function) -> int:
    """Remove the nodes and initializers that no output of ``root`` reaches; return how many.

    A node inside a branch or body lives with what it feeds there. Uses by nodes that are no longer
    in the graph count for nothing and are dropped.
    """
    values = _reached(root)
    removed = 0
    graphs: list[ir.Graph | ir.Function] = [root]
    while graphs:
        graph = graphs.pop()
        dead = [node for node in graph if not any(out in values for out in node.outputs)]
        for node in dead:
            _detach(node)
        graph.remove(dead)
        removed += len(dead)
        if isinstance(graph, ir.Graph):
            removed += _sweep_initializers(graph, values)
        graphs.extend(inner for node in graph for inner in subgraphs(node))
    for value in values:
        for use in tuple(value.uses()):
            if use.node.graph is None:
                use.node.replace_input_with(use.idx, None)
    return removed


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs among a node's attributes."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _reached(root: ir.Graph | ir.Function) -> set[ir.Value]:
    """Return the values that the outputs depend on, with all outputs of the nodes behind them."""
    found: set[ir.Value] = set()
    pending = list(root.outputs)
    while pending:
        value = pending.pop()
        if value in found:
            continue
        found.add(value)
        node = value.producer()
        if node is None:
            continue
        found.update(node.outputs)
        pending.extend(v for v in node.inputs if v is not None)
        pending.extend(v for inner in subgraphs(node) for v in inner.outputs)
    return found


def _sweep_initializers(graph: ir.Graph, values: set[ir.Value]) -> int:
    unused = [
        name
        for name, value in graph.initializers.items()
        if value not in values and not value.is_graph_input()
    ]
    for name in unused:
        del graph.initializers[name]
    return len(unused)


def _detach(node: ir.Node) -> None:
    """Let a dead node, and the nodes inside it, read nothing."""
    for inner in (
        node,
        *(n for g in subgraphs(node) for n in ir.traversal.RecursiveGraphIterator(g)),
    ):
        for index in range(len(inner.inputs)):
            inner.replace_input_with(index, None)
