"""Matrix products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import float_attribute
from onnxsmith.passes.match import Array, input_of, int_attribute, replace, tensor_of
from onnxsmith.passes.quantization.dynamic.writer import (
    LeaveFloat,
    Weight,
    Writer,
    activation_of,
    weight_of,
)


def matmul(writer: Writer, node: ir.Node) -> None:
    """Quantize a MatMul with constant weights, which may be a stack of matrices.

    Raises:
        LeaveFloat: It cannot be.
    """
    if tensor_of(input_of(node, 0)) is not None:
        raise LeaveFloat("its first operand is constant, or both are")
    x, weight = activation_of(node), weight_of(input_of(node, 1))
    if weight.array.ndim < 2:
        raise LeaveFloat("its weights are a vector")
    replace(node, product(writer, node, x, weight))


def gemm(writer: Writer, node: ir.Node) -> None:
    """Quantize a Gemm; ``alpha`` goes into the scale.

    Raises:
        LeaveFloat: It cannot be.
    """
    x, weight = activation_of(node), weight_of(input_of(node, 1))
    alpha, beta = float_attribute(node, "alpha", 1.0), float_attribute(node, "beta", 1.0)
    turned, flipped = int_attribute(node, "transB", 0), int_attribute(node, "transA", 0)
    if alpha is None or beta is None or turned is None or flipped is None:
        raise LeaveFloat("its attributes are parameters of a function")
    if flipped:
        raise LeaveFloat("its first operand is transposed")
    weight = Weight(weight.array, weight.transposed != bool(turned), weight.source)
    bias = input_of(node, 2)
    last = product(writer, node, x, weight, alpha)
    if bias is None or beta == 0:
        replace(node, last)
        return
    graph = node.graph
    assert graph is not None  # rules see nodes of graphs
    graph.insert_before(node, last)
    if beta != 1:
        scaled = ir.node("Mul", [bias, writer.constant(np.array(beta, np.float32), "beta")])
        scaled.outputs[0].type = bias.type
        graph.insert_before(node, scaled)
        bias = scaled.outputs[0]
    replace(node, ir.node("Add", [last.outputs[0], bias]))


def product(
    writer: Writer, node: ir.Node, x: ir.Value, weight: Weight, alpha: float = 1.0
) -> ir.Node:
    """Write ``alpha x w`` before a node, all but the last node of it, which is returned.

    The form is the one that the runtime fuses: a product whose activation nobody else reads
    becomes DynamicQuantizeMatMul, others MatMulIntegerToFloat.
    """
    quantized, scale = column_weight(writer, weight, alpha)
    x_quantized, x_scale, x_zero = writer.activation(x, node)
    graph, name = node.graph, node.outputs[0].name or "product"
    assert graph is not None  # rules see nodes of graphs
    integer = ir.node("MatMulInteger", [x_quantized, quantized, x_zero])
    cast = ir.node("Cast", integer.outputs, {"to": int(ir.DataType.FLOAT)})
    scales = ir.node("Mul", [x_scale, writer.constant(scale, f"{weight.name}_scale")])
    graph.insert_before(node, [integer, cast, scales])
    shape = _shape(node, x, weight)
    for made, word, kind in (
        (integer, "integer", ir.DataType.INT32),
        (cast, "cast", ir.DataType.FLOAT),
        (scales, "scales", ir.DataType.FLOAT),
    ):
        made.outputs[0].name = f"{name}_{word}"
        made.outputs[0].type = ir.TensorType(kind)
        made.outputs[0].shape = shape if made is not scales else ir.Shape(scale.shape)
    last = ir.node("Mul", [cast.outputs[0], scales.outputs[0]])
    last.outputs[0].name = f"{name}_scaled"
    last.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    last.outputs[0].shape = shape
    return last


def _shape(node: ir.Node, x: ir.Value, weight: Weight) -> ir.Shape | None:
    """Return the shape of the product; the node itself may do more than that."""
    if weight.array.ndim > 2 or x.shape is None:
        return node.outputs[0].shape if node.op_type == "MatMul" else None
    return ir.Shape([*x.shape[:-1], weight.array.shape[0 if weight.transposed else 1]])


def column_weight(writer: Writer, weight: Weight, alpha: float = 1.0) -> tuple[ir.Value, Array]:
    """Return a matrix as int8 and the scales of its columns."""
    rank = weight.array.ndim
    over = rank - 1 if weight.transposed else rank - 2
    quantized, scale = writer.product_weight(weight, over)
    if rank == 2 and scale.ndim:
        scale = scale.reshape(-1)
    return quantized, (scale * np.float32(alpha)).astype(np.float32)
