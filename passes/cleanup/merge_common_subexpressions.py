"""Compute equal nodes with equal inputs once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.equality import key_of


@dataclass(frozen=True)
class MergeCommonSubexpressions(Pass):
    """Compute equal nodes with equal inputs once.

    ``f(x), f(x) = y, y`` where operator, inputs and attributes agree, in the main graph, in each
    body and in each function.

    What is left alone: random operators; operators of custom domains, which may have a state;
    nodes with bodies; tensor attributes above 1024 elements; a node whose result is a graph output
    (an output keeps its own producer and name) if the first one's is as well.

    onnx_ir's pass of that name merges Bernoulli, Dropout in training and custom operators, loses
    optional outputs that only the second node names, and enters no body.
    """

    name: ClassVar[str] = "merge-common-subexpressions"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Merge within each graph; what a branch computes is not there in the others."""
        count = sum(_merge(graph) for graph in model.graphs())
        for function in model.functions.values():
            count += _merge(function)
        return PassResult(model, bool(count), {"merged": count})


def _merge(graph: ir.Graph | ir.Function) -> int:
    first: dict[Hashable, ir.Node] = {}
    merged = 0
    for node in list(graph):
        key = key_of(node)
        if key is None:
            continue
        kept = first.setdefault(key, node)
        if kept is not node and _replace(graph, node, kept):
            merged += 1
    return merged


def _replace(graph: ir.Graph | ir.Function, node: ir.Node, kept: ir.Node) -> bool:
    pairs = list(zip(node.outputs, kept.outputs, strict=True))
    if any(old.is_graph_output() and new.is_graph_output() for old, new in pairs):
        return False
    if any(list(graph.outputs).count(old) > 1 for old, _ in pairs if old.is_graph_output()):
        return False
    for old, new in pairs:
        if old.is_graph_output():
            new.name, old.name = old.name, None
            new.type = old.type or new.type
            new.shape = new.shape if old.shape is None else old.shape  # that of a scalar is empty
        elif new.shape is None:
            new.shape = old.shape
        if new.type is None:
            new.type = old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True
