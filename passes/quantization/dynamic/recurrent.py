"""Recurrent layers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import contrib
from onnxsmith.passes.match import Array, input_of, int_attribute
from onnxsmith.passes.quantization.dynamic.writer import (
    LeaveFloat,
    Writer,
    activation_of,
    weight_of,
)


def lstm(writer: Writer, node: ir.Node) -> None:
    """Quantize an LSTM: ``com.microsoft.DynamicQuantizeLSTM``, which takes turned weights.

    Raises:
        LeaveFloat: It cannot be.
    """
    activation_of(node)
    weights = [weight_of(input_of(node, index)) for index in (1, 2)]
    if int_attribute(node, "layout", 0) != 0:
        raise LeaveFloat("its batch comes first, which the runtime's kernel cannot do")
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        raise LeaveFloat("its attributes are parameters of a function")
    inputs = [input_of(node, index) for index in range(8)]
    for place, weight in zip((1, 2), weights, strict=True):
        rounded, scale = writer.round(weight.array, [2])
        turned = np.ascontiguousarray(rounded.transpose(0, 2, 1))
        inputs[place] = writer.constant(turned, f"{weight.name}_quantized")
        scale = _per_direction(scale, len(rounded))
        inputs.append(writer.constant(scale, f"{weight.name}_scale"))
        inputs.append(writer.constant(np.zeros(scale.shape, np.int8), f"{weight.name}_zero"))
    attributes = {a.name: a.value for a in node.attributes.values() if a.name != "layout"}
    fused = contrib("DynamicQuantizeLSTM", inputs, attributes)
    fused.resize_outputs(len(node.outputs))
    graph = node.graph
    assert graph is not None  # rules see nodes of graphs
    graph.insert_before(node, fused)
    for old, new in zip(node.outputs, fused.outputs, strict=True):
        new.name, new.type, new.shape = old.name, old.type, old.shape
        if old.name:
            old.name = None
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _per_direction(scale: Array, directions: int) -> Array:
    """Return scales of shape (directions) or (directions, 4 * hidden size)."""
    if scale.ndim:
        return scale.reshape(directions, -1)
    return np.full(directions, scale, np.float32)
