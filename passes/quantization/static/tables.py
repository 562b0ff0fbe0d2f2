"""Store tables of embeddings in int8."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxsmith.passes.match import is_op, tensor_of
from onnxsmith.passes.quantization.dynamic.embeddings import gather
from onnxsmith.passes.quantization.dynamic.tied import ProductWeight
from onnxsmith.passes.quantization.dynamic.writer import LeaveFloat, Writer
from onnxsmith.passes.quantization.select import LeftFloat, Selection
from onnxsmith.passes.quantization.static.scales import Style


def store_tables(
    graph: ir.Graph,
    left: LeftFloat,
    selection: Selection,
    style: Style,
    matrices: Sequence[ProductWeight] = (),
) -> None:
    """Store the tables that rows are taken from in int8; those left in float are noted.

    Args:
        graph: The main graph; edited, with its bodies.
        left: Where what stays in float is noted.
        selection: What the user wants quantized.
        style: Whether each column has a scale of its own.
        matrices: What products have stored: a table that is tied to one is not stored again.
    """
    writer = Writer(graph, style.per_channel, products=list(matrices))
    for node in list(ir.traversal.RecursiveGraphIterator(graph)):
        if not is_op(node, "Gather") or not _reads_a_table(node):
            continue
        if reason := selection.refusal(node):
            left.add(node, reason)
            continue
        try:
            gather(writer, node)
        except LeaveFloat as error:
            left.add(node, str(error))


def _reads_a_table(node: ir.Node) -> bool:
    tensor = tensor_of(node.inputs[0])
    return tensor is not None and tensor.dtype == ir.DataType.FLOAT
