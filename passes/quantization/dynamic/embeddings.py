"""Tables that rows are taken from."""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.match import Array, input_of, int_attribute, replace
from onnxsmith.passes.quantization.dynamic.writer import LeaveFloat, Weight, Writer, weight_of

_LEAST_ELEMENTS = 1 << 14


def gather(writer: Writer, node: ir.Node) -> None:
    """Store a table of embeddings in int8: ``Gather(t, i) = s Gather(q, i)``.

    A column has a scale of its own: some dimensions of embeddings are far larger than others. But
    a table whose transpose a product multiplies with is stored once, with the scales of the
    product, one for each row: ``Gather(t, i) = Gather(s, i) Gather(q, i)``.

    Raises:
        LeaveFloat: It is no table, or a small one, or read in float as well.
    """
    weight = weight_of(input_of(node, 0))
    if weight.array.ndim != 2 or weight.transposed or int_attribute(node, "axis", 0) != 0:
        raise LeaveFloat("it does not take rows of a matrix")
    if weight.array.size < _LEAST_ELEMENTS:
        raise LeaveFloat("its table is small")
    tied = writer.tied_rows(weight)
    quantized, scale = writer.weight(weight, 0) if tied is None else tied
    taken = ir.node("Gather", [quantized, node.inputs[1]], {"axis": 0})
    _write(node, taken, "quantized", ir.DataType.INT8, node.outputs[0].shape)
    if tied is not None and scale.ndim:
        replace(node, _scaled_rows(writer, node, taken, weight, scale))
        return
    scale = scale.reshape(-1) if scale.ndim else scale
    inputs = [taken.outputs[0], writer.constant(scale, f"{weight.name}_scale")]
    attributes = {"axis": -1} if scale.ndim else {}
    replace(node, ir.node("DequantizeLinear", inputs, attributes))


def _scaled_rows(
    writer: Writer, node: ir.Node, taken: ir.Node, weight: Weight, scale: Array
) -> ir.Node:
    """Write all but the last of what scales each row that was taken; return the last.

    DequantizeLinear has one axis of scales, and indices may have several.
    """
    scales = writer.constant(scale.reshape(-1, 1), f"{weight.name}_row_scale")
    picked = ir.node("Gather", [scales, node.inputs[1]], {"axis": 0})
    shape = node.outputs[0].shape
    _write(node, picked, "scales", ir.DataType.FLOAT, shape and ir.Shape([*shape[:-1], 1]))
    cast = ir.node("Cast", taken.outputs, {"to": int(ir.DataType.FLOAT)})
    _write(node, cast, "cast", ir.DataType.FLOAT, shape)
    return ir.node("Mul", [cast.outputs[0], picked.outputs[0]])


def _write(
    node: ir.Node, new: ir.Node, word: str, kind: ir.DataType, shape: ir.Shape | None
) -> None:
    """Put a new node before a node, and call its result after the node's."""
    value = new.outputs[0]
    value.name, value.type, value.shape = (
        f"{node.outputs[0].name}_{word}",
        ir.TensorType(kind),
        shape,
    )
    graph = node.graph
    assert graph is not None  # rules see nodes of graphs
    graph.insert_before(node, new)
