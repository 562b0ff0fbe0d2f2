"""Tables that rows are taken from."""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.match import input_of, int_attribute, replace
from onnxsmith.passes.quantization.dynamic.writer import LeaveFloat, Writer, weight_of

_LEAST_ELEMENTS = 1 << 14


def gather(writer: Writer, node: ir.Node) -> None:
    """Store a table of embeddings in int8: ``Gather(t, i) = s Gather(q, i)``.

    A column has a scale of its own: some dimensions of embeddings are far larger than others.

    Raises:
        LeaveFloat: It is no table, or a small one, or read in float as well.
    """
    table = input_of(node, 0)
    weight = weight_of(table)
    assert table is not None  # it is constant
    if weight.array.ndim != 2 or weight.transposed or int_attribute(node, "axis", 0) != 0:
        raise LeaveFloat("it does not take rows of a matrix")
    if weight.array.size < _LEAST_ELEMENTS:
        raise LeaveFloat("its table is small")
    quantized, scale = writer.weight(weight, 0)
    scale = scale.reshape(-1) if scale.ndim else scale
    taken = ir.node("Gather", [quantized, node.inputs[1]], {"axis": 0})
    result = node.outputs[0]
    taken.outputs[0].name = f"{result.name}_quantized"
    taken.outputs[0].type = ir.TensorType(ir.DataType.INT8)
    taken.outputs[0].shape = result.shape
    graph = node.graph
    assert graph is not None  # rules see nodes of graphs
    graph.insert_before(node, taken)
    inputs = [taken.outputs[0], writer.constant(scale, f"{weight.name}_scale")]
    attributes = {"axis": -1} if scale.ndim else {}
    replace(node, ir.node("DequantizeLinear", inputs, attributes))
