"""Convolutions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import input_of, replace
from onnxsmith.passes.quantization.dynamic.writer import (
    LeaveFloat,
    Writer,
    activation_of,
    weight_of,
)


def conv(writer: Writer, node: ir.Node) -> None:
    """Quantize a Conv: ``Conv(x, w) + b = s_x s_w ConvInteger(Q(x), Q(w)) + b``.

    Raises:
        LeaveFloat: It cannot be.
    """
    x, weight = activation_of(node), weight_of(input_of(node, 1))
    bias = input_of(node, 2)
    if weight.array.ndim < 3 or weight.transposed:
        raise LeaveFloat("its weights are computed")
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        raise LeaveFloat("its attributes are parameters of a function")
    rank = weight.array.ndim
    rounded, scale = writer.round(weight.array, range(1, rank))
    quantized = writer.constant(rounded, f"{weight.name}_quantized")
    x_quantized, x_scale, x_zero = writer.activation(x, node)
    spread = [1, -1] + [1] * (rank - 2)
    scale = scale.reshape(spread) if scale.ndim else scale
    integer = ir.node("ConvInteger", [x_quantized, quantized, x_zero])
    integer.attributes.update(node.attributes)
    cast = ir.node("Cast", integer.outputs, {"to": int(ir.DataType.FLOAT)})
    scales = ir.node("Mul", [x_scale, writer.constant(scale, f"{weight.name}_scale")])
    graph = node.graph
    assert graph is not None  # rules see nodes of graphs
    graph.insert_before(node, [integer, cast, scales])
    last = ir.node("Mul", [cast.outputs[0], scales.outputs[0]])
    if bias is not None:
        graph.insert_before(node, last)
        target = writer.constant(np.array(spread, np.int64), "channels_shape")
        shaped = ir.node("Reshape", [bias, target])
        graph.insert_before(node, shaped)
        last = ir.node("Add", [last.outputs[0], shaped.outputs[0]])
    replace(node, last)
