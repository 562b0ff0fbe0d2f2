"""Fold a scale and shift of each channel into the weights of the linear operator before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.linear import Linear, apply_affine, read_linear
from onnxsmith.passes.match import Array, array_of, is_op, only_user

_KINDS = ("Conv", "ConvTranspose", "Gemm")
_AFFINE = ("Add", "Sub", "Mul", "Div")
# In half precision a scaled weight may leave the range that the scaled result stays in.
_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class FuseConvAffine(Pass):
    """Fold a scale and shift of each channel into the weights of the operator before it.

    ``a (W x + b) + c = (a W) x + (a b + c)`` for Conv, ConvTranspose and Gemm, with Add, Sub, Mul
    and Div by constants of one element, or of one for each channel.

    What is left alone: results that anything else reads, constants of another shape, ``c - y`` and
    ``c / y``, and element types other than float32 and float64.
    """

    name: ClassVar[str] = "fuse-conv-affine"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fold in the graph and its subgraphs."""
        opset, count = model.opset_imports.get("", 1), 0
        for graph in model.graphs() if opset >= 7 else ():
            for node in list(graph):
                if is_op(node, *_AFFINE):
                    count += _fold(node)
        return PassResult(model, bool(count), {"folded": count})


def _fold(node: ir.Node) -> bool:
    for place in (0, 1) if node.op_type in ("Add", "Mul") else (0,):
        value, constant = node.inputs[place], node.inputs[1 - place]
        linear = None if value is None else read_linear(value.producer())
        if value is None or linear is None or not is_op(linear.node, *_KINDS):
            continue
        numbers = _per_channel(constant, linear)
        if numbers is None or only_user(value, node.op_type) is not node:
            continue
        if linear.node.graph is not node.graph or linear.weight.dtype not in _TYPES:
            continue
        if node.op_type in ("Mul", "Div"):
            with np.errstate(all="ignore"):  # what is not finite is refused
                factor = numbers if node.op_type == "Mul" else 1 / numbers
            return apply_affine(node, linear, factor, None)
        return apply_affine(node, linear, None, numbers if node.op_type == "Add" else -numbers)
    return False


def _per_channel(constant: ir.Value | None, linear: Linear) -> Array | None:
    """Return a constant as one number a channel, float64; None where it is something else."""
    array = array_of(constant, 1 << 20)
    if array is None or array.dtype != linear.weight.dtype.numpy():
        return None
    rank = 2 if linear.node.op_type == "Gemm" else len(linear.weight.shape)
    axis = rank - 1 if linear.node.op_type == "Gemm" else 1
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(size != 1 for place, size in enumerate(shape) if place != axis):
        return None
    if shape[axis] not in (1, linear.channels):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (linear.channels,)).copy()
