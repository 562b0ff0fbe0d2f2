"""Recognize Swish and the quick Gelu in their primitives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import contrib, declare, is_float
from onnxsmith.passes.match import all_nodes, array_of, is_op, made_by, only_user, replace


@dataclass(frozen=True)
class FuseSwish(Pass):
    """Recognize Swish and the quick Gelu in their primitives.

    ``x Sigmoid(a x) = com.microsoft.QuickGelu(x)`` with ``alpha = a``: 1 is Swish, which is also
    called SiLU, and 1.702 the quick Gelu.

    What is left alone: element types other than float32 and float16, and sigmoids that anything
    else reads.

    Source: Ramachandran et al., "Searching for Activation Functions", 2017; Hendrycks and Gimpel,
    "Gaussian Error Linear Units", 2016.
    """

    name: ClassVar[str] = "fuse-swish"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph, its subgraphs and functions."""
        count = sum(_fuse(node) for node in all_nodes(model) if is_op(node, "Sigmoid"))
        if count:
            declare(model)
        return PassResult(model, bool(count), {"fused": count})


def _fuse(sigmoid: ir.Node) -> bool:
    product = only_user(sigmoid.outputs[0], "Mul")
    if product is None or not is_float(sigmoid.inputs[0]):
        return False
    x = next((v for v in product.inputs if v is not sigmoid.outputs[0]), None)
    alpha = None if x is None else _factor(sigmoid.inputs[0], x)
    if x is None or alpha is None:
        return False
    replace(product, contrib("QuickGelu", [x], {"alpha": alpha}))
    return True


def _factor(value: ir.Value | None, x: ir.Value) -> float | None:
    """Return a where a value is a * x."""
    if value is x:
        return 1.0
    node = made_by(value, "Mul")
    if node is None or x not in node.inputs:
        return None
    other = next((v for v in node.inputs if v is not x), None)
    array = array_of(other, 1)
    if array is None or array.size != 1 or array.ndim > 1:
        return None
    number = float(array.item())
    return number if np.isfinite(number) else None
