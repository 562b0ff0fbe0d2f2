"""Compute equal nodes with equal inputs once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import RANDOM, STANDARD

# The only domains whose operators are known to give the same result for the same inputs.
_PURE = (*STANDARD, "ai.onnx.ml")
_MAX_TENSOR = 1024


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
        key = _key(node)
        if key is None:
            continue
        kept = first.setdefault(key, node)
        if kept is not node and _replace(graph, node, kept):
            merged += 1
    return merged


def _key(node: ir.Node) -> Hashable | None:
    """Return what equal nodes agree in; None for a node that must not be merged."""
    if node.domain not in _PURE or node.op_type in RANDOM:
        return None
    attributes = []
    for name, attribute in node.attributes.items():
        value = _attribute(attribute)
        if value is None:
            return None
        attributes.append((name, value))
    domain = "" if node.domain in STANDARD else node.domain
    inputs = tuple(None if value is None else id(value) for value in node.inputs)
    # Some operators give other results where an optional output is asked for.
    asked = tuple(bool(value.name) for value in node.outputs)
    return domain, node.op_type, node.overload, inputs, asked, tuple(sorted(attributes))


def _attribute(attribute: ir.Attr) -> Hashable | None:
    """Return an attribute's value so that equal ones are equal; None where that costs too much."""
    kind = attribute.type
    if attribute.is_ref():
        return f"{kind.name} of {attribute.ref_attr_name}"
    if kind == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        if tensor.size > _MAX_TENSOR or tensor.dtype == ir.DataType.STRING:
            return None
        return f"{tensor.dtype.name} {tuple(tensor.shape.numpy())} {tensor.tobytes().hex()}"
    if kind.name in ("INT", "INTS", "FLOAT", "FLOATS", "STRING", "STRINGS"):
        return f"{kind.name} {attribute.value!r}"
    return None


def _replace(graph: ir.Graph | ir.Function, node: ir.Node, kept: ir.Node) -> bool:
    pairs = list(zip(node.outputs, kept.outputs, strict=True))
    if any(old.is_graph_output() and new.is_graph_output() for old, new in pairs):
        return False
    if any(list(graph.outputs).count(old) > 1 for old, _ in pairs if old.is_graph_output()):
        return False
    for old, new in pairs:
        if old.is_graph_output():
            new.name, old.name = old.name, None
            new.type, new.shape = old.type or new.type, old.shape or new.shape
        elif new.shape is None:
            new.shape = old.shape
        if new.type is None:
            new.type = old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True
