"""Drop biases that are all zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import all_nodes, array_of, input_of, is_op, replace

_PLACES = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "QLinearConv": 8}
_MAX_CHANNELS = 1 << 20


@dataclass(frozen=True)
class RemoveZeroBiases(Pass):
    """Drop biases that are all zero.

    ``Conv(x, w, 0) = Conv(x, w)``, and likewise ConvTranspose, Gemm from opset 11 on, and
    QLinearConv.
    """

    name: ClassVar[str] = "remove-zero-biases"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Drop in the graph, its subgraphs and the functions."""
        opset, count = model.opset_imports.get("", 1), 0
        for node in all_nodes(model, functions=True):
            if is_op(node, *_PLACES) and (opset >= 11 or node.op_type != "Gemm"):
                count += _drop(node)
        return PassResult(model, bool(count), {"dropped": count})


def _drop(node: ir.Node) -> bool:
    place = _PLACES[node.op_type]
    array = array_of(input_of(node, place), _MAX_CHANNELS)
    if array is None or array.any():
        return False
    attributes = list(node.attributes.values())
    replace(node, ir.Node("", node.op_type, node.inputs[:place], attributes))
    return True
