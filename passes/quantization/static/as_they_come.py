"""Layers without a kernel for known ranges, quantized as dynamic mode does."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import DOMAIN
from onnxsmith.passes.match import STANDARD
from onnxsmith.passes.quantization.dynamic import attention, recurrent, scans
from onnxsmith.passes.quantization.dynamic.writer import LeaveFloat, Writer
from onnxsmith.passes.quantization.select import LeftFloat, Selection
from onnxsmith.passes.quantization.static.scales import Style

_RULES: dict[tuple[str, str], Callable[[Writer, ir.Node], None]] = {
    ("", "GRU"): scans.gru,
    ("", "LSTM"): recurrent.lstm,
    ("", "RNN"): scans.rnn,
    (DOMAIN, "Attention"): attention.attention,
}


def quantize_as_they_come(
    graph: ir.Graph, left: LeftFloat, selection: Selection, style: Style
) -> int:
    """Quantize recurrent layers and attention with ranges that are found while the model runs.

    Args:
        graph: The main graph; edited, with its bodies.
        left: Where what stays in float is noted; what does not is struck off.
        selection: What the user wants quantized.
        style: How weights become integers.

    Returns:
        How many nodes.
    """
    writer = Writer(graph, style.per_channel, style.reduce_range)
    count = 0
    for node in list(ir.traversal.RecursiveGraphIterator(graph)):
        rule = _RULES.get(("" if node.domain in STANDARD else node.domain, node.op_type))
        if rule is None or selection.refusal(node):
            continue
        left.reasons.pop(node, None)
        try:
            rule(writer, node)
            count += 1
        except LeaveFloat as refusal:
            left.add(node, str(refusal))
    return count
