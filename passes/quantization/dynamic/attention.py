"""Attention whose projections are part of the operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import contrib, take_over
from onnxsmith.passes.match import input_of, int_attribute, ints_attribute
from onnxsmith.passes.quantization.dynamic.products import column_weight, product
from onnxsmith.passes.quantization.dynamic.writer import (
    LeaveFloat,
    Weight,
    Writer,
    activation_of,
    weight_of,
)

_CARRIED = ("num_heads", "unidirectional", "mask_filter_value", "scale")
_IGNORED = ("qkv_hidden_sizes", "past_present_share_buffer")


def attention(writer: Writer, node: ir.Node) -> None:
    """Quantize ``com.microsoft.Attention``: the runtime's QAttention, or what it lacks in parts.

    QAttention takes no bias on the scores, and heads of one size. Others become one quantized
    product and MultiHeadAttention, which took 1.00 to 1.06 times as long at the size of ViT-base.

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
    whole = input_of(node, 2) is not None and input_of(node, 5) is None and len(set(sizes)) == 1
    new = _whole(writer, node, x, weight) if whole else _parts(writer, node, x, weight, sizes)
    graph = node.graph
    assert graph is not None  # rules see nodes of graphs
    graph.insert_before(node, new)
    take_over(node.outputs[0], new[-1].outputs[0])
    graph.remove(node, safe=True)


def _whole(writer: Writer, node: ir.Node, x: ir.Value, weight: Weight) -> list[ir.Node]:
    quantized, scale = column_weight(writer, weight)
    x_quantized, x_scale, x_zero = writer.activation(x, node)
    inputs = [
        x_quantized,
        quantized,
        input_of(node, 2),
        x_scale,
        writer.constant(scale, f"{weight.name}_scale"),
        input_of(node, 3),
        x_zero,
        writer.constant(np.zeros(scale.shape, np.int8), f"{weight.name}_zero"),
    ]
    return [contrib("QAttention", inputs, _carried(node))]


def _parts(
    writer: Writer, node: ir.Node, x: ir.Value, weight: Weight, sizes: list[int]
) -> list[ir.Node]:
    new = [product(writer, node, x, weight)]
    bias = input_of(node, 2)
    if bias is not None:
        new.append(ir.node("Add", [new[0].outputs[0], bias]))
    split_sizes = writer.constant(np.array(sizes, np.int64), "qkv_sizes")
    new.append(ir.node("Split", [new[-1].outputs[0], split_sizes], {"axis": -1}, num_outputs=3))
    inputs = [*new[-1].outputs, None, input_of(node, 3), input_of(node, 5)]
    return [*new, contrib("MultiHeadAttention", inputs, _carried(node))]


def _carried(node: ir.Node) -> dict[str, object]:
    return {name: node.attributes[name].value for name in _CARRIED if name in node.attributes}
