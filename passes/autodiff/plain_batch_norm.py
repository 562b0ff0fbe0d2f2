"""Write batch normalization in training as operators that every provider has."""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.differentiate import writer_for
from onnxsmith.passes.autodiff.rules.batch_norm import moments, normalized
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.passes.match import all_nodes, int_attribute, is_op


def plain_batch_norm(model: ir.Model) -> int:
    """Write batch normalization in training by means, and the operator's inference form.

    Mean and variance are the batch's, which the gradient uses as well: the runtime merges what both
    compute. The running statistics follow ``a running + (1 - a) batch``.

    The runtime's CUDA provider refuses the operator ("Training mode does not support BN opset 14").

    Args:
        model: It is edited; its ranks are known.

    Returns:
        How many nodes were written so.
    """
    w = writer_for(model)
    found = [
        node
        for node in all_nodes(model)
        if is_op(node, "BatchNormalization") and int_attribute(node, "training_mode", 0)
    ]
    for node in found:
        w.nodes.clear()
        _write(w, node)
    return len(found)


def _write(w: Writer, node: ir.Node) -> None:
    x, scale, bias, *running = (value for value in node.inputs if value is not None)
    statistics = moments(w, x)
    channels = (w.cast(scale, x.dtype), w.cast(bias, x.dtype), *statistics)
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    results = [normalized(w, x, channels, epsilon)]
    if len(node.outputs) > 1:
        kept = node.attributes.get_float("momentum", 0.9)
        for old, batch in zip(running, statistics, strict=True):
            now = w.op("Mul", w.cast(batch, old.dtype), w.number(1 - kept, old))
            results.append(w.op("Add", w.op("Mul", old, w.number(kept, old)), now))
    graph = node.graph
    assert graph is not None  # its nodes were just listed
    graph.insert_before(node, w.nodes)
    for old, new in zip(node.outputs, results, strict=False):
        new.name, new.type, new.shape = old.name or new.name, old.type, old.shape
        old.name = None
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
