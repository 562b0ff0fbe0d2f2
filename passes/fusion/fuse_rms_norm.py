"""Recognize root mean square normalization in its primitives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import FLOATS, loads, rank
from onnxsmith.passes.match import (
    add_constant,
    all_nodes,
    array_of,
    input_of,
    int_attribute,
    ints_attribute,
    ints_of,
    is_op,
    made_by,
    remove_if_dead,
    replace,
)

_OPSET = 23


@dataclass(frozen=True)
class FuseRmsNorm(Pass):
    """Recognize root mean square normalization in its primitives.

    ``x / sqrt(mean(x^2) + e) * g`` over the last dimension becomes ``RMSNormalization`` from opset
    23, before that the runtime's ``SimplifiedLayerNormalization``; a scale g that is missing is
    one. The quotient may be a Div or a Mul with a Reciprocal.

    What is left alone: means over other dimensions, last dimensions of unknown size, element types
    other than float32 and float16, and inner values that anything else reads.

    Attributes:
        standard: Whether only the standard operator will do: below opset 23, or where the target
            does not load it, nothing is fused.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
    """

    name: ClassVar[str] = "fuse-rms-norm"

    standard: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph, its subgraphs and functions."""
        standard = loads(model, context.target, _OPSET)
        if self.standard and not standard:
            return PassResult(model, False, {"refused": f"it needs opset {_OPSET}"})
        kind = "RMSNormalization" if standard else "SimplifiedLayerNormalization"
        count = sum(_fuse(node, kind) for node in all_nodes(model) if is_op(node, "Sqrt"))
        return PassResult(model, bool(count), {"fused": count})


def _fuse(root: ir.Node, kind: str) -> bool:
    found = _mean_square(root.inputs[0])
    quotient = None if found is None else _quotient(root.outputs[0], found[0])
    if found is None or quotient is None or quotient.graph is None:
        return False
    x, epsilon = found
    size = None if x.shape is None or not x.shape else x.shape[-1]
    if x.dtype not in FLOATS or not isinstance(size, int):
        return False
    last, scale = _scale(quotient.outputs[0], size, x.dtype)
    if scale is None:
        array = np.ones(size, x.dtype.numpy())
        scale = add_constant(quotient.graph, array, f"{quotient.outputs[0].name}_scale")
    node = ir.node(kind, [x, scale], {"axis": -1, "epsilon": epsilon, "stash_type": 1})
    replace(last or quotient, node)
    remove_if_dead(quotient)
    return True


def _mean_square(value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """Return x and e where a value is mean(x^2) + e over the last dimension."""
    add = made_by(value, "Add")
    if add is None or not _is_private(value):
        return None
    for mean, number in (add.inputs, reversed(add.inputs)):
        epsilon = array_of(number, 1)
        node = made_by(mean, "ReduceMean")
        if epsilon is None or epsilon.size != 1 or node is None or not _is_private(mean):
            continue
        square, axes = node.inputs[0], ints_attribute(node, "axes") or ints_of(input_of(node, 1))
        places = rank(square)
        if places is None or axes not in ([-1], [places - 1]) or not _is_private(square):
            return None
        x = _root_of(square) if int_attribute(node, "keepdims", 1) == 1 else None
        return None if x is None else (x, float(epsilon.item()))
    return None


def _root_of(square: ir.Value | None) -> ir.Value | None:
    """Return x where a value is its square."""
    node = made_by(square, "Pow", "Mul")
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type == "Mul":
        return node.inputs[0] if node.inputs[0] is node.inputs[1] else None
    power = array_of(node.inputs[1], 1)
    return node.inputs[0] if power is not None and power.size and power.item() == 2 else None


def _quotient(root: ir.Value, x: ir.Value) -> ir.Node | None:
    """Return the node that divides x by the root, if that is all that reads the root."""
    if not _is_private(root):
        return None
    (use,) = root.uses()
    node = use.node
    if is_op(node, "Div") and node.inputs[1] is root:
        if node.inputs[0] is x:
            return node
        one = array_of(node.inputs[0], 1)
        if one is None or one.size != 1 or one.item() != 1:
            return None
    elif not is_op(node, "Reciprocal"):
        return None
    inverse = node.outputs[0]
    if not _is_private(inverse):
        return None
    (use,) = inverse.uses()
    both = {id(v) for v in use.node.inputs}
    return use.node if is_op(use.node, "Mul") and both == {id(x), id(inverse)} else None


def _scale(
    value: ir.Value, size: int, dtype: ir.DataType
) -> tuple[ir.Node | None, ir.Value | None]:
    """Return the Mul by a constant vector that alone reads a value, and the vector."""
    if not _is_private(value):
        return None, None
    (use,) = value.uses()
    if not is_op(use.node, "Mul"):
        return None, None
    for scale in use.node.inputs:
        fits = scale is not None and scale.shape is not None and list(scale.shape) == [size]
        if scale is not None and fits and scale.dtype == dtype and scale.producer() is None:
            return use.node, scale
    return None, None


def _is_private(value: ir.Value | None) -> bool:
    return value is not None and len(value.uses()) == 1 and not value.is_graph_output()
