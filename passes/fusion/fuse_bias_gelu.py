"""Fuse the bias before a Gelu into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import DOMAIN, contrib, declare, is_float, rank
from onnxsmith.passes.match import all_nodes, is_op, made_by, remove_if_dead, replace, same_dim

_OPERATORS = {"none": "BiasGelu", "tanh": "FastGelu"}


@dataclass(frozen=True)
class FuseBiasGelu(Pass):
    """Fuse the bias before a Gelu into it.

    ``Gelu(x + b) = com.microsoft.BiasGelu(x, b)``; with ``approximate = tanh`` it is
    ``com.microsoft.FastGelu(x, b)``.

    What is left alone: biases that are not vectors as long as the last dimension, element types
    other than float32 and float16, and sums that anything else reads.

    Source: ONNX Runtime's contributed operators.
    """

    name: ClassVar[str] = "fuse-bias-gelu"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph, its subgraphs and functions."""
        count = sum(_fuse(node) for node in all_nodes(model) if _kind(node) is not None)
        if count:
            declare(model)
        return PassResult(model, bool(count), {"fused": count})


def _fuse(gelu: ir.Node) -> bool:
    kind = _kind(gelu)
    total = gelu.inputs[0]
    add = made_by(total, "Add")
    if kind is None or total is None or add is None or not is_float(total):
        return False
    if len(total.uses()) != 1 or total.is_graph_output():
        return False
    for x, bias in (add.inputs, reversed(add.inputs)):
        if _is_bias(x, bias):
            replace(gelu, contrib(kind, [x, bias], {}))
            remove_if_dead(add)
            return True
    return False


def _kind(gelu: ir.Node) -> str | None:
    """Return the operator that a Gelu of a sum is."""
    if gelu.domain == DOMAIN and len(gelu.inputs) == 1:
        return {"Gelu": "BiasGelu", "FastGelu": "FastGelu"}.get(gelu.op_type)
    attribute = gelu.attributes.get("approximate")
    if not is_op(gelu, "Gelu") or (attribute is not None and attribute.is_ref()):
        return None
    return _OPERATORS.get("none" if attribute is None else attribute.as_string())


def _is_bias(x: ir.Value | None, bias: ir.Value | None) -> bool:
    if x is None or bias is None or x.shape is None or bias.shape is None:
        return False
    return rank(bias) == 1 and len(x.shape) >= 1 and same_dim(x.shape[-1], bias.shape[0])
