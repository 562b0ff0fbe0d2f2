"""Fuse the sum before a LayerNormalization into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import (
    contrib,
    declare,
    float_attribute,
    is_float,
    rank,
    take_over,
)
from onnxsmith.passes.match import (
    all_nodes,
    input_of,
    int_attribute,
    is_op,
    made_by,
    remove_if_dead,
    same_dim,
    same_shape,
)

_OPERATORS = {
    "LayerNormalization": "SkipLayerNormalization",
    "RMSNormalization": "SkipSimplifiedLayerNormalization",
    "SimplifiedLayerNormalization": "SkipSimplifiedLayerNormalization",
}


@dataclass(frozen=True)
class FuseSkipLayerNorm(Pass):
    """Fuse the sum before a LayerNormalization into it.

    ``LayerNormalization(x + y + b) = com.microsoft.SkipLayerNormalization(x, y, b)``, whose fourth
    output is the sum, for those that read it too; the bias b is a vector and may be missing. Root
    mean square normalization becomes ``SkipSimplifiedLayerNormalization``.

    What is left alone: normalization over more than the last dimension, ranks other than 3, sums
    that broadcast, element types other than float32 and float16, scales that are not vectors, and
    normalizations whose mean or deviation is read.

    Source: ONNX Runtime's contributed operators.
    """

    name: ClassVar[str] = "fuse-skip-layer-norm"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph, its subgraphs and functions."""
        count = sum(_fuse(node) for node in all_nodes(model) if is_op(node, *_OPERATORS))
        if count:
            declare(model)
        return PassResult(model, bool(count), {"fused": count})


def _fuse(norm: ir.Node) -> bool:
    total, gamma, beta = norm.inputs[0], input_of(norm, 1), input_of(norm, 2)
    epsilon = float_attribute(norm, "epsilon", 1e-5)
    add = made_by(total, "Add")
    if total is None or add is None or add.graph is not norm.graph or epsilon is None:
        return False
    if rank(total) != 3 or not is_float(total) or int_attribute(norm, "axis", -1) not in (-1, 2):
        return False
    if any(v.uses() or v.is_graph_output() for v in norm.outputs[1:]):
        return False
    if not _is_vector(gamma, total) or not (beta is None or _is_vector(beta, total)):
        return False
    simple = norm.op_type != "LayerNormalization"
    found = _addends(add)
    if found is None:
        return False
    x, skip, bias = found
    if _is_read_elsewhere(total) and any(v and v.producer() for v in norm.inputs[1:]):
        return False  # the sum's readers may stand before the scale
    inputs = [x, skip, gamma, bias] if simple else [x, skip, gamma, beta, bias]
    _put(norm, add, inputs, epsilon)
    return True


def _put(norm: ir.Node, add: ir.Node, inputs: list[ir.Value | None], epsilon: float) -> None:
    total, graph = add.outputs[0], norm.graph
    assert graph is not None  # matchers only see nodes of graphs
    needed = _is_read_elsewhere(total)
    kind = _OPERATORS[norm.op_type]
    fused = contrib(kind, inputs, {"epsilon": epsilon})
    fused.resize_outputs(4 if needed else 1)
    graph.insert_before(add if needed else norm, fused)
    if needed:
        for output in fused.outputs[1:3]:
            output.name = ""
        take_over(total, fused.outputs[3])
    take_over(norm.outputs[0], fused.outputs[0])
    for node in (norm, add):
        remove_if_dead(node)
    for value in inputs:
        if value is not None and (producer := value.producer()) is not None:
            remove_if_dead(producer)


def _is_read_elsewhere(total: ir.Value) -> bool:
    return total.is_graph_output() or len(total.uses()) > 1


def _addends(add: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value | None] | None:
    """Return two addends of the sum's shape, and a bias that one of them carried."""
    x, skip = add.inputs
    if x is None or skip is None or not same_shape(x, skip) or not same_shape(x, add.outputs[0]):
        return None
    for first, second in ((x, skip), (skip, x)):
        inner = made_by(first, "Add")
        if inner is None or inner.graph is not add.graph:
            continue
        if len(first.uses()) != 1 or first.is_graph_output():
            continue
        for part, bias in (inner.inputs, reversed(inner.inputs)):
            if part is not None and _is_vector(bias, first) and same_shape(part, first):
                return part, second, bias
    return x, skip, None


def _is_vector(value: ir.Value | None, total: ir.Value) -> bool:
    """Tell whether a value is a vector as long as the last dimension, of the same type."""
    if value is None or value.shape is None or total.shape is None or value.dtype != total.dtype:
        return False
    return len(value.shape) == 1 and same_dim(value.shape[0], total.shape[-1])
