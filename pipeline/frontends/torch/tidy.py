"""Take out what torch's exporters compute in the graph although it is known beforehand.

Both write a reshape's target by slices of a shape, also where it keeps dimensions as they are, and
begin recurrent layers with states of zeros that they build from the batch's size.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from onnxsmith.passes.cleanup.drop_zero_states import drop_zero_states
from onnxsmith.passes.cleanup.settle_reshapes import settle_reshape
from onnxsmith.passes.cleanup.shape_values import ShapeValues


def tidy(model: ir.Model, *, symbols: bool) -> None:
    """Make targets of reshapes constant and drop zero states, in place.

    A reshape whose target keeps dimensions of its input says so by 0; one element that is not
    known becomes -1. A recurrent layer without a state begins with zeros, by ONNX's definition.

    Args:
        model: The model; its shapes are inferred.
        symbols: Whether dimensions of one name are of one size: torch.export proves that, the
            older exporter only repeats what the user said.
    """
    values = ShapeValues(symbols)
    for graph in model.graphs():
        for node in list(graph):
            if node.domain:
                continue
            if node.op_type in ("LSTM", "GRU", "RNN"):
                drop_zero_states(node)
            elif node.op_type == "Reshape":
                settle_reshape(node, values)
    common.RemoveUnusedNodesPass()(model)
