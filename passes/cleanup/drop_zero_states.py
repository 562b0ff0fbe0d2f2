"""Leave out the first states of recurrent layers where they are zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult

# Which inputs of each layer are first states.
_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
# Their first input's elements are all that comes out, and no others.
_MOVERS = ("Slice", "Expand", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Gather", "Identity")


@dataclass(frozen=True)
class DropZeroStates(Pass):
    """Leave out the first states of recurrent layers where they are zeros.

    LSTM, GRU and RNN begin with zeros where no state is given, by ONNX's definition. Exporters make
    those zeros in the graph, from the batch's size.
    """

    name: ClassVar[str] = "drop-zero-states"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Drop them in the graph and its subgraphs; what made them is dead then."""
        count = 0
        for graph in model.graphs():
            for node in graph:
                if node.domain in ("", "ai.onnx") and node.op_type in _STATES:
                    count += drop_zero_states(node)
        return PassResult(model, bool(count), {"dropped": count})


def drop_zero_states(node: ir.Node) -> int:
    """Drop the zero states of a recurrent layer, in place; return how many there were."""
    count = 0
    for index in _STATES[node.op_type]:
        state = node.inputs[index] if index < len(node.inputs) else None
        if state is not None and _is_zero(state):
            node.replace_input_with(index, None)
            count += 1
    return count


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
