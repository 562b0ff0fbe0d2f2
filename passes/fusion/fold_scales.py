"""Fold a scalar factor into the weights of the product that it scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.storage.tensors import read_array

_MOVERS = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Identity", "Flatten")
_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
# In half precision a scaled weight may leave the range that the scaled result stays in.
_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class FoldScales(Pass):
    """Fold a scalar factor into the weights of the product that it scales.

    ``s (x W + b) = x (s W) + s b``, also behind reshapes and transposes. Products are MatMul with a
    constant, Gemm, Conv and ConvTranspose, with a constant Add behind or none; factors are Mul and
    Div by a constant of one element.

    What is left alone: a product that anything else reads, and element types other than float32
    and float64.
    """

    name: ClassVar[str] = "fold-scales"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fold in the graph; the bodies of others hold no weights of their own."""
        count = 0
        for node in list(model.graph):
            count += _fold(model.graph, node)
        return PassResult(model, bool(count), {"folded": count})


def _fold(graph: ir.Graph, node: ir.Node) -> bool:
    scaled = _factor(node)
    if scaled is None:
        return False
    value, factor = scaled
    weights = _weights_behind(value)
    if weights is None:
        return False
    for user, index in weights:
        _scale(graph, user, index, factor)
    result, source = node.outputs[0], value
    if result.is_graph_output():
        source.name, result.name = result.name, None
    result.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True


def _factor(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Return what a Mul or Div scales, and by how much."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("Mul", "Div"):
        return None
    for index in (1, 0) if node.op_type == "Mul" else (1,):
        constant, value = node.inputs[index], node.inputs[1 - index]
        tensor = None if constant is None else ir.convenience.get_const_tensor(constant)
        if tensor is None or value is None or tensor.size != 1 or tensor.dtype not in _TYPES:
            continue
        rank = None if value.shape is None else len(value.shape)
        if len(tensor.shape) and (rank is None or len(tensor.shape) > rank):
            continue  # it would add dimensions
        number = float(tensor.numpy().item())
        factor = number if node.op_type == "Mul" else 1 / number if number else 0.0
        return (value, factor) if np.isfinite(factor) and factor != 0 else None
    return None


def _weights_behind(value: ir.Value) -> list[tuple[ir.Node, int]] | None:
    """Return what to scale so that ``value`` is scaled: nodes, and which of their inputs."""
    while True:
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx") or not _read_once(value):
            return None
        if node.op_type not in _MOVERS:
            break
        before = node.inputs[0]
        if before is None:
            return None
        value = before
    if node.op_type in _PRODUCTS:
        return _of_product(node)
    if node.op_type != "Add":
        return None
    for index in (0, 1):
        product, bias = node.inputs[index], node.inputs[1 - index]
        if product is None or not _is_weight(bias) or not _read_once(product):
            continue
        behind = product.producer()
        if (
            behind is None
            or behind.op_type not in _PRODUCTS
            or behind.domain not in ("", "ai.onnx")
        ):
            continue
        found = _of_product(behind)
        return None if found is None else [*found, (node, 1 - index)]
    return None


def _of_product(node: ir.Node) -> list[tuple[ir.Node, int]] | None:
    sides = (1, 0) if node.op_type == "MatMul" else (1,)
    side = next((index for index in sides if _is_weight(node.inputs[index])), None)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if side is None or (bias is not None and not _is_weight(bias)):
        return None
    return [(node, side), *([] if bias is None else [(node, 2)])]


def _is_weight(value: ir.Value | None) -> bool:
    return (
        value is not None
        and value.is_initializer()
        and not value.is_graph_input()
        and value.const_value is not None
        and value.const_value.dtype in _TYPES
    )


def _read_once(value: ir.Value) -> bool:
    return len(list(value.uses())) == 1 and not value.is_graph_output()


def _scale(graph: ir.Graph, node: ir.Node, index: int, factor: float) -> None:
    """Give the node a scaled weight of its own, computed when it is written."""
    weight = node.inputs[index]
    tensor = None if weight is None else weight.const_value
    assert weight is not None and tensor is not None  # _is_weight has looked at it  # noqa: PT018
    name, number = f"{weight.name}_scaled", 1
    while name in graph.initializers:
        name = f"{weight.name}_scaled_{number}"
        number += 1

    def compute() -> ir.TensorProtocol:
        array = read_array(tensor)
        return ir.Tensor(array * array.dtype.type(factor), dtype=tensor.dtype, name=name)

    shape = ir.Shape(tensor.shape.numpy())
    lazy = ir.LazyTensor(compute, dtype=tensor.dtype, shape=shape, name=name)
    value = ir.Value(
        name=name,
        shape=weight.shape,
        type=weight.type or ir.TensorType(tensor.dtype),
        const_value=lazy,
    )
    graph.register_initializer(value)
    node.replace_input_with(index, value)
