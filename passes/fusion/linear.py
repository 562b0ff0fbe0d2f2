"""Scale and shift the results of linear operators by their weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import (
    Array,
    add_tensor,
    array_of,
    input_of,
    int_attribute,
    is_op,
    replace,
    tensor_of,
)
from onnxsmith.storage.tensors import read_array

KINDS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that are linear in their first input."""

TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_SHARED_LIMIT = 1 << 20
_LAZY_LIMIT = 1 << 16


@dataclass(frozen=True)
class Linear:
    """A linear operator with constant weights.

    Attributes:
        node: Conv, ConvTranspose, Gemm, or MatMul with a matrix as its second input.
        weight: Its weights.
        channels: How many output channels it has.
        bias: What it adds to each output channel; None for nothing. Shape [channels], float64.
    """

    node: ir.Node
    weight: ir.TensorProtocol
    channels: int
    bias: Array | None

    def axes(self) -> tuple[list[int], int]:
        """Return the shape that lines per-channel numbers up with the weights, and the groups."""
        rank, groups = len(self.weight.shape), int_attribute(self.node, "group", 1) or 1
        if self.node.op_type == "Conv":
            return [-1] + [1] * (rank - 1), 1
        if self.node.op_type == "ConvTranspose":
            return [groups, 1, -1] + [1] * (rank - 2), groups
        if self.node.op_type == "Gemm" and int_attribute(self.node, "transB", 0):
            return [-1, 1], 1
        return [1, -1], 1


def read_linear(node: ir.Node | None) -> Linear | None:
    """Return a node as a linear operator with constant weights, or None."""
    if node is None or not is_op(node, *KINDS) or len(node.inputs) < 2:
        return None
    value = node.inputs[1]
    weight = tensor_of(value)
    if value is None or weight is None or weight.dtype not in TYPES or not weight.size:
        return None
    if len(value.uses()) > 1 and weight.nbytes > _SHARED_LIMIT:
        return None  # the other users would keep the old one beside the new
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return None
    channels = _channels(node, weight)
    if channels is None:
        return None
    known, bias = _bias(node, channels)
    return Linear(node, weight, channels, bias) if known else None


def _channels(node: ir.Node, weight: ir.TensorProtocol) -> int | None:
    shape = weight.shape.numpy()
    if node.op_type == "Conv":
        return int(shape[0]) if len(shape) > 2 else None
    if node.op_type == "ConvTranspose":
        return int(shape[1]) * (int_attribute(node, "group", 1) or 1) if len(shape) > 2 else None
    if len(shape) != 2:
        return None
    transposed = node.op_type == "Gemm" and int_attribute(node, "transB", 0)
    return int(shape[0] if transposed else shape[1])


def _bias(node: ir.Node, channels: int) -> tuple[bool, Array | None]:
    """Return whether the bias is one number a channel, and the bias; None where there is none."""
    value = input_of(node, 2)
    if node.op_type == "MatMul" or value is None:
        return True, None
    array = array_of(value, 1 << 20)
    if array is None or array.size not in (1, channels) or array.ndim > 2:
        return False, None
    if array.size == channels and array.ndim and array.shape[-1] != channels:
        return False, None
    beta = node.attributes.get("beta") if node.op_type == "Gemm" else None
    scale = 1.0 if beta is None else beta.as_float()
    return True, scale * np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))


def apply_affine(last: ir.Node, linear: Linear, factor: Array | None, shift: Array | None) -> bool:
    """Put the linear operator with ``factor W`` and ``factor b + shift`` in the place of ``last``.

    Args:
        last: The node whose result is ``factor y + shift`` of the operator's result ``y``.
        linear: The operator; nothing else may read its result.
        factor: Shape [channels], float64; None for ones.
        shift: Shape [channels], float64; None for zeros.

    Returns:
        False, and nothing changed, where the new numbers leave the range of the element type.
    """
    graph, node = last.graph, linear.node
    dtype = linear.weight.dtype.numpy()
    bias = linear.bias
    if bias is not None and factor is not None:
        bias = bias * factor
    if shift is not None:
        bias = shift if bias is None else bias + shift
    limit = float(_finfo(linear.weight.dtype))
    if graph is None or any(
        part is not None and not (np.abs(part) < limit).all() for part in (factor, bias)
    ):
        return False
    if factor is not None and linear.weight.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        largest = np.abs(linear.weight.numpy().astype(np.float32)).max() * np.abs(factor).max()
        if not largest < limit:
            return False
    inputs = [node.inputs[0], node.inputs[1]]
    name = node.outputs[0].name or node.op_type
    if factor is not None:
        inputs[1] = add_tensor(graph, _scaled(linear, factor), f"{name}/weight")
    if bias is not None:
        tensor = ir.Tensor(np.ascontiguousarray(bias.astype(dtype)), linear.weight.dtype)
        inputs.append(add_tensor(graph, tensor, f"{name}/bias"))
    kind = "Gemm" if node.op_type == "MatMul" and bias is not None else node.op_type
    attributes = [a for a in node.attributes.values() if not (kind == "Gemm" and a.name == "beta")]
    replace(last, ir.Node("", kind, inputs, attributes))
    return True


def _finfo(dtype: ir.DataType) -> float:
    if dtype == ir.DataType.BFLOAT16:
        return 3.3e38
    return float(np.finfo(dtype.numpy()).max)


def _scaled(linear: Linear, factor: Array) -> ir.TensorProtocol:
    """Return the scaled weights; large ones are computed when they are read."""
    weight, (axes, groups) = linear.weight, linear.axes()
    by = factor.reshape(axes)

    def compute() -> ir.Tensor[Array]:
        array = read_array(weight)
        shape = array.shape
        if groups > 1 or linear.node.op_type == "ConvTranspose":
            array = array.reshape(groups, shape[0] // groups, *shape[1:])
        if array.dtype.kind == "f":
            # Each product is computed in float64 and rounded once, in pieces.
            result = np.empty_like(array)
            np.multiply(array, by, out=result, casting="same_kind")
        else:
            result = (array.astype(np.float64) * by).astype(array.dtype)
        return ir.Tensor(result.reshape(shape), weight.dtype)

    if weight.nbytes < _LAZY_LIMIT:
        return compute()
    return ir.LazyTensor(compute, weight.dtype, shape=ir.Shape(weight.shape.numpy()))
