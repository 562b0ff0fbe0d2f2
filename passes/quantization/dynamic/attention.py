"""Attention whose projections are part of the operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import contrib, take_over
from onnxsmith.passes.match import input_of, int_attribute, ints_attribute
from onnxsmith.passes.quantization.dynamic.products import product
from onnxsmith.passes.quantization.dynamic.writer import (
    LeaveFloat,
    Writer,
    activation_of,
    weight_of,
)

_CARRIED = ("num_heads", "unidirectional", "mask_filter_value", "scale")
_IGNORED = ("qkv_hidden_sizes", "past_present_share_buffer")


def attention(writer: Writer, node: ir.Node) -> None:
    """Split ``com.microsoft.Attention`` into one quantized product and MultiHeadAttention.

    The runtime's own QAttention takes no bias on the scores, and was no faster without one.

    Raises:
        LeaveFloat: It cannot be.
    """
    x, weight = activation_of(node), weight_of(input_of(node, 1))
    if any(value is not None for value in (input_of(node, 4), input_of(node, 6))):
        raise LeaveFloat("it keeps the keys of earlier runs")
    if any(v.name and (v.uses() or v.is_graph_output()) for v in node.outputs[1:]):
        raise LeaveFloat("it keeps the keys of earlier runs")
    others = set(node.attributes) - {*_CARRIED, *_IGNORED}
    if weight.array.ndim != 2 or any(int_attribute(node, name, 0) for name in others):
        raise LeaveFloat("it has settings that MultiHeadAttention has not")
    width = weight.array.shape[0 if weight.transposed else 1]
    sizes = ints_attribute(node, "qkv_hidden_sizes") or [width // 3] * 3
    graph = node.graph
    assert graph is not None  # rules see nodes of graphs
    projected = product(writer, node, x, weight)
    split_sizes = writer.constant(np.array(sizes, np.int64), "qkv_sizes")
    new = [projected]
    bias = input_of(node, 2)
    if bias is not None:
        new.append(ir.node("Add", [projected.outputs[0], bias]))
    new.append(ir.node("Split", [new[-1].outputs[0], split_sizes], {"axis": -1}, num_outputs=3))
    inputs = [*new[-1].outputs, None, input_of(node, 3), input_of(node, 5)]
    carried = {name: node.attributes[name].value for name in _CARRIED if name in node.attributes}
    fused = contrib("MultiHeadAttention", inputs, carried)
    graph.insert_before(node, [*new, fused])
    take_over(node.outputs[0], fused.outputs[0])
    graph.remove(node, safe=True)
