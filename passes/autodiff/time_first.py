"""Let recurrent layers have their steps first."""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.differentiate import writer_for
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.passes.match import all_nodes, int_attribute, is_op

_SWAPPED, _STEPS_LAST = [1, 0, 2], [2, 0, 1, 3]
_SEQUENCE, _STATES = 0, (5, 6)


def time_first(model: ir.Model) -> int:
    """Write recurrent layers whose batch comes first (layout 1) with steps first.

    The runtime's CPU kernels refuse the other layout (1.31), and the gradient rules are written for
    this one.

    Args:
        model: It is edited.

    Returns:
        How many layers were written so.

    Source: LSTM, GRU and RNN of ONNX, whose ``layout`` says which dimensions are swapped.
    """
    found = [
        node
        for node in all_nodes(model)
        if is_op(node, "LSTM", "GRU", "RNN") and int_attribute(node, "layout", 0)
    ]
    for node in found:
        _turn(writer_for(model), node)
    return len(found)


def _turn(w: Writer, node: ir.Node) -> None:
    graph = node.graph
    assert graph is not None  # it was just found in one
    node.attributes.add(ir.AttrInt64("layout", 0))
    for index in (_SEQUENCE, *_STATES):
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is not None:
            turned = w.op("Transpose", value, attributes={"perm": _SWAPPED})
            node.replace_input_with(index, turned)
    graph.insert_before(node, w.nodes)
    w.nodes.clear()
    for index, output in enumerate(node.outputs):
        if not output.name:
            continue
        inner = w.name("steps")
        turned = w.op("Transpose", output, attributes={"perm": _SWAPPED if index else _STEPS_LAST})
        name, output.name = output.name, inner
        turned.name, turned.type, turned.shape = name, output.type, output.shape
        output.shape = None
        output.replace_all_uses_with(turned, replace_graph_outputs=True)
        reader = turned.producer()
        assert reader is not None  # it was just written
        reader.replace_input_with(0, output)
    graph.insert_after(node, w.nodes)
