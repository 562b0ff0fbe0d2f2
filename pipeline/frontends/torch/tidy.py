"""Take out what torch's exporters compute in the graph although it is known beforehand.

Both write a reshape's target by slices of a shape, also where it keeps dimensions as they are, and
begin recurrent layers with states of zeros that they build from the batch's size.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from onnxsmith.passes.cleanup.settle_reshapes import settle_reshape

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
# Their first input's elements are all that comes out, and no others.
_MOVERS = ("Slice", "Expand", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Gather", "Identity")


def tidy(model: ir.Model, *, symbols: bool) -> None:
    """Make targets of reshapes constant and drop zero states, in place.

    A reshape whose target keeps dimensions of its input says so by 0; one element that is not
    known becomes -1. A recurrent layer without a state begins with zeros, by ONNX's definition.

    Args:
        model: The model; its shapes are inferred.
        symbols: Whether dimensions of one name are of one size: torch.export proves that, the
            older exporter only repeats what the user said.
    """
    for graph in model.graphs():
        for node in list(graph):
            if node.domain:
                continue
            if node.op_type in _STATES:
                _drop_zero_states(node)
            elif node.op_type == "Reshape":
                settle_reshape(node, symbols=symbols)
    common.RemoveUnusedNodesPass()(model)


def _drop_zero_states(node: ir.Node) -> None:
    for index in _STATES[node.op_type]:
        state = node.inputs[index] if index < len(node.inputs) else None
        if state is not None and _is_zero(state):
            node.replace_input_with(index, None)


def _is_zero(value: ir.Value) -> bool:
    """Tell whether a value is made of a constant's zeros, whatever its shape."""
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None:
        return not constant.numpy().any()
    node = value.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get("value")
        return fill is None or not fill.as_tensor().numpy().any()
    first = node.inputs[0] if node.inputs else None
    return node.op_type in _MOVERS and first is not None and _is_zero(first)
